//! Every metric of the process: name, help, buckets, and a function each. Labels have closed sets of values; topic and
//! partition are as many as Kafka has.

#![expect(clippy::disallowed_macros, reason = "this is the one place")]

use std::{sync::OnceLock, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio_util::sync::CancellationToken;

use crate::decode::RejectionClass;

const RECORDS: &str = "analytics_ingest_records_total";
const DEAD_LETTERS: &str = "analytics_ingest_dead_letters_total";
const DISCONTINUITIES: &str = "analytics_ingest_discontinuities_total";
const CONFLICTING: &str = "analytics_ingest_conflicting_duplicates_total";
const FENCED: &str = "analytics_ingest_fenced_partitions_total";
const RETRIES: &str = "analytics_ingest_retries_total";
const BATCH_EVENTS: &str = "analytics_ingest_batch_events";
const BATCH_BYTES: &str = "analytics_ingest_batch_bytes";
const STAGE: &str = "analytics_ingest_stage_duration_seconds";
const TRANSACTION: &str = "analytics_ingest_transaction_duration_seconds";
const SKEW: &str = "analytics_ingest_event_time_skew_seconds";
const LAG_RECORDS: &str = "analytics_ingest_lag_records";
const LAG_SECONDS: &str = "analytics_ingest_lag_seconds";
const PARTITIONS: &str = "analytics_ingest_partitions_owned";
const BUFFERED: &str = "analytics_ingest_buffered_bytes";
const HTTP: &str = "http_server_request_duration_seconds";
const ACTIVE: &str = "http_server_active_requests";
const BUILD: &str = "build_info";

const COUNTS: [f64; 10] = [1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0];
const BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// As in the other process: one histogram for both.
const HTTP_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// From a second to a month.
const AGES: [f64; 9] = [0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 604_800.0, 2_592_000.0];

/// A closed set of label values; each begins at zero, so that a first increase is seen as one.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }
        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// What became of a record.
    RecordOutcome {
        /// It became an event.
        Event = "event",
        /// Its event was there already.
        Duplicate = "duplicate",
        /// It could not become an event.
        DeadLetter = "dead_letter",
        /// It has no value.
        Tombstone = "tombstone",
        /// An offset without a record.
        Gap = "gap",
        /// Its event lies before the retention horizon.
        Expired = "expired",
    }
}
label! {
    /// How events came in.
    Door {
        /// As records.
        Kafka = "kafka",
        /// As commands.
        Http = "http",
    }
}
label! {
    /// A part of a batch's way.
    Stage {
        /// Bytes to events, the whole batch.
        Decode = "decode",
        /// Ids from outside.
        EventIds = "event_ids",
        /// COPY into the table, and before it the look for what is there.
        Events = "events",
        /// Series and counts.
        ReadModels = "read_models",
        /// What was refused.
        DeadLetters = "dead_letters",
        /// Lock and advance.
        Offsets = "offsets",
        /// COMMIT.
        Commit = "commit",
    }
}
label! {
    /// Why what Kafka holds of a partition does not continue what is stored. A person should know.
    Discontinuity {
        /// Records were gone before they were read.
        Retention = "retention",
        /// The topic was recreated or truncated.
        NewIncarnation = "new_incarnation",
    }
}
label! {
    /// Why a batch was written again, or a partition claimed again.
    RetryCause {
        /// PostgreSQL is away or out of something.
        Unavailable = "unavailable",
        /// COPY met an event that was there.
        Duplicate = "duplicate",
        /// The month had no partition.
        MissingPartition = "missing_partition",
        /// PostgreSQL refused a row.
        Refused = "refused",
        /// A partition was not claimed: PostgreSQL is away, or its row is locked.
        Claim = "claim",
    }
}

/// Collects from now on; every call returns a handle on the same collection.
///
/// # Errors
/// Another recorder is installed.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(BATCH_EVENTS.to_owned()), &COUNTS)?
        .set_buckets_for_metric(Matcher::Full(BATCH_BYTES.to_owned()), &BYTES)?
        .set_buckets_for_metric(Matcher::Full(SKEW.to_owned()), &AGES)?
        .set_buckets_for_metric(Matcher::Full(HTTP.to_owned()), &HTTP_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    describe();
    begin();
    Ok(HANDLE.get_or_init(|| handle).clone())
}

fn describe() {
    describe_counter!(RECORDS, "Offsets accounted for, by what became of their record");
    describe_counter!(DEAD_LETTERS, "Records that could not become an event, by class");
    describe_counter!(
        CONFLICTING,
        "Duplicates by an id from outside that say something else than the first with it, which alone is kept: a producer gives ids twice"
    );
    describe_counter!(
        FENCED,
        "Partitions left out of a batch because another worker has claimed them; that worker reads them"
    );
    describe_counter!(
        DISCONTINUITIES,
        "Times that a partition did not continue what is stored, by reason: records were gone before they were read, or the topic was recreated or truncated"
    );
    describe_counter!(RETRIES, "Batches written again and claims repeated, by cause");
    describe_histogram!(BATCH_EVENTS, Unit::Count, "Events per committed batch");
    describe_histogram!(BATCH_BYTES, Unit::Bytes, "Bytes of records per committed batch");
    describe_histogram!(STAGE, Unit::Seconds, "Duration of a stage of one batch");
    describe_histogram!(
        TRANSACTION,
        Unit::Seconds,
        "Duration of a batch's whole transaction, commit included"
    );
    describe_histogram!(
        SKEW,
        Unit::Seconds,
        "How long before its commit an event occurred, the oldest of each batch"
    );
    describe_gauge!(
        LAG_RECORDS,
        Unit::Count,
        "Records in Kafka that are not yet committed here; 0 once the partition is another worker's"
    );
    describe_gauge!(
        LAG_SECONDS,
        Unit::Seconds,
        "Age of the oldest record not yet committed; 0 when there is none"
    );
    describe_gauge!(PARTITIONS, Unit::Count, "Kafka partitions that this worker reads");
    describe_gauge!(BUFFERED, Unit::Bytes, "Memory of records between fetch and commit");
    describe_histogram!(HTTP, Unit::Seconds, "Time from the request's head to the answer's head");
    describe_gauge!(ACTIVE, "Requests that are being answered");
    describe_gauge!(BUILD, "Always 1; the label is the version");
    Collector::default().describe();
}

fn begin() {
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for outcome in RecordOutcome::ALL {
        records(*outcome, 0);
    }
    for class in RejectionClass::ALL {
        dead_letter(*class, 0);
    }
    for cause in RetryCause::ALL {
        counter!(RETRIES, "cause" => cause.as_str()).increment(0);
    }
    for reason in Discontinuity::ALL {
        counter!(DISCONTINUITIES, "reason" => reason.as_str()).increment(0);
    }
    fenced(0);
    conflicting_duplicates(0);
    partitions_owned(0);
    buffered_bytes(0);
}

/// Empties what histograms have gathered, every few seconds: otherwise they grow until somebody scrapes.
pub async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    let mut timer = tokio::time::interval(Duration::from_secs(5));
    while stop.run_until_cancelled(timer.tick()).await.is_some() {
        handle.run_upkeep();
    }
}

/// The text of `/metrics`.
#[must_use]
pub fn render(handle: &PrometheusHandle) -> String {
    Collector::default().collect();
    handle.render()
}

/// Offsets accounted for, after the commit.
pub fn records(outcome: RecordOutcome, n: u64) {
    counter!(RECORDS, "outcome" => outcome.as_str()).increment(n);
}

/// Records that could not become an event, after the commit.
pub fn dead_letter(class: RejectionClass, n: u64) {
    counter!(DEAD_LETTERS, "class" => class.as_str()).increment(n);
}

/// Partitions left out of a batch since another worker has claimed them.
pub fn fenced(n: u64) {
    counter!(FENCED).increment(n);
}

/// Duplicates by an id from outside that say something else than the first, after the commit.
pub fn conflicting_duplicates(n: usize) {
    counter!(CONFLICTING).increment(n as u64);
}

/// A partition did not continue what is stored.
pub fn discontinuity(reason: Discontinuity) {
    counter!(DISCONTINUITIES, "reason" => reason.as_str()).increment(1);
}

/// A batch is about to be written again.
pub fn retry(cause: RetryCause) {
    counter!(RETRIES, "cause" => cause.as_str()).increment(1);
}

/// A committed batch.
pub fn batch(door: Door, events: usize, bytes: usize) {
    histogram!(BATCH_EVENTS, "door" => door.as_str()).record(float(events));
    histogram!(BATCH_BYTES, "door" => door.as_str()).record(float(bytes));
}

/// A part of a batch's way is done.
pub fn stage(stage: Stage, duration: Duration) {
    histogram!(STAGE, "stage" => stage.as_str()).record(duration);
}

/// A batch's transaction is done.
pub fn transaction(duration: Duration) {
    histogram!(TRANSACTION).record(duration);
}

/// How long before its commit the oldest event of a batch occurred.
pub fn event_time_skew(seconds: f64) {
    histogram!(SKEW).record(seconds);
}

/// How far behind a partition is.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub fn partition_lag(topic: &str, partition: i32, records: i64, seconds: f64) {
    let labels = [("topic", topic.to_owned()), ("partition", partition.to_string())];
    gauge!(LAG_RECORDS, &labels).set(records as f64);
    gauge!(LAG_SECONDS, &labels).set(seconds);
}

/// The partition is another worker's now. The exporter cannot forget a series; at 0 it stands in nobody's sum.
pub fn forget_partition(topic: &str, partition: i32) {
    partition_lag(topic, partition, 0, 0.0);
}

/// Kafka partitions that this worker reads.
pub fn partitions_owned(n: usize) {
    gauge!(PARTITIONS).set(float(n));
}

/// Memory of records between fetch and commit.
pub fn buffered_bytes(n: usize) {
    gauge!(BUFFERED).set(float(n));
}

/// An HTTP request is answered; `route` is the pattern, never the path.
pub fn http_request(method: &'static str, route: String, status: u16, duration: Duration) {
    let labels = [("method", method.to_owned()), ("route", route), ("status", status.to_string())];
    histogram!(HTTP, &labels).record(duration);
}

/// One more (`1.0`) or one fewer (`-1.0`) request is being answered.
pub fn active_requests(change: f64) {
    gauge!(ACTIVE).increment(change);
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn float(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_help_and_every_duration_its_buckets() {
        let handle = install().unwrap();
        install().unwrap();
        stage(Stage::Commit, Duration::from_millis(7));
        partition_lag("a.b", 2, 7, 0.5);
        http_request("GET", "/health".to_owned(), 200, Duration::from_millis(1));
        let text = render(&handle);
        for name in [
            RECORDS,
            DEAD_LETTERS,
            DISCONTINUITIES,
            RETRIES,
            CONFLICTING,
            FENCED,
            BUILD,
            LAG_RECORDS,
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} in {text}");
        }
        assert!(text.contains(r#"stage_duration_seconds_bucket{stage="commit",le="0.01"} 1"#), "{text}");
        assert!(text.contains(r#"analytics_ingest_lag_records{topic="a.b",partition="2"} 7"#), "{text}");
        assert!(text.contains(r#"discontinuities_total{reason="new_incarnation"} 0"#), "{text}");
        assert!(!text.contains("quantile"), "{text}");
    }
}
