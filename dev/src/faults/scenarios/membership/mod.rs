//! Workers come, go, freeze and wake up.

mod double;
mod frozen;
mod rebalances;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{NO_HINDRANCE, Scenario};
use crate::faults::{Scene, Worker};
use crate::wait::{eventually, until};

/// This family.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hurried",
        what: "SIGTERM comes twice, then SIGKILL: the second signal ends the worker at once, and nothing is lost.",
        rounds_quick: 2,
        rounds_full: 10,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| hurried(scene).boxed_local(),
    },
    Scenario {
        name: "frozen-mid-copy",
        what: "A worker freezes in a COPY, another takes over and ends its session, and the first wakes up later.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| frozen::mid_copy(scene).boxed_local(),
    },
    Scenario {
        name: "frozen-between-batches",
        what: "A worker freezes with records in hand but no transaction, and wakes up when they are another's.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| frozen::between_batches(scene).boxed_local(),
    },
    Scenario {
        name: "frozen-at-commit",
        what: "A worker freezes between a COMMIT and its answer, with a successor meanwhile or with none.",
        rounds_quick: 1,
        rounds_full: 10,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| frozen::at_commit(scene).boxed_local(),
    },
    Scenario {
        name: "owned-twice",
        what: "Two workers both believe to own all partitions: only their claims keep them apart.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| double::owned_twice(scene).boxed_local(),
    },
    Scenario {
        name: "rebalance-storm",
        what: "Every two seconds a worker comes or goes, under load: afterwards no partition is idle.",
        rounds_quick: 0,
        rounds_full: 30,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| rebalances::storm(scene).boxed_local(),
    },
    Scenario {
        name: "rebalance-while-blocked",
        what: "A worker joins while a locked table blocks every lane: partitions move at once and nobody is expelled.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| rebalances::while_blocked(scene).boxed_local(),
    },
    Scenario {
        name: "paused-and-given-back",
        what: "PostgreSQL is slow, fetching pauses, the partitions go to another worker and come back: they are read on.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| rebalances::paused_and_given_back(scene).boxed_local(),
    },
];

/// What comes about within this time, or never.
const MET: Duration = Duration::from_secs(30);

async fn hurried(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        hurry(scene, round).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// The drain hangs in a batch when the second signal comes; SIGKILL comes instead of it, or right after.
async fn hurry(scene: &mut Scene, round: u32) -> Result<()> {
    let point = scene.random.choice(["mid-copy", "before-commit", "commit-sent"]).unwrap_or("mid-copy");
    let mut worker = scene.start_with_faults(scene.settings(), &format!("{point}:sleep=15s@*"))?;
    scene.produce(300).await?;
    worker.says("fail point", MET).await?;
    worker.signal(Signal::TERM)?;
    worker.says("stopping: ", MET).await?;
    sleep(Duration::from_millis(scene.random.u64(50..400))).await;
    ensure!(worker.process().is_running()?, "it did not wait for its batch");
    let asked = Instant::now();
    worker.signal(Signal::TERM)?;
    if round.is_multiple_of(2) {
        sleep(Duration::from_millis(scene.random.u64(0..4))).await;
        // It may have ended by now.
        drop(worker.signal(Signal::KILL));
    }
    let status = worker.ended(Duration::from_secs(2)).await?;
    ensure!(status.code().is_none_or(|code| code == 1), "it ended with {status}");
    ensure!(asked.elapsed() < Duration::from_secs(1), "the second signal took {:?}", asked.elapsed());
    Ok(())
}

/// Waits until these workers read so many partitions, each at least one.
async fn share(workers: &[&Worker], partitions: usize) -> Result<()> {
    let mut owned = Vec::new();
    let shared = until("all partitions are read", MET, async || {
        owned.clear();
        for worker in workers {
            owned.push(worker.metric("analytics_ingest_partitions_owned").await?);
        }
        let all: f64 = owned.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        Ok(owned.iter().all(|owned| *owned > 0.0) && (all - partitions as f64).abs() < 0.5)
    });
    shared.await.with_context(|| format!("{owned:?} of {partitions}"))
}

/// All partitions, by topic and number; a topic that was just made may not be known everywhere yet.
async fn partitions(scene: &Scene) -> Result<Vec<(String, i32)>> {
    let all = eventually("Kafka knows its topics", MET, async || {
        let ends = scene.bench.topics.ends(&scene.bench.prefix).await?;
        Ok(Some(ends.into_keys().collect()))
    });
    all.await
}
