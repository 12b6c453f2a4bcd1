//! The network between a worker and PostgreSQL cuts, loses, delays.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{NO_HINDRANCE, Scenario};
use crate::faults::proxy::{COMMIT, Moment, Trap};
use crate::faults::{DRAIN, Scene, Worker};
use crate::wait::until;

/// This family.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "cut-around-commit",
    what: "The connection is cut just before PostgreSQL gets a COMMIT, or just before its answer gets back.",
    rounds_quick: 6,
    rounds_full: 100,
    alone: false,
    hindrance: NO_HINDRANCE,
    run: |scene| cut_around_commit(scene).boxed_local(),
}];

/// Records of one round: some batches of a hundred.
const CHUNK: usize = 300;
/// A COMMIT comes within this time, or never.
const MET: Duration = Duration::from_secs(30);

async fn cut_around_commit(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.through_proxy(scene.settings()))?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        let moment = if round % 2 == 0 { Moment::BeforeServerHasThem } else { Moment::BeforeClientHasAnswer };
        cut_at(scene, &mut worker, moment).await.with_context(|| format!("round {round}, {moment:?}"))?;
    }
    worker.terminate(DRAIN).await
}

async fn cut_at(scene: &mut Scene, worker: &mut Worker, moment: Moment) -> Result<()> {
    let before = scene.proxy.trapped();
    let spares = scene.random.u32(0..3);
    scene.proxy.set_trap(Trap { spares, ..Trap::once(COMMIT, moment) });
    let deadline = Instant::now() + MET;
    while scene.proxy.trapped() == before {
        ensure!(Instant::now() < deadline, "no COMMIT came; {}", worker.process().last_lines());
        scene.produce(CHUNK).await?;
        drop(until("a cut", Duration::from_secs(1), async || Ok(scene.proxy.trapped() > before)).await);
    }
    scene.healed();
    scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    ensure!(worker.process().is_running()?, "the worker ended; {}", worker.process().last_lines());
    Ok(())
}
