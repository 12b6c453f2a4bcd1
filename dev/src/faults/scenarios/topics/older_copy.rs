//! Kafka forgets what it had: its data are restored from an older copy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{CHUNK, discontinuities};
use crate::faults::{DRAIN, Scene, Worker};
use crate::load::{LoadRecord, Outcome};
use crate::tables;
use crate::wait::until;

pub(super) async fn restored(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    // A client that takes what the broker says for outdated is replaced after half a minute, and later after more.
    scene.bounds.recovery = Duration::from_secs(180);
    for round in 1..=scene.rounds {
        // Every other time the clients have seen a later life of the partitions than the copy knows of.
        let later_life = round % 2 == 1;
        let survived = once(scene, &worker, later_life).await;
        survived.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
        ensure!(worker.process().is_running()?, "the worker ended; {}", worker.last_lines());
    }
    worker.terminate(DRAIN).await
}

async fn once(scene: &mut Scene, worker: &Worker, later_life: bool) -> Result<()> {
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
    let counted = discontinuities(worker, "new_incarnation").await?;
    copy.restore(scene).await?;
    let shorter = shorter(scene).await?;
    ensure!(!shorter.is_empty(), "no log has become shorter");
    scene.healed();
    until("all that became shorter begin anew", scene.bounds.recovery, async || {
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
        scene.expect_again(&[LoadRecord { becomes, ..record.clone() }]);
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
