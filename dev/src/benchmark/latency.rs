//! How long it takes until an event can be seen.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::quantiles::Quantiles;
use crate::bench::Bench;
use crate::clock;
use crate::http::Server;
use crate::load::{Load, LoadPlan, Order};
use crate::produce::{Pace, Producer, Record};

/// A topic whose records may lie in any partition.
const TOPIC: &str = "execution.analytics";
/// Between two looks: what a figure may be wrong by.
const LOOK: Duration = Duration::from_millis(1);
/// Clients connect and learn where the partitions are: this long it is not what every event waits for.
const WARM_UP: Duration = Duration::from_secs(2);
/// Of everything that was sent, how long the last may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends so many records a second, for so long after a warm-up, and looks when each can be read: from before it is handed
/// to the Kafka client to when a reader of PostgreSQL sees its offset committed. Returns the warm-up's by themselves.
///
/// # Errors
/// A server does not answer, or something is not seen in time.
pub async fn produce_to_visible(
    bench: &Bench,
    group: &str,
    per_second: u32,
    lasts: Duration,
) -> Result<(Quantiles, Quantiles)> {
    let topic = format!("{}{TOPIC}", bench.prefix);
    let partitions = usize::try_from(bench.partitions)?;
    let number = usize::try_from(u64::from(per_second) * (WARM_UP + lasts).as_secs())?;
    let (sent, mut seen) = mpsc::channel::<(usize, Instant)>(number);
    let sending = async {
        let now = clock::now();
        let plan =
            LoadPlan { seed: 5, records: 0, from: now, until: now, order: Order::Live, faults_per_mille: 0 };
        let mut load = Load::new(plan);
        let (mut producer, mut pace) =
            (Producer::of(&bench.stack.bootstrap)?, Pace::of(Some(f64::from(per_second))));
        for (_, partition) in (0..number).zip((0..partitions).cycle()) {
            pace.next().await;
            let record =
                std::iter::repeat_with(|| load.live(clock::now())).find(|record| record.topic == TOPIC);
            let record = Record::of_load(&bench.prefix, &record.context("no such record")?);
            sent.try_send((partition, Instant::now()))?;
            producer.send(&Record { partition: Some(i32::try_from(partition)?), ..record }).await?;
        }
        drop(sent);
        producer.flush().await
    };
    let seeing = async {
        let mut seen_of = next_offsets(bench, group, &topic, partitions).await?;
        let mut waiting = vec![VecDeque::new(); partitions];
        let (warm_up, mut first, mut quantiles) =
            (Instant::now() + WARM_UP, Quantiles::default(), Quantiles::default());
        loop {
            while let Ok((partition, at)) = seen.try_recv() {
                waiting.get_mut(partition).context("no such partition")?.push_back(at);
            }
            let (next, now) = (next_offsets(bench, group, &topic, partitions).await?, Instant::now());
            for ((waiting, seen), next) in waiting.iter_mut().zip(&mut seen_of).zip(next) {
                for at in waiting.drain(..usize::try_from(next - *seen)?.min(waiting.len())) {
                    let of = if at < warm_up { &mut first } else { &mut quantiles };
                    of.add(now.duration_since(at));
                    *seen += 1;
                }
            }
            if seen.is_closed() && seen.is_empty() && waiting.iter().all(VecDeque::is_empty) {
                return Ok((first, quantiles));
            }
            sleep(LOOK).await;
        }
    };
    let both = async { tokio::try_join!(sending, seeing) };
    let ((), quantiles) =
        timeout(WARM_UP + lasts + PATIENCE, both).await.context("not everything was seen")??;
    Ok(quantiles)
}

async fn next_offsets(bench: &Bench, group: &str, topic: &str, partitions: usize) -> Result<Vec<i64>> {
    let rows: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT partition, next_offset FROM ingest_offsets WHERE consumer_group = $1 AND topic = $2",
    )
    .bind(group)
    .bind(topic)
    .fetch_all(&bench.database.pool)
    .await?;
    let mut next = vec![0; partitions];
    for (partition, offset) in rows {
        if let Some(next) = next.get_mut(usize::try_from(partition)?) {
            *next = offset;
        }
    }
    Ok(next)
}

/// So many clients that each post one event after the other, for so long. Returns the answers a second and how long each
/// took.
///
/// # Errors
/// The worker does not answer, or refuses.
pub async fn post(worker: &Server, clients: usize, lasts: Duration) -> Result<(f64, Quantiles)> {
    let started = Instant::now();
    let client = |_| async move {
        let mut quantiles = Quantiles::default();
        while started.elapsed() < lasts {
            let body = format!(
                r#"{{"eventType":"bench.posted","source":"bench","occurredAt":"{}","payload":{{"number":"{}","language":"rust","testsPassed":12}}}}"#,
                shared::instant::format(clock::now()),
                Uuid::new_v4()
            );
            let asked = Instant::now();
            let answer = worker.post("/v1/analytics/events", body).await?;
            ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
            quantiles.add(asked.elapsed());
        }
        Ok(quantiles)
    };
    let all = try_join_all((0..clients).map(client)).await?;
    let seconds = started.elapsed().as_secs_f64();
    let all: Quantiles = all.into_iter().collect();
    Ok((all.number() / seconds, all))
}
