use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};

use super::server::{MET, copy, data_directory, outside, recovers, run};
use crate::clock;
use crate::faults::{DRAIN, Scene, Worker};
use crate::wait::{eventually, until};

const CHUNK: usize = 400;

/// The database is dropped and an older copy of it takes its place, while Kafka and what was told to it stay. By turns the
/// worker runs all the time or is started afterwards; and the copy is of yesterday, or of the day before the first record.
pub async fn database_restored(scene: &mut Scene) -> Result<()> {
    let (own, empty) = (scene.bench.database.name.clone(), format!("{}_empty", scene.bench.database.name));
    let backup = format!("{own}_backup");
    copy_database(scene, &own, &empty).await?;
    scene.produce(CHUNK).await?;
    for round in 1..=scene.rounds {
        let runs_on = round % 2 == 1;
        let from_empty = (round / 2) % 2 == 1;
        let mut worker = scene.start(scene.settings())?;
        recovers(scene, &mut worker).await?;
        copy_database(scene, if from_empty { &empty } else { &own }, &backup).await?;
        let lost = is_ahead_of_the_copy(scene, &mut worker).await?;
        if !runs_on {
            worker.terminate(DRAIN).await?;
        }
        replace_database(scene, &own, &backup).await?;
        went_back(scene, lost).await.with_context(|| format!("round {round}"))?;
        if !runs_on {
            worker = scene.start(scene.settings())?;
        }
        finds_everything_again(scene, worker).await.with_context(|| format!("round {round}"))?;
    }
    let mut admin = outside(scene).await?;
    run(&mut admin, &format!("DROP DATABASE {empty}")).await
}

/// The server is stopped as if its machine had lost power, and starts with an older copy of its data directory.
pub async fn data_directory_restored(scene: &mut Scene) -> Result<()> {
    let data = data_directory(scene).await?;
    let folder = data.parent().context("the data are in no folder")?;
    let (backup, newest) = (folder.join("backup"), folder.join("newest"));
    scene.produce(CHUNK).await?;
    for round in 1..=scene.rounds {
        let done = directory_restored(scene, round % 2 == 1, &data, &backup, &newest).await;
        let put_back = server_runs(scene, &data, &newest, &backup).await;
        done.and(put_back).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

async fn directory_restored(
    scene: &mut Scene,
    runs_on: bool,
    data: &Path,
    backup: &Path,
    newest: &PathBuf,
) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    recovers(scene, &mut worker).await?;
    scene.bench.stack.run(&["stop-postgres", "fast"]).await?;
    copy(data, backup).await?;
    scene.bench.stack.run(&["start-postgres"]).await?;
    let lost = is_ahead_of_the_copy(scene, &mut worker).await?;
    if !runs_on {
        worker.terminate(DRAIN).await?;
    }
    scene.bench.stack.run(&["stop-postgres", "immediate"]).await?;
    tokio::fs::rename(data, newest).await?;
    tokio::fs::rename(backup, data).await?;
    scene.bench.stack.run(&["start-postgres"]).await?;
    went_back(scene, lost).await?;
    if !runs_on {
        worker = scene.start(scene.settings())?;
    }
    finds_everything_again(scene, worker).await
}

/// Whatever happened: there are data, and a server that runs on them.
async fn server_runs(scene: &Scene, data: &Path, newest: &Path, backup: &Path) -> Result<()> {
    if !data.exists() {
        tokio::fs::rename(newest, data).await?;
    }
    scene.bench.stack.run(&["start-postgres"]).await?;
    for left in [newest, backup] {
        if left.exists() {
            tokio::fs::remove_dir_all(left).await?;
        }
    }
    Ok(())
}

/// Between these instants there were steps that the copy does not know.
type Lost = (DateTime<Utc>, DateTime<Utc>);

/// Goes on behind the copy that has just been made, until Kafka has been told more than the copy knows.
async fn is_ahead_of_the_copy(scene: &mut Scene, worker: &mut Worker) -> Result<Lost> {
    let copied_at = clock::now();
    scene.produce(CHUNK).await?;
    recovers(scene, worker).await?;
    let reached = scene.bench.accounted(&scene.bench.group).await?;
    until("Kafka knows what is stored", MET, async || {
        Ok(scene.bench.topics.told(&scene.bench.group, &scene.bench.prefix).await? >= reached)
    })
    .await?;
    let lost = (copied_at, clock::now());
    ensure!(steps_between(scene, lost).await? > 0, "nothing happened behind the copy");
    Ok(lost)
}

/// The copy really has taken the place.
async fn went_back(scene: &Scene, lost: Lost) -> Result<()> {
    let steps = steps_between(scene, lost).await?;
    ensure!(steps == 0, "{steps} steps behind the copy are still there");
    Ok(())
}

async fn steps_between(scene: &Scene, (from, to): Lost) -> Result<i64> {
    eventually("the database answers", MET, async || {
        let steps = sqlx::query_scalar("SELECT count(*) FROM audit.steps WHERE noted_at BETWEEN $1 AND $2");
        Ok(Some(steps.bind(from).bind(to).fetch_one(&scene.bench.database.pool).await?))
    })
    .await
}

/// The offsets went back with the copy, and so did the notes of their steps: what is in them goes on from the copy.
async fn finds_everything_again(scene: &mut Scene, mut worker: Worker) -> Result<()> {
    recovers(scene, &mut worker).await?;
    scene.produce(CHUNK / 4).await?;
    recovers(scene, &mut worker).await?;
    worker.terminate(DRAIN).await
}

/// Nobody can be connected to a database that is copied.
async fn copy_database(scene: &Scene, from: &str, to: &str) -> Result<()> {
    let mut admin = outside(scene).await?;
    run(&mut admin, &format!("ALTER DATABASE {from} ALLOW_CONNECTIONS false")).await?;
    let copied = async {
        run(&mut admin, &end_all(from)).await?;
        run(&mut admin, &format!("DROP DATABASE IF EXISTS {to}")).await?;
        run(&mut admin, &format!("CREATE DATABASE {to} OWNER analytics_owner TEMPLATE {from}")).await
    };
    let copied = copied.await;
    run(&mut admin, &format!("ALTER DATABASE {from} ALLOW_CONNECTIONS true")).await?;
    copied
}

async fn replace_database(scene: &Scene, name: &str, backup: &str) -> Result<()> {
    let mut admin = outside(scene).await?;
    run(&mut admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await?;
    run(&mut admin, &end_all(name)).await?;
    run(&mut admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    run(&mut admin, &format!("ALTER DATABASE {backup} RENAME TO {name}")).await
}

fn end_all(database: &str) -> String {
    format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'")
}
