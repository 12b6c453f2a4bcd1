//! The administrator's hand on the server that a scene uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::process::Command;

use crate::faults::watch::Readiness;
use crate::faults::{Scene, Worker};
use crate::stack::Login;
use crate::wait::until;

/// What is done to the server shows within this time, or never.
pub const MET: Duration = Duration::from_secs(30);

/// Statements in the scene's database, as the administrator.
pub async fn sql(scene: &Scene, statements: &str) -> Result<()> {
    let pool = &scene.bench.database.pool;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(pool)
        .await
        .with_context(|| statements.to_owned())?;
    Ok(())
}

/// A number from the scene's database, as the administrator.
pub async fn number(scene: &Scene, query: &str) -> Result<i64> {
    let query = AssertSqlSafe(query.to_owned());
    Ok(sqlx::query_scalar(query).fetch_one(&scene.bench.database.pool).await?)
}

/// A session of the administrator in the scene's database, which may be in the way of others.
pub async fn session(scene: &Scene) -> Result<PgConnection> {
    Ok(PgConnection::connect(&scene.bench.database.url(Login::Admin)).await?)
}

/// A session of the administrator beside the scene's database.
pub async fn outside(scene: &Scene) -> Result<PgConnection> {
    Ok(PgConnection::connect(&scene.bench.stack.url(Login::Admin, "postgres")).await?)
}

/// Statements, on this session.
pub async fn run(connection: &mut PgConnection, statements: &str) -> Result<()> {
    let text = AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(text).execute(connection).await.with_context(|| statements.to_owned())?;
    Ok(())
}

/// Ends all sessions of workers in the scene's database; their number.
pub async fn end_sessions(scene: &Scene) -> Result<i64> {
    number(
        scene,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND usename <> current_user",
    )
    .await
}

/// Where the server keeps its data.
pub async fn data_directory(scene: &Scene) -> Result<PathBuf> {
    let query = sqlx::query_scalar("SHOW data_directory");
    let directory: String = query.fetch_one(&scene.bench.database.pool).await?;
    Ok(PathBuf::from(directory))
}

/// Copies a folder with its owners and rights; what a run that was broken off has left there goes first.
pub async fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        tokio::fs::remove_dir_all(to).await?;
    }
    let output = Command::new("cp").arg("-a").arg(from).arg(to).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} could not be copied: {}", from.display(), said.trim());
    Ok(())
}

/// Starts a worker that is ready and has read what there is.
pub async fn settled_worker(scene: &mut Scene) -> Result<Worker> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    Ok(worker)
}

/// Waits until readiness gives this reason.
pub async fn says(readiness: &Readiness, reason: &str) -> Result<()> {
    let said = until("a reason in readiness", MET, async || Ok(readiness.first(reason).is_some())).await;
    said.or_else(|_| readiness.was_not_ready_because(reason))
}

/// Nothing is disturbed any more: everything sent so far gets in, and it is the same process that does it.
pub async fn recovers(scene: &mut Scene, worker: &mut Worker) -> Result<()> {
    scene.healed();
    scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    ensure!(worker.process().is_running()?, "the worker ended; {}", worker.process().last_lines());
    worker.ready().await
}

/// What must be true of a worker that can only wait: it does so without burning the processor.
pub async fn waits_calmly(worker: &mut Worker, how_long: Duration) -> Result<()> {
    let before = worker.cpu_seconds()?;
    tokio::time::sleep(how_long).await;
    let share = (worker.cpu_seconds()? - before) / how_long.as_secs_f64();
    ensure!(share < 0.25, "it used {:.0} % of a processor while it could only wait", share * 100.0);
    ensure!(worker.process().is_running()?, "the worker ended; {}", worker.process().last_lines());
    Ok(())
}
