//! Retention removes what nobody has read.

use anyhow::{Context as _, Result, ensure};

use super::{CHUNK, TOLD, discontinuities, padded};
use crate::faults::proxy::{Cut, Hole};
use crate::faults::{DRAIN, Scene, Worker};
use crate::processes::Settings;
use crate::wait::until;

/// Bytes of padding that fill a small worker's memory soon.
const PADDING: usize = 8 << 10;
/// Records so large, more than it holds.
const MANY: usize = 2_500;

pub(super) async fn passes(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(small(scene))?;
    for round in 1..=scene.rounds {
        worker = while_nobody_reads(scene, worker).await.with_context(|| format!("round {round}, nobody"))?;
        without_postgres(scene, &worker).await.with_context(|| format!("round {round}, no PostgreSQL"))?;
        while_held_up(scene, &worker).await.with_context(|| format!("round {round}, held up"))?;
        ensure!(worker.process().is_running()?, "the worker ended; {}", worker.process().last_lines());
    }
    worker.terminate(DRAIN).await
}

/// As little memory as is allowed.
fn small(scene: &Scene) -> Settings {
    let mut settings = scene.through_proxy(scene.settings());
    for (name, value) in [("ANALYTICS_MEMORY_BUDGET", "12MiB"), ("ANALYTICS_BATCH_MAX_BYTES", "1MiB")] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    settings
}

async fn while_nobody_reads(scene: &mut Scene, mut worker: Worker) -> Result<Worker> {
    worker.ready().await?;
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await?;
    worker.terminate(DRAIN).await?;
    let before = gone(scene).await?;
    let vain = scene.strangers(CHUNK, |_| true);
    scene.send_in_vain(&vain).await?;
    retention(scene).await?;
    scene.produce(CHUNK).await?;
    let mut worker = scene.start(small(scene))?;
    worker.ready().await?;
    scene.healed();
    scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    told(scene, &worker, before, vain.len(), 0).await?;
    Ok(worker)
}

/// The worker runs and reads nothing, since it cannot claim anything.
async fn without_postgres(scene: &mut Scene, worker: &Worker) -> Result<()> {
    let (before, counted) = (gone(scene).await?, discontinuities(worker, "retention").await?);
    let readiness = worker.watch_readiness();
    scene.proxy.change(|rules| rules.refuses = true);
    scene.proxy.cut_all(Cut::Reset);
    let away = async || Ok(["lane 0", "lane 1"].iter().all(|lane| readiness.first(lane).is_some()));
    let away = until("both lanes have lost PostgreSQL", TOLD, away).await;
    away.with_context(|| readiness.reasons().join(" | "))?;
    let vain = scene.strangers(CHUNK, |_| true);
    scene.send_in_vain(&vain).await?;
    retention(scene).await?;
    scene.proxy.heal();
    scene.healed();
    scene.produce(CHUNK).await?;
    scene.caught_up().await.with_context(|| worker.last_lines())?;
    told(scene, worker, before, vain.len(), counted).await
}

/// The worker has as much as it may hold, and stands in the middle of the log.
async fn while_held_up(scene: &mut Scene, worker: &Worker) -> Result<()> {
    let (before, counted) = (gone(scene).await?, discontinuities(worker, "retention").await?);
    let (_, missing) = scene.fleeting().await?;
    scene.proxy.change(|rules| rules.to_client.hole = Hole::Holds);
    let strangers = scene.strangers(MANY, |_| true);
    let large = padded(scene, strangers, PADDING);
    scene.send_fleeting(large).await?;
    retention(scene).await?;
    scene.proxy.heal();
    scene.healed();
    scene.produce(CHUNK).await?;
    scene.caught_up().await.with_context(|| worker.last_lines())?;
    let (_, now_missing) = scene.fleeting().await?;
    ensure!(now_missing.len() > missing.len(), "it had all of them in hand when they were removed");
    told(scene, worker, before, now_missing.len() - missing.len(), counted).await
}

/// Removes everything there is.
async fn retention(scene: &Scene) -> Result<()> {
    let ends = scene.bench.topics.ends(&scene.bench.prefix).await?;
    scene.bench.topics.delete_records(&ends).await
}

/// How often retention passed, and how many records that cost.
async fn gone(scene: &Scene) -> Result<(usize, i64)> {
    let rows = scene.ledger("retention").await?;
    Ok((rows.len(), rows.iter().map(|row| row.totals.gaps).sum()))
}

/// The ledger has a row for each partition that lost something, together for all of it; the metric counts as many.
async fn told(
    scene: &Scene,
    worker: &Worker,
    (rows_before, gaps_before): (usize, i64),
    lost: usize,
    counted: usize,
) -> Result<()> {
    let (rows, gaps) = gone(scene).await?;
    let (rows, gaps) = (rows - rows_before, gaps - gaps_before);
    ensure!(
        rows > 0 && gaps == i64::try_from(lost)?,
        "{rows} rows of the ledger tell of {gaps} lost, not {lost}"
    );
    let counts = discontinuities(worker, "retention").await? - counted;
    ensure!(counts == rows, "the metric tells of {counts} losses, the ledger of {rows}");
    Ok(())
}
