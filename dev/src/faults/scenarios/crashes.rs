//! The process dies, or is asked to end, at the worst moment.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::{NO_HINDRANCE, Scenario};
use crate::faults::{DRAIN, Scene, Worker};

/// This family.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "killed-at-every-point",
        what: "A worker dies at each step between fetching from Kafka and telling Kafka the offsets.",
        rounds_quick: 1,
        rounds_full: 20,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| killed_at_every_point(scene).boxed_local(),
    },
    Scenario {
        name: "killed-at-random",
        what: "One of three workers is killed again and again while records flow.",
        rounds_quick: 8,
        rounds_full: 200,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| killed_at_random(scene).boxed_local(),
    },
    Scenario {
        name: "stopped-at-every-point",
        what: "SIGTERM comes at each step of a batch: the worker ends by itself, in time and well.",
        rounds_quick: 1,
        rounds_full: 10,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| stopped_at_every_point(scene).boxed_local(),
    },
    Scenario {
        name: "failed-at-every-point",
        what: "PostgreSQL is lost at each step of a transaction: the worker goes on by itself.",
        rounds_quick: 1,
        rounds_full: 20,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| failed_at_every_point(scene).boxed_local(),
    },
];

/// On the Kafka side, in the order of a batch's way.
const BEFORE: [&str; 2] = ["after-poll", "after-decode"];
/// Within a transaction and around its end.
const TRANSACTION: [&str; 8] = [
    "after-begin",
    "after-compare",
    "mid-copy",
    "after-copy",
    "between-tables",
    "before-commit",
    "commit-sent",
    "after-commit",
];
/// Where Kafka is told the offsets.
const AFTER: [&str; 2] = ["before-kafka-commit", "after-kafka-commit"];

fn every_point() -> impl Iterator<Item = &'static str> {
    BEFORE.into_iter().chain(TRANSACTION).chain(AFTER)
}

/// Records of one step: some batches of a hundred.
const CHUNK: usize = 300;
/// A step is met within this time, or never.
const MET: Duration = Duration::from_secs(30);

async fn killed_at_every_point(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        for point in every_point() {
            killed_at(scene, point).await.with_context(|| format!("round {round}, {point}"))?;
        }
    }
    Ok(())
}

async fn killed_at(scene: &mut Scene, point: &str) -> Result<()> {
    // Kafka is told once a second: a later passing would be a long wait.
    let nth = if AFTER.contains(&point) { 1 } else { scene.random.u32(1..=3) };
    let mut worker = scene.start_with_faults(scene.settings(), &format!("{point}:abort@{nth}"))?;
    let deadline = Instant::now() + MET;
    while worker.process().is_running()? {
        ensure!(Instant::now() < deadline, "passing {nth} never came; {}", worker.process().last_lines());
        scene.produce(CHUNK).await?;
        // Enough for a start, or for some batches; what is not met is met with the next chunk.
        drop(worker.ended(Duration::from_millis(1500)).await);
    }
    let status = worker.ended(MET).await?;
    ensure!(status.code().is_none(), "it ended with {status}; {}", worker.process().last_lines());
    Ok(())
}

async fn killed_at_random(scene: &mut Scene) -> Result<()> {
    let traffic = scene.produce_in_background(300.0);
    let mut workers = (0..3).map(|_| scene.start(scene.settings())).collect::<Result<Vec<_>>>()?;
    for round in 1..=scene.rounds {
        sleep(Duration::from_millis(scene.random.u64(100..1_500))).await;
        let victim = scene.random.usize(0..workers.len());
        if let Some(worker) = workers.get_mut(victim) {
            worker.kill().await.with_context(|| format!("round {round}"))?;
            *worker = scene.start(scene.settings())?;
        }
    }
    traffic.stop().await?;
    scene.healed();
    scene.caught_up().await?;
    for worker in &mut workers {
        worker.ready().await?;
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}

async fn stopped_at_every_point(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        for point in every_point() {
            stopped_at(scene, point).await.with_context(|| format!("round {round}, {point}"))?;
        }
    }
    Ok(())
}

async fn stopped_at(scene: &mut Scene, point: &str) -> Result<()> {
    let mut worker = scene.start_with_faults(scene.settings(), &format!("{point}:sleep=1s@1"))?;
    scene.produce(CHUNK).await?;
    worker.says("fail point", MET).await?;
    // Within the sleep, or a little after it.
    sleep(Duration::from_millis(scene.random.u64(0..1_200))).await;
    worker.terminate(DRAIN).await
}

async fn failed_at_every_point(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        // All of them in the life of one worker, each at another passing.
        let faults: Vec<_> = TRANSACTION
            .iter()
            .zip(1..)
            .map(|(point, at)| format!("{point}:error@{}", at + scene.random.u32(0..8)))
            .collect();
        let mut worker = scene.start_with_faults(scene.settings(), &faults.join(";"))?;
        survives(scene, &mut worker).await.with_context(|| format!("round {round}, {}", faults.join(";")))?;
    }
    Ok(())
}

async fn survives(scene: &mut Scene, worker: &mut Worker) -> Result<()> {
    for _ in 0..8 {
        scene.produce(CHUNK).await?;
        scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    }
    worker.terminate(DRAIN).await
}
