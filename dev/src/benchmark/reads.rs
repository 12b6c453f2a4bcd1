//! What answers cost: the reader's, and PostgreSQL's own with the same statements.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use tokio::process::Command;
use tokio::time::Instant;

use super::asker::Asker;
use super::quantiles::Quantiles;
use super::questions::Question;
use crate::http::Server;

/// Clients that ask at the same time when it is about the rate, as many as connections of the reader by default.
const CLIENTS: usize = 8;
/// How long they ask: the first answers of new connections, which are slower, must not count for much.
const RATE_LASTS: Duration = Duration::from_secs(4);

/// Asks one after the other, so often.
///
/// # Errors
/// The reader does not answer.
pub async fn latency(reader: &Server, question: &Question, times: usize) -> Result<Quantiles> {
    let mut asker = Asker::of(reader).await?;
    let mut quantiles = Quantiles::default();
    for _ in 0..times {
        let asked = Instant::now();
        asker.ask(&question.path).await?;
        quantiles.add(asked.elapsed());
    }
    Ok(quantiles)
}

/// Answers a second to several clients.
///
/// # Errors
/// The reader does not answer.
pub async fn rate(reader: &Server, question: &Question) -> Result<f64> {
    let started = Instant::now();
    let client = |_| async {
        let mut asker = Asker::of(reader).await?;
        let mut answers = 0_u32;
        while started.elapsed() < RATE_LASTS {
            asker.ask(&question.path).await?;
            answers += 1;
        }
        anyhow::Ok(answers)
    };
    let answers: u32 = try_join_all((0..CLIENTS).map(client)).await?.into_iter().sum();
    Ok(f64::from(answers) / started.elapsed().as_secs_f64())
}

/// Transactions a second of `pgbench` with the question's statements, prepared with parameters and planned as the reader has
/// it, as the reader's login; none if the machine has no `pgbench`.
///
/// # Errors
/// It fails.
pub async fn pgbench(url: &str, question: &Question, folder: &Path) -> Result<Option<f64>> {
    let script = folder.join("question.sql");
    tokio::fs::write(&script, format!("{};\n", question.statements.join(";\n"))).await?;
    let values = question.values.iter().map(|(name, value)| format!("--define={name}={value}"));
    let output = Command::new("pgbench")
        .env("PGOPTIONS", "-c plan_cache_mode=force_custom_plan")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
        .args([format!("--client={CLIENTS}"), format!("--time={}", RATE_LASTS.as_secs())])
        .args(values)
        .arg("--file")
        .arg(&script)
        .arg(url)
        .output()
        .await;
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => output.context("pgbench cannot be run")?,
    };
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    Ok(Some(rate.with_context(|| format!("pgbench says no rate: {said}"))?.parse()?))
}

/// What PostgreSQL reads for an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Read {
    /// Rows that its scans return.
    pub rows: f64,
    /// Blocks of 8 KiB that it looks at, wherever they are.
    pub buffers: f64,
}

/// Runs the statements under `EXPLAIN (ANALYZE, BUFFERS)`.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn read(pool: &PgPool, question: &Question) -> Result<Read> {
    let mut read = Read::default();
    for statement in question.literally().filter(|statement| statement.contains("SELECT")) {
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {statement}");
        let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(pool).await?;
        let root = plan.pointer("/0/Plan").context("no plan")?;
        read.rows += scanned(root);
        read.buffers += number(root, "Shared Hit Blocks") + number(root, "Shared Read Blocks");
    }
    Ok(read)
}

fn scanned(plan: &Value) -> f64 {
    let own = plan.get("Relation Name").map(|_| number(plan, "Actual Rows") * number(plan, "Actual Loops"));
    let inner = plan.get("Plans").and_then(Value::as_array);
    own.unwrap_or(0.0) + inner.into_iter().flatten().map(scanned).sum::<f64>()
}

fn number(plan: &Value, name: &str) -> f64 {
    plan.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}
