//! A topic goes, and another one of the same name comes.

use anyhow::{Context as _, Result, ensure};

use super::{CHUNK, TOLD, VICTIM, attentive, discontinuities, of_victim, offsets, partitions};
use crate::faults::{DRAIN, Scene, Worker};
use crate::load::{LoadRecord, Outcome};
use crate::tables::RangeRow;
use crate::wait::until;

/// Records of each partition before it goes.
const BEFORE: usize = 20;
/// Records that come again in the new topic.
const AGAIN: usize = 3;

pub(super) async fn deleted(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(attentive(scene))?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        goes(scene, &worker).await.with_context(|| format!("round {round}"))?;
        ensure!(worker.process().is_running()?, "the worker ended; {}", worker.process().last_lines());
    }
    worker.terminate(DRAIN).await
}

async fn goes(scene: &mut Scene, worker: &Worker) -> Result<()> {
    let topic = scene.topic(VICTIM);
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await?;
    scene.bench.topics.delete_wholly(&topic).await?;
    lets_go(scene, worker).await?;
    scene.send(scene.strangers(CHUNK, |record| record.topic != VICTIM)).await?;
    scene.healed();
    scene.caught_up().await.context("the other topics")?;
    worker.says("topics do not exist yet", TOLD).await?;
    worker.says(&topic, TOLD).await?;
    scene.bench.topics.create(&[(topic, scene.bench.partitions)]).await?;
    scene.send(of_victim(scene, CHUNK)).await?;
    scene.healed();
    scene.caught_up().await.context("the topic is there again")?;
    Ok(())
}

/// Waits until the worker reads exactly what there is.
async fn lets_go(scene: &Scene, worker: &Worker) -> Result<()> {
    let there = f64::from(u32::try_from(partitions(scene)?)?);
    until("its partitions are let go", TOLD, async || {
        Ok((worker.metric("analytics_ingest_partitions_owned").await? - there).abs() < 0.5)
    })
    .await
}

/// What happens around a topic's death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// No worker runs.
    Nobody,
    /// One runs, and another topic is there before it has noticed.
    Unnoticed,
    /// One runs, and has noticed.
    Noticed,
}

/// How far the new topic reaches when it is first looked at, compared with the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Shorter,
    Equal,
    Longer,
}

pub(super) async fn recreated(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(attentive(scene))?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        for (meanwhile, length) in [
            (Meanwhile::Nobody, Length::Shorter),
            (Meanwhile::Nobody, Length::Equal),
            (Meanwhile::Nobody, Length::Longer),
            // Longer and unnoticed cannot be told: the client goes on in the new log where it was in the old one.
            (Meanwhile::Unnoticed, Length::Shorter),
            (Meanwhile::Noticed, Length::Longer),
        ] {
            let replaced = replaced(scene, &mut worker, meanwhile, length).await;
            replaced.with_context(|| format!("round {round}, {meanwhile:?}, {length:?}"))?;
        }
    }
    worker.terminate(DRAIN).await
}

async fn replaced(
    scene: &mut Scene,
    worker: &mut Worker,
    meanwhile: Meanwhile,
    length: Length,
) -> Result<()> {
    let topic = scene.topic(VICTIM);
    let old = fill(scene).await?;
    scene.healed();
    scene.caught_up().await?;
    let (before, rows) = (offsets(scene).await?, scene.ledger("new_incarnation").await?.len());
    if meanwhile == Meanwhile::Nobody {
        worker.terminate(DRAIN).await?;
    }
    let counted = discontinuities(worker, "new_incarnation").await.unwrap_or(0);
    scene.bench.topics.delete_wholly(&topic).await?;
    if meanwhile == Meanwhile::Noticed {
        lets_go(scene, worker).await?;
    }
    scene.bench.topics.create(&[(topic, scene.bench.partitions)]).await?;
    refill(scene, &old, &before, length).await?;
    if meanwhile == Meanwhile::Nobody {
        *worker = scene.start(attentive(scene))?;
    }
    scene.healed();
    scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    worker.ready().await?;
    let told = scene.ledger("new_incarnation").await?.len() - rows;
    ensure!(told == before.len(), "the ledger tells of {told} new incarnations, not {}", before.len());
    let counts = discontinuities(worker, "new_incarnation").await? - counted;
    ensure!(counts == before.len(), "the metric tells of {counts} new incarnations, not {}", before.len());
    for (old, new) in before.iter().zip(offsets(scene).await?) {
        ensure!(new.incarnation == old.incarnation + 1, "{new:?} follows {old:?}");
    }
    Ok(())
}

/// Something of its own for each partition.
async fn fill(scene: &Scene) -> Result<Vec<LoadRecord>> {
    let mut sent = Vec::new();
    for partition in 0..scene.bench.partitions {
        let records = of_victim(scene, BEFORE);
        sent.extend_from_slice(&records);
        scene.send_to(partition, records).await?;
    }
    Ok(sent)
}

/// Some records come again, as when a topic is filled from a copy; the others are new.
async fn refill(scene: &Scene, old: &[LoadRecord], before: &[RangeRow], length: Length) -> Result<()> {
    let again = |record: &LoadRecord| LoadRecord { becomes: Outcome::Duplicate, ..record.clone() };
    for row in before {
        let reached = usize::try_from(row.next_offset)?;
        let number = match length {
            Length::Shorter => reached / 2,
            Length::Equal => reached,
            Length::Longer => reached + BEFORE,
        };
        let mut records: Vec<_> = old.iter().take(AGAIN).map(again).collect();
        records.extend(of_victim(scene, number - AGAIN));
        scene.send_to(row.partition, records).await?;
    }
    Ok(())
}
