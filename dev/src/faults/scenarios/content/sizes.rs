use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};

use super::canonical::{Canonical, own};
use crate::clock;
use crate::expected::{Becomes, Own};
use crate::faults::{DRAIN, Scene};
use crate::tables;

/// What `ANALYTICS_RECORD_MAX_BYTES` is if nobody says anything.
const OUR_LIMIT: usize = 1 << 20;
/// What the topics take: `max.message.bytes`, that is a batch of one record.
const KAFKA_LIMIT: usize = 4 << 20;
/// Of a batch with one record without key or headers: 61 bytes for the batch, 13 for the record's own fields.
const KAFKA_OVERHEAD: usize = 61 + 13;
/// Of one answer of the broker for one partition, far below the others.
const FETCH: usize = 64 << 10;

pub(super) async fn large(scene: &mut Scene) -> Result<()> {
    let mut settings = scene.settings();
    settings.insert("ANALYTICS_KAFKA_PROPERTY_FETCH_MESSAGE_MAX_BYTES".to_owned(), FETCH.to_string());
    let mut worker = scene.start(settings)?;
    let mut number = 0;
    for _ in 0..scene.rounds {
        let now = DateTime::from_timestamp_micros(clock::now().timestamp_micros()).unwrap_or_default();
        for length in
            [FETCH + 1, 5 * FETCH, OUR_LIMIT, OUR_LIMIT + 1, 3 * OUR_LIMIT, KAFKA_LIMIT - KAFKA_OVERHEAD]
        {
            number += 2;
            let large = sized(&mut scene.random, now, number, length)?;
            // Alone, as Kafka's limit is one of batches.
            scene.send_own(&[large]).await?;
            scene.send_own(&[Canonical::new(None, now, number + 1).first(0)]).await?;
        }
        over_the_limit_of_kafka(scene, now).await?;
        scene.produce(300).await?;
        scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    }
    let letters = tables::dead_letters(&scene.bench.database.pool).await?;
    let too_large = letters.iter().filter(|letter| letter.class == "too_large").count();
    ensure!(too_large == 3 * scene.rounds as usize, "{too_large} records were too large");
    worker.ready().await?;
    worker.terminate(DRAIN).await
}

/// A canonical event of exactly this length that no codec makes smaller.
fn sized(random: &mut fastrand::Rng, at: DateTime<Utc>, number: u64, length: usize) -> Result<Own> {
    let mut event = Canonical::new(None, at, number);
    let room =
        length.checked_sub(event.value().len()).context("it is longer than that without any filling")?;
    event.filling = std::iter::repeat_with(|| random.alphanumeric()).take(room).collect();
    let value = event.value().into_bytes();
    ensure!(value.len() == length, "{} bytes, not {length}", value.len());
    let becomes = if length > OUR_LIMIT { Becomes::DeadLetter } else { Becomes::Event(event.expected()) };
    Ok(own(0, value, becomes))
}

/// The largest record was the largest: one byte more is refused.
async fn over_the_limit_of_kafka(scene: &mut Scene, at: DateTime<Utc>) -> Result<()> {
    let beyond = sized(&mut scene.random, at, 1, KAFKA_LIMIT - KAFKA_OVERHEAD + 1)?;
    ensure!(scene.bench.produce_records(&[beyond.record]).await.is_err(), "Kafka took a larger one");
    Ok(())
}
