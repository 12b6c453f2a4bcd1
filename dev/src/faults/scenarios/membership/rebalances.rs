//! Workers come and go while records flow, while lanes are blocked, while fetching is paused.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{MET, partitions, share};
use crate::faults::{DRAIN, Scene, Worker};
use crate::wait::until;

/// Between two changes.
const CHANGE: Duration = Duration::from_secs(2);
/// Workers of the storm at most.
const MOST: usize = 3;

/// One round is one change.
pub(super) async fn storm(scene: &mut Scene) -> Result<()> {
    let traffic = scene.produce_in_background(200.0);
    let mut workers = vec![scene.start(scene.settings())?];
    let mut leaving = Vec::new();
    for _ in 0..scene.rounds {
        let goes = workers.len() > 1 && (workers.len() == MOST || scene.random.bool());
        if goes {
            let mut worker = workers.swap_remove(scene.random.usize(0..workers.len()));
            if scene.random.bool() {
                worker.signal(Signal::TERM)?;
                leaving.push(worker);
            } else {
                worker.kill().await?;
            }
        } else {
            workers.push(scene.start(scene.settings())?);
        }
        sleep(CHANGE).await;
    }
    for mut worker in leaving {
        // Asked before: it has ended, or soon does, and well.
        worker.terminate(DRAIN).await?;
    }
    scene.healed();
    let all: Vec<_> = workers.iter().collect();
    share(&all, partitions(scene).await?.len()).await?;
    traffic.stop().await?;
    scene.caught_up().await?;
    until("no partition lags", MET, async || {
        let mut lag = 0.0;
        for worker in &workers {
            lag += worker.metric("analytics_ingest_lag_records").await?;
        }
        Ok(lag < 0.5)
    })
    .await?;
    for worker in &mut workers {
        worker.ready().await?;
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}

/// Some sessions long, and longer than a lane waits for a lock.
const BLOCKED: Duration = Duration::from_secs(14);
/// A rebalance in which nobody dallies: a few heartbeats.
const PROMPT: Duration = Duration::from_secs(5);

/// A worker reads all partitions of a group that has none yet within this time; its metric is a second late.
const STARTED: Duration = Duration::from_secs(6);

pub(super) async fn while_blocked(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        blocked(scene).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

async fn blocked(scene: &mut Scene) -> Result<()> {
    let partitions = partitions(scene).await?.len();
    let started_at = Instant::now();
    let mut first = scene.start(scene.settings())?;
    share(&[&first], partitions).await?;
    ensure!(started_at.elapsed() < STARTED, "the first partitions took {:?}", started_at.elapsed());
    scene.produce(600).await?;
    scene.caught_up().await?;
    let mut lock = scene.bench.database.pool.begin().await?;
    sqlx::raw_sql("LOCK TABLE analytics_events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await?;
    let locked_at = Instant::now();
    scene.produce(600).await?;
    both_lanes_wait(scene).await?;

    let joined_at = Instant::now();
    let mut second = scene.start(scene.settings())?;
    second.says(r#""message":"assigned","partitions":1"#, PROMPT).await?;
    ensure!(joined_at.elapsed() < PROMPT, "the rebalance took {:?}", joined_at.elapsed());
    // A heartbeat or two later the rebalance is over on both sides.
    sleep(Duration::from_secs(1)).await;
    let before = [moved(&mut first)?, moved(&mut second)?];
    sleep(BLOCKED.saturating_sub(locked_at.elapsed())).await;
    let after = [moved(&mut first)?, moved(&mut second)?];
    ensure!(before == after, "while they were blocked partitions moved: {before:?}, then {after:?}");
    ensure!(first.process().is_running()? && second.process().is_running()?, "a worker ended");
    lock.rollback().await?;

    scene.healed();
    scene.caught_up().await?;
    share(&[&first, &second], partitions).await?;
    // The lock time-out, or the second worker's claim has ended the session that held its row. It is over in a twinkling.
    first.says("PostgreSQL is away", MET).await?;
    for worker in [&mut first, &mut second] {
        worker.ready().await?;
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}

/// Both lanes of one worker wait for a lock.
async fn both_lanes_wait(scene: &Scene) -> Result<()> {
    until("both lanes wait for the lock", MET, async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&scene.bench.database.pool)
        .await?;
        Ok(waiting >= 2)
    })
    .await
}

/// Partitions that the worker was given and has lost so far.
fn moved(worker: &mut Worker) -> Result<(i64, i64)> {
    let (mut given, mut lost) = (0, 0);
    for line in std::fs::read_to_string(&worker.process().log)?.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let partitions = line.get("partitions").and_then(serde_json::Value::as_i64).unwrap_or(0);
        match line.get("message").and_then(serde_json::Value::as_str) {
            Some("assigned") => given += partitions,
            Some("revoked") => lost += partitions,
            _ => {}
        }
    }
    Ok((given, lost))
}

/// Bytes that make a lane of the smallest worker full: a third of its memory.
const FULL: f64 = 3.8 * 1024.0 * 1024.0;

pub(super) async fn paused_and_given_back(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        let while_away = round % 2 == 1;
        given_back(scene, while_away).await.with_context(|| format!("round {round}"))?;
        scene.proxy.heal();
    }
    Ok(())
}

/// The lanes have room again after the partitions come back, or while they are away: then their pause is nobody's to end.
async fn given_back(scene: &mut Scene, while_away: bool) -> Result<()> {
    let partitions = partitions(scene).await?.len();
    let mut settings = scene.settings();
    settings.insert("ANALYTICS_MEMORY_BUDGET".to_owned(), "12MiB".to_owned());
    settings.insert("ANALYTICS_BATCH_MAX_BYTES".to_owned(), "2MiB".to_owned());
    scene.produce(12_000).await?;
    scene.proxy.change(|rules| rules.to_server.bytes_per_second = Some(200_000));
    let mut slow = scene.start(scene.through_proxy(settings))?;
    until("both lanes are full", MET, async || {
        Ok(slow.metric("analytics_ingest_buffered_bytes").await? > 2.0 * FULL)
    })
    .await
    .with_context(|| slow.process().last_lines())?;

    let mut other = scene.start(scene.settings())?;
    share(&[&slow, &other], partitions).await?;
    ensure!(
        slow.metric("analytics_ingest_buffered_bytes").await? > FULL,
        "it has caught up: nothing is paused"
    );
    if while_away {
        scene.proxy.heal();
        scene.caught_up().await.with_context(|| slow.process().last_lines())?;
    }
    other.terminate(DRAIN).await?;
    share(&[&slow], partitions).await?;
    scene.produce(1_000).await?;
    scene.proxy.heal();
    scene.healed();
    scene.caught_up().await.with_context(|| slow.process().last_lines())?;
    slow.ready().await?;
    slow.terminate(DRAIN).await
}
