//! How near the service comes to PostgreSQL's own speed. Ratios against a baseline of the same run: absolute figures are
//! the machine's.

mod asker;
pub mod report;
mod floor;
mod ingest;
mod latency;
mod quantiles;
mod questions;
mod reads;
mod rows;
mod steps;

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::TimeDelta;

use crate::bench::Bench;
use crate::clock;
use crate::faults::proxy::Proxy;
use crate::faults::scene::{behind, postgres};
use crate::load::{Load, LoadPlan, LoadRecord, Order};
use crate::stack::Login;
use report::{Bound, Report};
use rows::Rows;

/// Of PostgreSQL's answers when it is far away, one way.
const HALF_OF_FAR: Duration = Duration::from_micros(2_500);
/// Days over which a million events are spread.
const DAYS_OF_A_MILLION: i64 = 6;
/// The worker's 4 µs an event where PostgreSQL takes 10 µs to copy it, as a ratio that machines can be compared by.
const WORKER_OF_COPY: f64 = 0.4;
/// Turns that the reader and `pgbench` take when it is about the rate of answers, since a machine's speed drifts.
const RATE_TURNS: usize = 2;

/// Which measurements, and how large.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Times that each is repeated.
    pub repeats: usize,
    /// Records of a run from Kafka.
    pub records: usize,
    /// With the table of ten million.
    pub large: bool,
    /// Parts by name; all if empty.
    pub parts: Vec<String>,
}

/// The parts of the benchmark.
pub const PARTS: [&str; 4] = ["ingest", "far", "latency", "reads"];

/// Measures.
///
/// # Errors
/// A server or a process fails.
pub async fn run(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut report = Report::default();
    let wanted = |part: &str| plan.parts.is_empty() || plan.parts.iter().any(|name| name == part);
    for repeat in 1..=plan.repeats {
        if wanted("ingest") {
            for order in [Order::Random, Order::Live] {
                say(&format!("{repeat} of {}: from Kafka, {} order", plan.repeats, named(order)));
                ingest(plan, order, &mut report).await.context("from Kafka")?;
            }
        }
        if wanted("far") {
            say(&format!("{repeat} of {}: PostgreSQL 5 ms away", plan.repeats));
            far(plan, &mut report).await.context("PostgreSQL 5 ms away")?;
        }
    }
    if wanted("latency") {
        for repeat in 1..=plan.repeats {
            say(&format!("{repeat} of {}: latency", plan.repeats));
            latencies(&mut report).await.context("latency")?;
        }
    }
    if wanted("reads") {
        for millions in if plan.large { vec![1, 10] } else { vec![1] } {
            say(&format!("reads from {millions},000,000 events"));
            reading(plan, millions, &mut report).await.context("reads")?;
        }
        compare_sizes(&mut report);
    }
    Ok(report)
}

fn named(order: Order) -> &'static str {
    match order {
        Order::Random => "random",
        Order::Live => "live",
    }
}

/// Live records of the density of a million in six days, random ones over all six, each of which becomes an event: what is
/// there already is measured by the replays.
fn load(records: usize, order: Order) -> Result<Vec<LoadRecord>> {
    let until = clock::now();
    let of_a_million = TimeDelta::days(DAYS_OF_A_MILLION);
    let span = match order {
        Order::Random => of_a_million,
        Order::Live => of_a_million * i32::try_from(records)? / 1_000_000,
    };
    let plan = LoadPlan { seed: 7, records, from: until - span, until, order, faults_per_mille: 0 };
    Ok(Load::new(plan).filter(|record| record.fact().is_some()).collect())
}

/// From Kafka to committed, the same again as a replay, and what PostgreSQL does with the same rows.
async fn ingest(plan: &Plan, order: Order, report: &mut Report) -> Result<()> {
    let (name, random) = (named(order), order == Order::Random);
    let records = load(plan.records, order)?;
    let bench = ingest::filled(&format!("bench_{name}"), &records).await?;
    let settings = ingest::settings(&bench, &bench.group);
    let run = ingest::run(&bench, &bench.group, settings, records.len()).await?;
    let group = format!("replay/{}", bench.group);
    let settings = ingest::settings(&bench, &group);
    let replay = ingest::run(&bench, &group, settings, records.len()).await?;

    let pool = &bench.database.pool;
    let rows = Rows::stored(pool).await?;
    let writer = bench.database.url(Login::Writer);
    let one = floor::measure(&writer, pool, &rows, random, 1).await?;
    let two = floor::measure(&writer, pool, &rows, random, 2).await?;

    let least = if random { 0.9 } else { 1.1 };
    report.ratio(format!("{name} order ÷ one COPY stream"), run.rate / one.rate, Some(Bound::AtLeast(least)));
    report.ratio(
        format!("replay of {name} order ÷ one COPY stream"),
        replay.rate / one.rate,
        Some(Bound::AtLeast(0.5)),
    );
    report.ratio(format!("two COPY streams ÷ one, {name} order"), two.rate / one.rate, None);
    report.ratio(
        format!("processor: worker ÷ PostgreSQL's for one COPY stream, {name} order"),
        run.worker_micros / one.postgres_micros,
        Some(Bound::AtMost(WORKER_OF_COPY)),
    );
    report.note(format!("{name} order"), "rows/s", run.rate, None);
    report.note(format!("replay of {name} order"), "rows/s", replay.rate, None);
    report.note(format!("one COPY stream, {name} order"), "rows/s", one.rate, None);
    for (streams, floor) in [("one COPY stream", &one), ("two COPY streams", &two)] {
        report.note(format!("{streams}, {name} order: PostgreSQL"), "µs", floor.postgres_micros, None);
    }
    for (what, run) in [(format!("{name} order"), &run), (format!("replay of {name} order"), &replay)] {
        report.note(format!("{what}: worker"), "µs", run.worker_micros, Some(Bound::AtMost(4.0)));
        report.note(format!("{what}: PostgreSQL"), "µs", run.postgres_micros, None);
        report.note(format!("{what}: peak memory"), "MiB", run.peak_megabytes, Some(Bound::AtMost(150.0)));
        for (stage, micros) in run.stages.iter().filter(|(_, micros)| **micros >= 0.005) {
            report.note(format!("{what}: stage {stage}, elapsed"), "µs", *micros, None);
        }
    }
    let (each, mut rest) = (ingest::Micros::each(records.len())?, run.worker_micros);
    for (step, took) in steps::measure(&records)?.named() {
        let micros = each.of(took.as_secs_f64());
        rest -= micros;
        report.note(format!("{name} order: {step}, by itself"), "µs", micros, None);
    }
    report.note(format!("{name} order: rest of the worker"), "µs", rest, None);
    bench.remove().await
}

/// What a network costs: lanes wait side by side.
async fn far(plan: &Plan, report: &mut Report) -> Result<()> {
    let records = load(plan.records, Order::Live)?;
    let bench = ingest::filled("bench_far", &records).await?;
    let proxy = Proxy::to(postgres(&bench)?).await?;
    proxy.change(|rules| rules.both(|flow| flow.delay = HALF_OF_FAR));
    let mut rates = Vec::new();
    for lanes in ["1", "2"] {
        let group = format!("{}-{lanes}", bench.group);
        let mut settings = ingest::settings(&bench, &group);
        settings.insert("ANALYTICS_LANES".to_owned(), lanes.to_owned());
        settings.insert(
            "ANALYTICS_DATABASE_URL".to_owned(),
            behind(&bench.database.url(Login::Writer), proxy.address()),
        );
        sqlx::query("TRUNCATE analytics_events, event_ids, event_counts")
            .execute(&bench.database.pool)
            .await?;
        rates.push(ingest::run(&bench, &group, settings, records.len()).await?.rate);
    }
    let pool = &bench.database.pool;
    let rows = Rows::stored(pool).await?;
    let writer = behind(&bench.database.url(Login::Writer), proxy.address());
    let one = floor::measure(&writer, pool, &rows, false, 1).await?.rate;
    if let [single, double] = rates.as_slice() {
        report.ratio("5 ms away: live order ÷ one COPY stream", double / one, None);
        report.ratio("5 ms away: two lanes ÷ one", double / single, None);
        report.note("5 ms away: live order", "rows/s", *double, None);
    }
    bench.remove().await
}

/// From produced to visible, and what an HTTP client waits for.
async fn latencies(report: &mut Report) -> Result<()> {
    let bench = ingest::filled("bench_latency", &[]).await?;
    let mut worker = bench.worker_with(ingest::settings(&bench, &bench.group)).await?;
    let lasts = Duration::from_secs(10);
    let (first, visible) = latency::produce_to_visible(&bench, &bench.group, 1_000, lasts).await?;
    report.note("produced to visible, the slowest of the first 2 s", "ms", first.millis(1.0), None);
    report.note("produced to visible, 1,000 a second, p50", "ms", visible.millis(0.5), None);
    report.note(
        "produced to visible, 1,000 a second, p99",
        "ms",
        visible.millis(0.99),
        Some(Bound::AtMost(250.0)),
    );
    let (rate, answers) = latency::post(&worker.server, 64, Duration::from_secs(5)).await?;
    report.note("POST, 64 clients", "/s", rate, Some(Bound::AtLeast(5_000.0)));
    report.note("POST, 64 clients, p50", "ms", answers.millis(0.5), None);
    report.note("POST, 64 clients, p99", "ms", answers.millis(0.99), None);
    worker.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

/// Answers from a table of so many millions.
async fn reading(plan: &Plan, millions: usize, report: &mut Report) -> Result<()> {
    let records = load(millions * 1_000_000, Order::Live)?;
    let bench = ingest::filled("bench_reads", &records).await?;
    let run =
        ingest::run(&bench, &bench.group, ingest::settings(&bench, &bench.group), records.len()).await?;
    report.note(format!("{millions} M live order"), "rows/s", run.rate, None);
    report.note(
        format!("{millions} M live order: peak memory"),
        "MiB",
        run.peak_megabytes,
        Some(Bound::AtMost(150.0)),
    );
    drop(records);
    let pool = &bench.database.pool;
    sqlx::query("VACUUM (ANALYZE)").execute(pool).await?;
    let reader_url = bench.database.url(Login::Reader);
    let questions = questions::all(clock::now());
    for question in &questions {
        bench.stack.run(&["restart-postgres", "fast"]).await?;
        let mut reader = bench.reader().await?;
        let cold = reads::latency(&reader.server, question, 1).await?;
        report.note(format!("{} of {millions} M, cold", question.name), "ms", cold.millis(1.0), None);
        reader.terminate(Duration::from_secs(10)).await?;
    }
    let mut reader = bench.reader().await?;
    for repeat in 0..plan.repeats {
        for question in &questions {
            let what = format!("{} of {millions} M", question.name);
            let warm = reads::latency(&reader.server, question, 300).await?;
            let most = if question.name.starts_with("recent") { 5.0 } else { 10.0 };
            report.note(format!("{what}, p50"), "ms", warm.millis(0.5), None);
            report.note(format!("{what}, p99"), "ms", warm.millis(0.99), Some(Bound::AtMost(most)));
            let (mut ours, mut theirs) = (0.0, 0.0);
            for _ in 0..RATE_TURNS {
                ours += reads::rate(&reader.server, question).await?;
                theirs +=
                    reads::pgbench(&reader_url, question, &bench.stack.folder).await?.unwrap_or(f64::NAN);
            }
            if theirs.is_finite() {
                report.ratio(format!("{what}: answers ÷ pgbench"), ours / theirs, Some(Bound::AtLeast(0.6)));
            }
            report.note(format!("{what}: answers"), "/s", ours / RATE_TURNS as f64, None);
            if repeat == 0 {
                let read = reads::read(pool, question).await?;
                report.note(format!("{what}: read"), "rows", read.rows, None);
                report.note(format!("{what}: looked at"), "blocks", read.buffers, None);
            }
        }
    }
    let peak = reader.peak_megabytes()?;
    report.note(format!("reader of {millions} M: peak memory"), "MiB", peak, Some(Bound::AtMost(60.0)));
    busy(&bench, &reader.server, &questions, millions, report).await?;
    reader.terminate(Duration::from_secs(10)).await?;
    bench.remove().await
}

/// While 5,000 events a second arrive.
async fn busy(
    bench: &Bench,
    reader: &crate::http::Server,
    questions: &[questions::Question],
    millions: usize,
    report: &mut Report,
) -> Result<()> {
    let mut worker = bench.worker_with(ingest::settings(bench, &bench.group)).await?;
    let arriving = load(60_000, Order::Live)?;
    let answers = async {
        for question in questions {
            let warm = reads::latency(reader, question, 300).await?;
            let what = format!("{} of {millions} M while 5,000/s arrive, p99", question.name);
            report.note(what, "ms", warm.millis(0.99), None);
        }
        anyhow::Ok(())
    };
    // The answers take less time than the events.
    let ((), ()) = tokio::try_join!(bench.produce(&arriving, Some(5_000.0)), answers)?;
    worker.terminate(Duration::from_secs(30)).await?;
    Ok(())
}

fn compare_sizes(report: &mut Report) {
    for question in questions::all(clock::now()) {
        let of = |millions| report.median(&format!("{} of {millions} M, p50", question.name));
        if let (Some(small), Some(large)) = (of(1), of(10)) {
            let bound = question.name.starts_with("summary").then_some(Bound::AtMost(1.3));
            report.ratio(format!("{}: 10 M ÷ 1 M", question.name), large / small, bound);
        }
    }
}
