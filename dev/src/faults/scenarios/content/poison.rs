use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use rustix::process::Signal;

use super::canonical::{Canonical, own};
use crate::clock;
use crate::expected::{Becomes, ExpectedEvent, Own};
use crate::faults::{DRAIN, Scene, Worker};
use crate::poison::{accepted, refused};

/// Where a record lies in its batch: how many come before it and after it.
const PLACES: [(usize, usize); 4] = [(0, 0), (0, 2), (1, 1), (2, 0)];
/// Tries until the records of a group are one batch.
const TRIES: usize = 5;

pub(super) async fn in_every_place(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    let mut number = 0;
    for _ in 0..scene.rounds {
        for (index, value) in refused().into_iter().enumerate() {
            for place in PLACES {
                in_place(scene, &value, place, &mut number)
                    .await
                    .with_context(|| format!("poison {index} at {place:?}"))?;
            }
        }
        let mut all: Vec<_> = refused().into_iter().map(|value| own(0, value, Becomes::DeadLetter)).collect();
        all.extend(accepted().into_iter().map(harmless).collect::<Result<Vec<_>>>()?);
        scene.random.shuffle(&mut all);
        scene.send_own(&all).await?;
        scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    }
    worker.ready().await?;
    worker.terminate(DRAIN).await
}

/// Neighbours and the poison between them; sent again until all were in one transaction.
async fn in_place(
    scene: &mut Scene,
    poison: &[u8],
    (before, after): (usize, usize),
    number: &mut u64,
) -> Result<()> {
    for _ in 0..TRIES {
        let mut records = Vec::new();
        for _ in 0..before + after {
            *number += 1;
            records.push(neighbour(*number));
        }
        records.insert(before, own(0, poison.to_vec(), Becomes::DeadLetter));
        scene.send_own(&records).await?;
        scene.caught_up().await?;
        if last_step(scene).await? == i64::try_from(records.len())? {
            return Ok(());
        }
    }
    anyhow::bail!("{TRIES} times the records came in more than one batch")
}

/// How many offsets the last transaction has passed in the first partition for canonical events.
async fn last_step(scene: &Scene) -> Result<i64> {
    let length = sqlx::query_scalar(
        "SELECT next_offset - old_next_offset FROM audit.steps
         WHERE topic LIKE '%analytics.events' AND partition = 0 AND next_offset > old_next_offset
         ORDER BY number DESC LIMIT 1",
    );
    Ok(length.fetch_one(&scene.bench.database.pool).await?)
}

fn neighbour(number: u64) -> Own {
    let at = DateTime::from_timestamp_micros(clock::now().timestamp_micros()).unwrap_or_default();
    Canonical::new(None, at, number).first(0)
}

/// It looks dangerous and is an event.
fn harmless(value: Vec<u8>) -> Result<Own> {
    let text = String::from_utf8(value)?;
    let (_, payload) = text.split_once(r#""payload":"#).context("no payload")?;
    let payload = payload.strip_suffix('}').context("no end")?.to_owned();
    let event = ExpectedEvent {
        event_type: "poison.test".to_owned(),
        source: "poison".to_owned(),
        occurred_at: "2025-11-16T18:14:00Z".parse()?,
        actor: None,
        payload,
    };
    Ok(own(0, text.into_bytes(), Becomes::Event(event)))
}

const MUCH: u64 = 10_000;

/// The same number of records each time: good ones, every second one poison, nothing but poison.
pub(super) async fn much(scene: &mut Scene) -> Result<()> {
    // Batches as in production: with a hundred events it would be slow anyway.
    let mut settings = scene.bench.worker_settings(&scene.bench.group);
    settings.insert("ANALYTICS_KAFKA_PROPERTY_SESSION_TIMEOUT_MS".to_owned(), "20000".to_owned());
    let mut worker = scene.start(settings)?;
    worker.ready().await?;
    let poison: Vec<_> = refused().into_iter().filter(|value| value.len() < 1_000).collect();
    // The first time everything is new: series, partitions, caches.
    backlog(scene, &worker, records(&[], 0, 0)).await?;
    for round in 1..=u64::from(scene.rounds) {
        let normal = backlog(scene, &worker, records(&[], 0, 3 * round)).await?;
        let alternating = backlog(scene, &worker, records(&poison, 2, 3 * round + 1)).await?;
        let all = backlog(scene, &worker, records(&poison, 1, 3 * round + 2)).await?;
        ensure!(
            alternating.max(all) <= normal * 10,
            "{MUCH} good records took {normal:?}, with poison in every second {alternating:?}, only poison {all:?}"
        );
    }
    let (told, expected) =
        (worker.metric("analytics_ingest_dead_letters_total").await?, scene.expected().totals.dead_letters);
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
    let is_true = (told - expected as f64).abs() < 0.5;
    ensure!(is_true, "the metric tells {told} dead letters, there are {expected}");
    worker.ready().await?;
    worker.terminate(DRAIN).await
}

/// Every n-th is poison; 0 is none.
fn records(poison: &[Vec<u8>], nth: u64, run: u64) -> Vec<Own> {
    let mut poison = poison.iter().cycle();
    let record = |number| {
        let value = poison.next().filter(|_| nth > 0 && number % nth == 0);
        let mut own = match value {
            Some(value) => own(0, value.clone(), Becomes::DeadLetter),
            None => neighbour(run * MUCH + number),
        };
        own.record.partition = i32::try_from(number % 3).ok();
        own
    };
    (0..MUCH).map(record).collect()
}

/// How long the worker takes for records that all lie there when it begins.
async fn backlog(scene: &mut Scene, worker: &Worker, records: Vec<Own>) -> Result<Duration> {
    worker.signal(Signal::STOP)?;
    scene.send_own(&records).await?;
    scene.healed();
    worker.signal(Signal::CONT)?;
    scene.caught_up().await
}
