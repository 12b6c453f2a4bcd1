//! Kafka forgets what it had: its data are restored from an older copy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{CHUNK, TOLD, discontinuities};
use crate::faults::{DRAIN, Scene, Worker};
use crate::load::{LoadRecord, Outcome};
use crate::tables;
use crate::wait::{eventually, until};

pub(super) async fn restored(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        // Every other time the clients have seen a later life of the partitions than the copy knows of.
        let later_life = round % 2 == 1;
        let survived = once(scene, &mut worker, later_life).await;
        survived.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
        ensure!(worker.process().is_running()?, "the worker ended; {}", worker.last_lines());
    }
    worker.terminate(DRAIN).await
}

async fn once(scene: &mut Scene, worker: &mut Worker, later_life: bool) -> Result<()> {
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await?;
    let copy = Copy::of(scene).await?;
    if later_life {
        scene.bench.stack.run(&["stop-kafka"]).await?;
        scene.bench.stack.run(&["start-kafka"]).await?;
    }
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await.context("after the copy was made")?;
    let told = scene.ledger("new_incarnation").await?.len();
    let mut counted = discontinuities(worker, "new_incarnation").await?;
    copy.restore(scene).await?;
    let shorter = shorter(scene).await?;
    ensure!(!shorter.is_empty(), "no log has become shorter");
    scene.healed();
    if later_life && needs_help(scene, worker, told + shorter.len()).await? {
        worker.terminate(DRAIN).await?;
        *worker = scene.start(scene.settings())?;
        scene.healed();
        counted = 0;
    }
    until("all that became shorter begin anew", TOLD, async || {
        Ok(scene.ledger("new_incarnation").await?.len() >= told + shorter.len())
    })
    .await?;
    for (topic, partition) in &shorter {
        read_again(scene, topic, *partition).await?;
    }
    scene.caught_up().await.context("what is left is read again")?;
    let counts = discontinuities(worker, "new_incarnation").await? - counted;
    ensure!(counts == shorter.len(), "the metric tells of {counts}, not {}", shorter.len());
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await.context("what is new")?;
    Ok(())
}

/// A Kafka client that knows of later leaders takes what the restored broker says for outdated, and says so; a new process has
/// no such memory. It need not have heard of them: then it goes on by itself.
async fn needs_help(scene: &Scene, worker: &Worker, rows: usize) -> Result<bool> {
    let readiness = worker.watch_readiness();
    let told = eventually("it goes on, or says that it cannot", TOLD, async || {
        if scene.ledger("new_incarnation").await?.len() >= rows {
            return Ok(Some(false));
        }
        // Once is nothing: no broker tells offsets while it starts.
        let samples = readiness.samples();
        let stuck = samples.iter().rev().take(50).filter(|sample| {
            let reason = sample.not_ready.as_deref();
            reason.is_some_and(|reason| reason.contains("kafka does not tell its offsets"))
        });
        Ok((stuck.count() == 50).then_some(true))
    })
    .await;
    told.with_context(|| readiness.reasons().join(" | "))
}

/// Partitions that end before what is stored of them.
async fn shorter(scene: &Scene) -> Result<Vec<(String, i32)>> {
    let ends = scene.bench.topics.ends(&scene.bench.prefix).await?;
    let rows = tables::offsets(&scene.bench.database.pool, &scene.bench.group).await?;
    let beyond = rows.into_iter().filter_map(|row| {
        let place = (row.topic, row.partition);
        ends.get(&place).is_some_and(|end| *end < row.next_offset).then_some(place)
    });
    Ok(beyond.collect())
}

/// Whatever the partition holds comes again: its events are there already.
async fn read_again(scene: &Scene, topic: &str, partition: i32) -> Result<()> {
    let sent = scene.sent();
    let records = scene.bench.topics.records(topic).await?;
    for found in records.into_iter().filter(|found| found.partition == partition) {
        let own = |record: &&LoadRecord| record.value.as_deref().map(str::as_bytes) == found.value.as_deref();
        let record = sent.iter().find(own).context("a record that was not sent")?;
        let becomes = match &record.becomes {
            Outcome::Event(_) | Outcome::Duplicate => Outcome::Duplicate,
            refused => refused.clone(),
        };
        scene.expect_again([LoadRecord { becomes, ..record.clone() }]);
    }
    Ok(())
}

/// What Kafka had at some time.
struct Copy {
    data: PathBuf,
    copy: PathBuf,
}

impl Copy {
    async fn of(scene: &Scene) -> Result<Self> {
        let data = scene.bench.stack.folder.join("data/kafka");
        let copy = data.with_extension("copy");
        scene.bench.stack.run(&["stop-kafka"]).await?;
        let copied = replace(&copy, &data).await;
        scene.bench.stack.run(&["start-kafka"]).await?;
        copied?;
        Ok(Self { data, copy })
    }

    async fn restore(&self, scene: &Scene) -> Result<()> {
        // Without a farewell, in which the clients would see one more leader.
        scene.bench.stack.run(&["kill-kafka"]).await?;
        let restored = replace(&self.data, &self.copy).await;
        scene.bench.stack.run(&["start-kafka"]).await?;
        restored
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Goes with the data otherwise.
        drop(std::fs::remove_dir_all(&self.copy));
    }
}

/// The folder becomes another one's copy.
async fn replace(folder: &Path, by: &Path) -> Result<()> {
    if folder.exists() {
        tokio::fs::remove_dir_all(folder).await?;
    }
    let mut copy = tokio::process::Command::new("cp");
    let copying = copy.arg("-a").arg(by).arg(folder).kill_on_drop(true).status();
    let status =
        tokio::time::timeout(Duration::from_secs(120), copying).await.context("cp does not end")??;
    ensure!(status.success(), "{} cannot be copied", by.display());
    Ok(())
}
