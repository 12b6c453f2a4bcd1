use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use super::server::{MET, end_sessions, number, recovers, sql};
use crate::faults::{DRAIN, Scene, Worker};
use crate::wait::until;

/// Records of one round: some batches of a hundred.
const CHUNK: usize = 300;

/// The session is ended while a COPY is under way.
pub async fn ended_mid_copy(scene: &mut Scene) -> Result<()> {
    // Long enough to be found in the list of sessions.
    let mut worker = scene.start_with_faults(scene.settings(), "mid-copy:sleep=100ms@*")?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        let deadline = Instant::now() + MET;
        while !a_copy_is_ended(scene).await? {
            ensure!(Instant::now() < deadline, "round {round}: no COPY; {}", worker.process().last_lines());
        }
        recovers(scene, &mut worker).await.with_context(|| format!("round {round}"))?;
    }
    let retries = worker.metric(r#"analytics_ingest_retries_total{cause="unavailable"}"#).await?;
    ensure!(retries >= f64::from(scene.rounds), "only {retries} batches were written again");
    worker.terminate(DRAIN).await
}

/// Sends records and ends the first session that waits in the middle of a COPY, whichever way the events take.
async fn a_copy_is_ended(scene: &Scene) -> Result<bool> {
    scene.produce(CHUNK).await?;
    let ended = until("a COPY is ended", Duration::from_secs(1), async || {
        let ended = sqlx::query_scalar::<_, bool>(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'COPY %' AND state = 'active'
               AND wait_event = 'ClientRead'
             LIMIT 1",
        );
        Ok(ended.fetch_optional(&scene.bench.database.pool).await? == Some(true))
    });
    Ok(ended.await.is_ok())
}

/// The session is ended while its COMMIT waits for a standby that does not exist: the batch is in, the worker gets an
/// error. The worker must find out that it is in: what it reads again is counted as duplicates, which the totals show.
pub async fn ended_during_commit(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    let mut outcome = Ok(());
    for round in 1..=scene.rounds {
        let done = during_commit(scene, &mut worker).await;
        let put_back = confirm_locally(scene).await;
        outcome = done.and(put_back).with_context(|| format!("round {round}"));
        if outcome.is_err() {
            break;
        }
    }
    outcome?;
    let errors = worker.metric(r#"analytics_ingest_retries_total{cause="unavailable"}"#).await?;
    ensure!(errors >= f64::from(scene.rounds), "only {errors} times the worker got an error");
    worker.terminate(DRAIN).await
}

async fn during_commit(scene: &mut Scene, worker: &mut Worker) -> Result<()> {
    scene.produce(CHUNK).await?;
    recovers(scene, worker).await?;
    let before = scene.bench.accounted(&scene.bench.group).await?;
    sql(scene, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await?;
    sql(scene, "SELECT pg_reload_conf()").await?;
    scene.produce(CHUNK).await?;
    let deadline = Instant::now() + MET;
    loop {
        ensure!(
            Instant::now() < deadline,
            "no COMMIT waited for a standby; {}",
            worker.process().last_lines()
        );
        until("somebody waits for the standby", MET, async || {
            Ok(number(scene, &waiting("count(*)")).await? > 0)
        })
        .await?;
        let commits = number(scene, &waiting("count(*) FILTER (WHERE query = 'COMMIT')")).await?;
        // Whatever waits (a series that is made waits as well): committed here, and the client does not hear of it.
        let ended = number(scene, &waiting("count(pg_terminate_backend(pid))")).await?;
        if commits > 0 && ended > 0 {
            break;
        }
    }
    until("the batch is in", MET, async || Ok(scene.bench.accounted(&scene.bench.group).await? > before))
        .await?;
    confirm_locally(scene).await?;
    recovers(scene, worker).await
}

fn waiting(what: &str) -> String {
    format!(
        "SELECT {what} FROM pg_stat_activity
         WHERE datname = current_database() AND usename <> current_user AND wait_event = 'SyncRep'"
    )
}

/// Nobody waits for a standby any more.
async fn confirm_locally(scene: &Scene) -> Result<()> {
    sql(scene, "ALTER SYSTEM RESET synchronous_standby_names").await?;
    sql(scene, "SELECT pg_reload_conf()").await
}

/// All sessions of workers are ended at once.
pub async fn all_sessions_ended(scene: &Scene) -> Result<()> {
    let ended = end_sessions(scene).await?;
    ensure!(ended > 0, "the worker had no session");
    Ok(())
}
