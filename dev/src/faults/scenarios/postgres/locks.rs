use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use super::server::{MET, number, recovers, run, says, session, settled_worker, sql};
use crate::faults::{DRAIN, Scene, Worker};
use crate::wait::until;

const CHUNK: usize = 300;

/// Somebody locks a table for longer than a session waits for a lock: by turns the events and the counts.
pub async fn table_locked(scene: &mut Scene) -> Result<()> {
    scene.produce(CHUNK).await?;
    let mut worker = settled_worker(scene).await?;
    for (round, table) in (1..=scene.rounds).zip(["analytics_events", "event_counts"].into_iter().cycle()) {
        let readiness = worker.watch_readiness();
        let mut somebody = session(scene).await?;
        run(&mut somebody, &format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await?;
        scene.produce(CHUNK).await?;
        says(&readiness, "55P03").await.with_context(|| format!("round {round}, {table}"))?;
        run(&mut somebody, "COMMIT").await?;
        recovers(scene, &mut worker).await.with_context(|| format!("round {round}, {table}"))?;
    }
    keeps_its_partitions(&mut worker)?;
    worker.terminate(DRAIN).await
}

/// What PostgreSQL does to a lane must not cost the membership of the group.
fn keeps_its_partitions(worker: &mut Worker) -> Result<()> {
    let log = std::fs::read_to_string(&worker.process().log)?;
    ensure!(!log.contains("revoked"), "partitions were revoked; {}", worker.process().last_lines());
    Ok(())
}

/// A session locks the rows of the counts in the opposite order, again and again. It is never the one to be ended.
pub async fn deadlocks(scene: &mut Scene) -> Result<()> {
    scene.produce(2 * CHUNK).await?;
    let mut settings = scene.settings();
    // A session looks for a deadlock only once, a second after it began to wait. With a second lane in the knot it is
    // often one too early, and what unties it is the limit for locks.
    settings.insert("ANALYTICS_LANES".to_owned(), "1".to_owned());
    let mut worker = scene.start(settings)?;
    recovers(scene, &mut worker).await?;
    let traffic = scene.produce_in_background(400.0);
    let mut hostile = session(scene).await?;
    run(&mut hostile, "SET deadlock_timeout = '60s'").await?;
    for round in 1..=scene.rounds {
        let deadline = Instant::now() + MET;
        let before = deadlocks_so_far(scene).await?;
        while deadlocks_so_far(scene).await? == before {
            ensure!(Instant::now() < deadline, "round {round}: nobody was in the way of anybody");
            lock_backwards(&mut hostile).await?;
        }
    }
    // What is told to the statistics comes late.
    traffic.stop().await?;
    recovers(scene, &mut worker).await?;
    let retries = worker.metric(r#"analytics_ingest_retries_total{cause="unavailable"}"#).await?;
    ensure!(retries >= f64::from(scene.rounds), "only {retries} batches were written again");
    let log = tokio::fs::read_to_string(&worker.process().log).await?;
    ensure!(log.contains("40P01"), "no line tells of a deadlock; {}", worker.process().last_lines());
    worker.terminate(DRAIN).await
}

async fn lock_backwards(hostile: &mut sqlx::PgConnection) -> Result<()> {
    const HALF: &str =
        "SELECT FROM event_counts WHERE hour {} (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY hour)
                        FROM event_counts) ORDER BY hour DESC, series_id DESC FOR UPDATE";
    run(hostile, "BEGIN").await?;
    run(hostile, &HALF.replace("{}", ">=")).await?;
    sleep(Duration::from_millis(200)).await;
    run(hostile, &HALF.replace("{}", "<")).await?;
    run(hostile, "COMMIT").await
}

async fn deadlocks_so_far(scene: &Scene) -> Result<i64> {
    number(scene, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await
}

/// The database's default isolation is SERIALIZABLE, two workers write, and every third advance of an offset is refused as one
/// that cannot be serialized.
pub async fn serializable(scene: &mut Scene) -> Result<()> {
    let database = scene.bench.database.name.clone();
    sql(scene, &format!("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'"))
        .await?;
    sql(
        scene,
        "CREATE SEQUENCE audit.advances;
         CREATE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             IF nextval('audit.advances') % 3 = 0 THEN
                 RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
             END IF;
             RETURN new;
         END $$;
         CREATE TRIGGER refuse BEFORE UPDATE OF next_offset ON ingest_offsets
             FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse()",
    )
    .await?;
    let mut workers = [scene.start(scene.settings())?, scene.start(scene.settings())?];
    for worker in &mut workers {
        worker.ready().await?;
    }
    for round in 1..=scene.rounds {
        let before = advances(scene).await?;
        scene.produce(2 * CHUNK).await?;
        until("offsets are advanced, and refused", MET, async || Ok(advances(scene).await? >= before + 3))
            .await?;
        scene.healed();
        scene.caught_up().await.with_context(|| format!("round {round}"))?;
    }
    sql(scene, "DROP TRIGGER refuse ON ingest_offsets").await?;
    let mut retries = 0.0;
    for mut worker in workers {
        retries += worker.metric(r#"analytics_ingest_retries_total{cause="unavailable"}"#).await?;
        recovers(scene, &mut worker).await?;
        worker.terminate(DRAIN).await?;
    }
    ensure!(retries >= f64::from(scene.rounds), "only {retries} batches were written again");
    Ok(())
}

async fn advances(scene: &Scene) -> Result<i64> {
    number(scene, "SELECT last_value FROM audit.advances").await
}
