use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::server::{recovers, says, settled_worker, sql, waits_calmly};
use super::sessions::all_sessions_ended;
use crate::faults::{DRAIN, Scene, Worker};
use crate::processes::Settings;
use crate::stack::Login;

const CHUNK: usize = 200;
/// Batches that are written again.
const RETRIES: &str = r#"analytics_ingest_retries_total{cause="unavailable"}"#;
/// How long nobody is let in.
const CLOSED: Duration = Duration::from_secs(3);

/// The server takes no writes: at first sessions that are open find out, then each that begins.
pub async fn read_only(scene: &mut Scene) -> Result<()> {
    scene.produce(CHUNK).await?;
    let mut worker = settled_worker(scene).await?;
    for round in 1..=scene.rounds {
        let done = becomes_read_only(scene, &mut worker).await;
        let put_back = writable(scene).await;
        done.and(put_back).with_context(|| format!("round {round}"))?;
    }
    worker.terminate(DRAIN).await
}

async fn becomes_read_only(scene: &mut Scene, worker: &mut Worker) -> Result<()> {
    let (readiness, refused) = (worker.watch_readiness(), worker.metric(RETRIES).await?);
    sql(scene, "ALTER SYSTEM SET default_transaction_read_only = on").await?;
    sql(scene, "SELECT pg_reload_conf()").await?;
    scene.produce(CHUNK).await?;
    says(&readiness, "takes no writes").await?;
    ensure!(worker.metric(RETRIES).await? > refused, "no batch was refused by a session that was open");
    waits_calmly(worker, CLOSED).await?;
    writable(scene).await?;
    recovers(scene, worker).await
}

async fn writable(scene: &Scene) -> Result<()> {
    sql(scene, "ALTER SYSTEM RESET default_transaction_read_only").await?;
    sql(scene, "SELECT pg_reload_conf()").await
}

/// A reason for which nobody is let in, and how it is put right.
struct Refusal {
    code: &'static str,
    closes: String,
    opens: String,
}

/// No connection is left, the password has changed, the right to connect is gone: one a round. The role is the scene's own.
pub async fn refused_at_the_door(scene: &mut Scene) -> Result<()> {
    let (database, role) = (scene.bench.database.name.clone(), format!("{}_w", scene.bench.database.name));
    sql(scene, &format!("CREATE ROLE {role} LOGIN PASSWORD 'first' IN ROLE analytics_writer")).await?;
    let refusals = [
        Refusal {
            code: "53300",
            closes: format!("ALTER DATABASE {database} CONNECTION LIMIT 0"),
            opens: format!("ALTER DATABASE {database} CONNECTION LIMIT -1"),
        },
        Refusal {
            code: "28P01",
            closes: format!("ALTER ROLE {role} PASSWORD 'second'"),
            opens: format!("ALTER ROLE {role} PASSWORD 'first'"),
        },
        Refusal {
            code: "42501",
            closes: format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"),
            opens: format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC"),
        },
    ];
    let outcome = every_refusal(scene, &role, &refusals).await;
    // The worker is gone by now, and its sessions with it.
    let put_back = sql(scene, &format!("DROP ROLE {role}")).await;
    outcome.and(put_back)
}

async fn every_refusal(scene: &mut Scene, role: &str, refusals: &[Refusal]) -> Result<()> {
    let mut worker = scene.start(settings_of(scene, role))?;
    worker.ready().await?;
    for (round, refusal) in (1..=scene.rounds).zip(refusals.iter().cycle()) {
        let done = refused(scene, &mut worker, refusal).await;
        let put_back = sql(scene, &refusal.opens).await;
        done.and(put_back).with_context(|| format!("round {round}, {}", refusal.code))?;
        // Whoever starts meanwhile waits as well.
        worker.terminate(DRAIN).await?;
        sql(scene, &refusal.closes).await?;
        worker = scene.start(settings_of(scene, role))?;
        let said = says(&worker.watch_readiness(), refusal.code).await;
        sql(scene, &refusal.opens).await?;
        said.with_context(|| format!("round {round}, {} at the start", refusal.code))?;
        recovers(scene, &mut worker).await?;
    }
    worker.terminate(DRAIN).await
}

async fn refused(scene: &mut Scene, worker: &mut Worker, refusal: &Refusal) -> Result<()> {
    scene.produce(CHUNK).await?;
    recovers(scene, worker).await?;
    let readiness = worker.watch_readiness();
    sql(scene, &refusal.closes).await?;
    all_sessions_ended(scene).await?;
    scene.produce(CHUNK).await?;
    says(&readiness, refusal.code).await?;
    waits_calmly(worker, CLOSED).await?;
    ensure!(readiness.samples().last().is_some_and(|look| look.not_ready.is_some()), "it says it is ready");
    sql(scene, &refusal.opens).await?;
    recovers(scene, worker).await
}

fn settings_of(scene: &Scene, role: &str) -> Settings {
    let mut settings = scene.settings();
    let url = scene.bench.database.url(Login::Writer);
    let server = url.rsplit_once('@').map_or("", |(_, server)| server);
    settings.insert("ANALYTICS_DATABASE_URL".to_owned(), format!("postgres://{role}:first@{server}"));
    settings
}
