//! Every metric of this process: name, help, buckets and a function each. Nobody else names one.
#![expect(clippy::disallowed_macros, reason = "this is metrics.rs")]

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const REQUEST_DURATION: &str = "http_server_request_duration_seconds";
const REQUESTS_ACTIVE: &str = "http_server_active_requests";
const ROWS_READ: &str = "analytics_query_rows_read_total";
const ANSWER_MEMORY: &str = "analytics_query_answer_memory_bytes";
const ANSWERS_CUT: &str = "analytics_query_answers_cut_total";
const POOL_CONNECTIONS: &str = "analytics_query_pool_connections";
const POOL_LIMIT: &str = "analytics_query_pool_connections_limit";
const BUILD_INFO: &str = "build_info";

/// As in the other process: one histogram for both.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// One per process: a recorder cannot be taken back.
static RECORDER: OnceLock<(PrometheusHandle, Collector)> = OnceLock::new();

/// Begins to record; a second call (a test runs several services) changes nothing.
///
/// # Errors
/// Somebody else's recorder is there already.
pub fn install() -> anyhow::Result<()> {
    static ONCE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = ONCE.lock();
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(REQUEST_DURATION.to_owned()), &SECONDS)?
        .install_recorder()
        .context("metrics are recorded already")?;
    let process = Collector::default();
    process.describe();
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "Time from the request's head to the answer's head");
    describe_gauge!(REQUESTS_ACTIVE, "Requests that are being answered");
    describe_counter!(ROWS_READ, "Rows that PostgreSQL returned, by projection");
    describe_gauge!(ANSWER_MEMORY, Unit::Bytes, "Memory that long answers take, of ANALYTICS_ANSWER_MEMORY");
    describe_counter!(ANSWERS_CUT, "Answers that were cut off before their end, by reason");
    describe_gauge!(POOL_CONNECTIONS, "Connections to PostgreSQL, by state");
    describe_gauge!(POOL_LIMIT, "Most connections to PostgreSQL that may be open");
    describe_gauge!(BUILD_INFO, "Always 1; the label is the version");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    drop(RECORDER.set((handle, process)));
    Ok(())
}

/// Empties the histograms' buffers, which otherwise grow until somebody scrapes.
pub async fn upkeep(stop: CancellationToken) {
    let mut tick = interval(Duration::from_secs(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Some((handle, _)) = RECORDER.get() {
            handle.run_upkeep();
        }
    }
}

/// All metrics in Prometheus's text format.
#[must_use]
pub fn render() -> String {
    let Some((handle, process)) = RECORDER.get() else { return String::new() };
    process.collect();
    handle.render()
}

/// A request was answered. Labels are closed sets: patterns of routes, not paths.
pub fn http_request(method: &'static str, route: String, status: u16, took: Duration) {
    histogram!(REQUEST_DURATION, "method" => method, "route" => route, "status" => status.to_string())
        .record(took);
}

/// One more (`1.0`) or one fewer (`-1.0`) request is being answered.
pub fn active_requests(change: f64) {
    gauge!(REQUESTS_ACTIVE).increment(change);
}

/// Rows that a projection read.
pub fn rows_read(projection: &'static str, rows: usize) {
    counter!(ROWS_READ, "projection" => projection).increment(u64::try_from(rows).unwrap_or(0));
}

/// Long answers take so many bytes more, or fewer.
pub fn answer_memory(change: f64) {
    gauge!(ANSWER_MEMORY).increment(change);
}

/// An answer was cut off: `client_stalled`, `connection_stalled` or `failed`.
pub fn answer_cut(reason: &'static str) {
    counter!(ANSWERS_CUT, "reason" => reason).increment(1);
}

/// The pool at this moment.
pub fn pool(used: usize, idle: usize, limit: usize) {
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    gauge!(POOL_CONNECTIONS, "state" => "used").set(count(used));
    gauge!(POOL_CONNECTIONS, "state" => "idle").set(count(idle));
    gauge!(POOL_LIMIT).set(count(limit));
}
