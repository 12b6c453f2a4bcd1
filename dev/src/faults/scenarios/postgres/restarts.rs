use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::server::{MET, number, recovers, says, session};
use crate::faults::{DRAIN, Scene};
use crate::wait::until;

/// Records a second meanwhile.
const PACE: f64 = 200.0;

/// The server restarts under load, by turns in an orderly way and as if its machine had lost power.
pub async fn server_restarted(scene: &mut Scene) -> Result<()> {
    under_load(scene, async |scene, round| {
        let how = if round % 2 == 0 { "immediate" } else { "fast" };
        scene.bench.stack.run(&["restart-postgres", how]).await.context(how)
    })
    .await
}

/// One session is killed: the server ends all others and recovers.
pub async fn session_killed(scene: &mut Scene) -> Result<()> {
    under_load(scene, async |scene, _| {
        let mut witness = session(scene).await?;
        let victim = number(
            scene,
            "SELECT pid::bigint FROM pg_stat_activity
             WHERE datname = current_database() AND usename <> current_user ORDER BY random() LIMIT 1",
        );
        let pid = i32::try_from(victim.await?)?;
        kill_process(Pid::from_raw(pid).context("no process")?, Signal::KILL)?;
        until("the server ends all sessions", MET, async || {
            Ok(sqlx::query("SELECT").execute(&mut witness).await.is_err())
        })
        .await
    })
    .await
}

async fn under_load(
    scene: &mut Scene,
    mut fault: impl AsyncFnMut(&mut Scene, u32) -> Result<()>,
) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    let traffic = scene.produce_in_background(PACE);
    for round in 1..=scene.rounds {
        scene.makes_progress().await?;
        sleep(Duration::from_millis(scene.random.u64(0..500))).await;
        let readiness = worker.watch_readiness();
        fault(scene, round).await?;
        says(&readiness, "PostgreSQL is away").await?;
        recovers(scene, &mut worker).await.with_context(|| format!("round {round}"))?;
    }
    traffic.stop().await?;
    recovers(scene, &mut worker).await?;
    worker.terminate(DRAIN).await
}
