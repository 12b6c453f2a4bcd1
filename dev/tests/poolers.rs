//! A pooler that shares sessions among clients is refused by both processes, one that does not is none of their business.

use std::time::Duration;

use anyhow::{Result, ensure};
use dev::bench::Bench;
use dev::pooler::Pooler;
use dev::processes::{Process, Settings, free_port, verdict};
use dev::stack::Login;
use dev::wait::until;
use serde_json::json;

const SENTENCE: &str = "gives one session to several clients";
const ADVICE: &str = "connect to PostgreSQL itself, or use pool_mode=session";
const SOON: Duration = Duration::from_secs(30);
/// Idle sessions come back in turn: who asks twice is given another one.
const IN_TURN: &str = "server_round_robin = 1";
/// Whoever is not the first waits for the only one.
const ONLY_ONE: &str = "default_pool_size = 1";

struct Both {
    bench: Bench,
    pooler: Pooler,
    worker: Settings,
    reader: Settings,
}

impl Both {
    async fn new(name: &str) -> Result<Self> {
        let bench = Bench::new(name).await?;
        let [writer, reader] = [Login::Writer, Login::Reader].map(|login| bench.database.url(login));
        let pooler = Pooler::before(&writer, &[&writer, &reader])?;
        let mut worker = bench.worker_settings(&bench.group);
        worker.insert("ANALYTICS_DATABASE_URL".to_owned(), pooler.through(&writer)?);
        let reader = [("ANALYTICS_READ_DATABASE_URL".to_owned(), pooler.through(&reader)?)];
        Ok(Self { bench, pooler, worker, reader: Settings::from(reader) })
    }

    async fn checks_say(&self, code: i32, sentences: &[&str]) -> Result<()> {
        for (binary, settings) in [("ingest-worker", &self.worker), ("query-api", &self.reader)] {
            let (found, said) = verdict(binary, "check", settings).await?;
            let says = sentences.iter().all(|sentence| said.contains(sentence));
            ensure!(found == code && says, "{binary} check ended with {found}: {said}");
        }
        Ok(())
    }

    fn start(&self) -> Result<[Process; 2]> {
        let port = free_port(0)?;
        let mut settings = self.reader.clone();
        settings.insert("ANALYTICS_SERVICE_PORT".to_owned(), port.to_string());
        let log = self.bench.logs.join("query-api.log");
        let reader = Process::start("query-api", "serve", &settings, port, &log)?;
        Ok([self.bench.start_worker(self.worker.clone())?, reader])
    }
}

async fn is_refused(process: &mut Process) -> Result<()> {
    let mut last = String::new();
    let refused = until("it says that the session is shared", SOON, async || {
        last = process.server.get("/health/ready").await?.text;
        Ok(last.contains(SENTENCE) && last.contains(ADVICE))
    });
    refused.await.map_err(|error| error.context(last).context(process.last_lines()))?;
    ensure!(process.is_running()?, "{} has ended", process.name);
    Ok(())
}

#[tokio::test]
async fn check_refuses_shared_sessions_however_they_are_handed_out() -> Result<()> {
    let mut both = Both::new("pooler_checks").await?;
    for (mode, more) in [
        ("transaction", ""),
        ("transaction", IN_TURN),
        ("transaction", ONLY_ONE),
        ("transaction", "server_reset_query_always = 1"),
        ("statement", ""),
        ("statement", IN_TURN),
        ("statement", ONLY_ONE),
    ] {
        both.pooler.run(mode, more).await?;
        both.checks_say(3, &[SENTENCE, ADVICE])
            .await
            .map_err(|error| error.context(format!("{mode} {more}")))?;
    }
    both.pooler.run("session", "").await?;
    both.checks_say(0, &["no pooler shares it", "Nothing is wrong"]).await?;
    both.bench.remove().await
}

#[tokio::test]
async fn processes_wait_for_a_session_of_their_own_and_claim_nothing() -> Result<()> {
    let mut both = Both::new("pooler_runs").await?;
    both.pooler.run("transaction", "").await?;
    let [mut worker, mut reader] = both.start()?;
    for process in [&mut worker, &mut reader] {
        is_refused(process).await?;
    }
    let claims: i64 = sqlx::query_scalar("SELECT count(*) FROM ingest_offsets")
        .fetch_one(&both.bench.database.pool)
        .await?;
    ensure!(claims == 0, "{claims} partitions were claimed through a shared session");

    // Whoever mends it need not start them again, and neither they nor others may be confused by what was before.
    both.pooler.run("session", "").await?;
    worker.ready().await?;
    reader.ready().await?;
    let body = json!({ "eventType": "a", "source": "s", "payload": {} });
    let answer = worker.server.post("/v1/analytics/events", body.to_string()).await?;
    ensure!(answer.status.as_u16() == 201, "{} {}", answer.status, answer.text);
    let recent = reader.server.get_json("/v1/analytics/events/recent?limit=1").await?;
    ensure!(recent["count"] == 1, "{recent}");

    // One that is put in between later.
    both.pooler.run("statement", "").await?;
    for process in [&mut worker, &mut reader] {
        is_refused(process).await?;
        process.terminate(SOON).await?;
    }
    both.bench.remove().await
}
