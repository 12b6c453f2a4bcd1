//! From Kafka to committed, and what it costs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::floor;
use crate::bench::Bench;
use crate::load::LoadRecord;
use crate::processes::{Process, Settings};
use crate::usage;
use crate::wait::until;

/// How long a run may take: ten million at a sixth of the rate that is aimed at.
const PATIENCE: Duration = Duration::from_secs(600);
/// The metric of the worker's stages.
const STAGES: &str = "analytics_ingest_stage_duration_seconds_sum{stage=\"";

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Records a second, from the first claim to the last commit.
    pub rate: f64,
    /// Microseconds of processor a record: the worker's.
    pub worker_micros: f64,
    /// The same of PostgreSQL, all its processes.
    pub postgres_micros: f64,
    /// The worker's peak resident memory, megabytes of 2^20 bytes.
    pub peak_megabytes: f64,
    /// Elapsed microseconds a record by stage of the worker, its lanes added up.
    pub stages: BTreeMap<String, f64>,
}

/// A bench with four partitions a topic and these records in them.
///
/// # Errors
/// A server does not answer.
pub async fn filled(name: &str, records: &[LoadRecord]) -> Result<Bench> {
    let mut bench = Bench::bare(name).await?;
    bench.partitions = 4;
    bench.topics.create_default(&bench.prefix, bench.partitions).await?;
    bench.produce(records, None).await?;
    Ok(bench)
}

/// The settings that a user has without any.
#[must_use]
pub fn settings(bench: &Bench, group: &str) -> Settings {
    let mut settings = bench.worker_settings(group);
    settings.retain(|name, _| !name.contains("_PROPERTY_"));
    settings
}

/// Lets a worker read everything.
///
/// # Errors
/// It does not come to the end in time.
pub async fn run(bench: &Bench, group: &str, settings: Settings, records: usize) -> Result<Run> {
    floor::settle(&bench.database.pool).await?;
    let postgres = usage::postmaster(&bench.database.pool).await?;
    let before = usage::of_family(postgres)?;
    let mut worker = bench.start_worker(settings)?;
    let seconds = seconds_until_read(bench, group, records).await.with_context(|| worker.last_lines())?;
    let (cpu, postgres_cpu) = (worker.cpu_seconds()?, usage::of_family(postgres)? - before);
    let peak_megabytes = worker.peak_megabytes()?;
    let each = Micros::each(records)?;
    let stages = stages(&worker, &each).await?;
    let status = worker.terminate(Duration::from_secs(30)).await?;
    ensure!(status.success(), "the worker ended with {status}");
    Ok(Run {
        rate: 1e6 / each.of(seconds),
        worker_micros: each.of(cpu),
        postgres_micros: each.of(postgres_cpu),
        peak_megabytes,
        stages,
    })
}

/// By PostgreSQL's clock: a worker that starts and joins its group has done nothing yet.
async fn seconds_until_read(bench: &Bench, group: &str, records: usize) -> Result<f64> {
    let wanted = i64::try_from(records)?;
    let mut seconds = 0.0;
    until("everything is read", PATIENCE, async || {
        let (read, since_claimed): (i64, f64) = sqlx::query_as(
            "SELECT coalesce(sum(next_offset - start_offset), 0)::bigint,
                    coalesce(extract(epoch FROM clock_timestamp() - min(claimed_at)), 0)::float8
             FROM ingest_offsets WHERE consumer_group = $1 AND topic <> '@http'",
        )
        .bind(group)
        .fetch_one(&bench.database.pool)
        .await?;
        seconds = since_claimed;
        Ok(read >= wanted)
    })
    .await?;
    Ok(seconds)
}

async fn stages(worker: &Process, each: &Micros) -> Result<BTreeMap<String, f64>> {
    let text = worker.server.get("/metrics").await?.text;
    let stage = |line: &str| {
        let (stage, value) = line.strip_prefix(STAGES)?.split_once("\"} ")?;
        Some((stage.to_owned(), each.of(value.parse().ok()?)))
    };
    Ok(text.lines().filter_map(stage).collect())
}

/// Microseconds a record.
pub struct Micros(f64);

impl Micros {
    /// Of so many records.
    ///
    /// # Errors
    /// More than a run ever has.
    pub fn each(records: usize) -> Result<Self> {
        Ok(Self(f64::from(u32::try_from(records)?)))
    }

    /// What all of them took, for one.
    #[must_use]
    pub fn of(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.0
    }
}
