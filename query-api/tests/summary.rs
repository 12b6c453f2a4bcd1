use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use query_api::budget::Budget;
use query_api::queries::aggregation::EventAggregationService;
use query_api::queries::range::Window;
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::harness::{Event, Service, event, store};

#[sqlx::test(migrations = "../migrations")]
async fn the_answer_is_the_original_services_to_the_letter(pool: PgPool) {
    let mut other_tenant = event("a", "2025-11-16T17:59:59.999999Z");
    other_tenant.tenant = Some(String::new());
    other_tenant.source = "elsewhere".to_owned();
    store(
        &pool,
        &[
            event("a", "2025-11-16T17:13:59.999999Z"), // before
            event("a", "2025-11-16T17:14:00Z"),        // the first instant
            other_tenant,
            event("b", "2025-11-16T18:13:59.999999Z"), // the last instant
            event("b", "2025-11-16T18:14:00Z"),        // after
        ],
    )
    .await;
    let service = Service::start(&pool).await;
    for mount in ["", "/api"] {
        let text = service
            .text(&format!("{mount}/v1/analytics/metrics/summary?reference=2025-11-16T18:14:00Z"))
            .await;
        assert_eq!(
            text,
            concat!(
                r#"{"windowStart":"2025-11-16T17:14:00+00:00","windowEnd":"2025-11-16T18:14:00+00:00","#,
                r#""eventsPerType":{"a":2,"b":1},"eventsPerInterval":["#,
                r#"{"bucketStart":"2025-11-16T17:10:00+00:00","count":1},"#,
                r#"{"bucketStart":"2025-11-16T17:50:00+00:00","count":1},"#,
                r#"{"bucketStart":"2025-11-16T18:10:00+00:00","count":1}]}"#
            )
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn without_parameters_it_is_the_last_hour_and_the_setting_is_obeyed(pool: PgPool) {
    for (flags, minutes) in [(&[][..], 60), (&["--metrics-window-minutes", "90"][..], 90)] {
        let service = Service::with(crate::harness::reader(&pool).await, flags).await;
        let before = query_api::clock::now();
        let summary = service.json("/v1/analytics/metrics/summary").await;
        let instant = |name: &str| summary[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        assert_eq!(instant("windowEnd") - instant("windowStart"), TimeDelta::minutes(minutes));
        assert!((instant("windowEnd") - before).abs() < TimeDelta::seconds(30));
        assert_eq!(summary["eventsPerType"], json!({}));
        assert_eq!(summary["eventsPerInterval"], json!([]));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reference_is_utc_without_an_offset_and_cut_to_microseconds(pool: PgPool) {
    let service = Service::start(&pool).await;
    for (reference, end) in [
        ("2025-11-16T18:14:00", "2025-11-16T18:14:00+00:00"),
        ("2025-11-16T20:14:00.5+02:00", "2025-11-16T18:14:00.500000+00:00"), // `+` as a space
        ("2025-11-16T20:14:00%2B02:00", "2025-11-16T18:14:00+00:00"),
        ("2025-11-16T18:14:00.123456999Z", "2025-11-16T18:14:00.123456+00:00"),
        ("2025-11-16", "2025-11-16T00:00:00+00:00"),
        ("0001-01-10", "0001-01-10T00:00:00+00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999+00:00"),
    ] {
        let path = format!("/v1/analytics/metrics/summary?windowMinutes=10080&reference={reference}");
        assert_eq!(service.json(&path).await["windowEnd"], end, "{reference}");
    }
}

/// Events of nine days, many of them where mistakes live: on borders of minutes and hours and a microsecond off.
fn events() -> Vec<Event> {
    let start: DateTime<Utc> = "2025-10-28T00:00:00Z".parse().unwrap();
    let mut runner = TestRunner::deterministic();
    let minutes = 9 * 24 * 60;
    let anywhere = (0..minutes * 60_000_000_i64).boxed();
    let border = (0..minutes, prop_oneof![Just(1), Just(60)], -1..=1_i64)
        .prop_map(move |(minute, unit, off)| minute / unit * unit * 60_000_000 + off);
    let instants = prop_oneof![anywhere, border];
    let mut events: Vec<_> = (0..4_000)
        .map(|number| {
            let micros = instants.new_tree(&mut runner).unwrap().current();
            let mut event = event(["a", "b", "c"][number % 3], "2025-10-28T00:00:00Z");
            event.at = start + TimeDelta::microseconds(micros);
            event.tenant = [None, Some(String::new()), Some("t".to_owned())][number % 7 % 3].clone();
            event.source = format!("source-{}", number % 2);
            event
        })
        .collect();
    events.dedup_by_key(|event| event.at);
    events
}

type Counts = BTreeMap<(DateTime<Utc>, String), i64>;

/// By another way: every event, cut into buckets by its epoch.
async fn recount(connection: &mut PgConnection, window: Window, minutes: i64) -> Counts {
    let rows: Vec<(DateTime<Utc>, String, i64)> = sqlx::query_as(
        "SELECT to_timestamp(floor(extract(epoch FROM occurred_at) / $3) * $3), event_type, count(*)
         FROM analytics_events WHERE occurred_at >= $1 AND occurred_at < $2 GROUP BY 1, 2",
    )
    .bind(window.start())
    .bind(window.end())
    .bind((minutes / 6).max(5) * 60)
    .fetch_all(connection)
    .await
    .unwrap();
    rows.into_iter().map(|(bucket, event_type, events)| ((bucket, event_type), events)).collect()
}

fn per<K: Ord>(counts: &Counts, key: impl Fn(&(DateTime<Utc>, String)) -> K) -> BTreeMap<K, i64> {
    counts.iter().fold(BTreeMap::new(), |mut sums, (both, events)| {
        *sums.entry(key(both)).or_default() += events;
        sums
    })
}

/// While somebody writes: one event and its minute per transaction.
async fn keep_writing(pool: PgPool) {
    for number in 0_i64.. {
        let at: DateTime<Utc> = "2025-11-01T12:00:00Z".parse().unwrap();
        let at = at + TimeDelta::microseconds(number * 7_919 % 7_200_000_000);
        let mut transaction = pool.begin().await.unwrap();
        let written = sqlx::query(
            "WITH event AS (INSERT INTO analytics_events (id, event_type, source, occurred_at, payload)
                            VALUES ($1, 'a', 'source-0', $2, '{}')),
                  series AS (SELECT id FROM event_series WHERE event_type = 'a' AND source = 'source-0'
                                                           AND tenant_id IS NULL)
             INSERT INTO event_counts (hour, series_id, shard, total, minutes)
             SELECT date_trunc('hour', $2, 'UTC'), id, 7, 1,
                    ARRAY(SELECT (m = extract(minute FROM $2))::integer FROM generate_series(0, 59) AS m)
             FROM series
             ON CONFLICT (hour, series_id, shard) DO UPDATE
             SET total = event_counts.total + 1,
                 minutes = ARRAY(SELECT a + b FROM unnest(event_counts.minutes, excluded.minutes) AS pair (a, b))",
        );
        written.bind(Uuid::new_v4()).bind(at).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_summary_equals_a_recount_for_1000_windows_while_events_arrive(pool: PgPool) {
    let events = events();
    store(&pool, &events).await;
    sqlx::query(
        "INSERT INTO event_series (source, event_type) VALUES ('source-0', 'a') ON CONFLICT DO NOTHING",
    )
    .execute(&pool)
    .await
    .unwrap();
    let writer = crate::harness::spawn(keep_writing(pool.clone()));

    let first: DateTime<Utc> = "2025-10-28T00:00:00Z".parse().unwrap();
    let anywhere =
        (0..10 * 24 * 3_600_000_000_i64).prop_map(move |micros| first + TimeDelta::microseconds(micros));
    let border = (0..10 * 24 * 60_i64, prop_oneof![Just(1_i64), Just(5), Just(60)], -1..=1_i64).prop_map(
        move |(minute, unit, off)| {
            first + TimeDelta::minutes(minute / unit * unit) + TimeDelta::microseconds(off)
        },
    );
    let at_an_event = (prop::sample::select(events), 0..=1_i64)
        .prop_map(|(event, off)| event.at + TimeDelta::microseconds(off));
    let ends = prop_oneof![anywhere, border, at_an_event];
    let lengths = prop_oneof![5_u32..=10_080, 5_u32..=200, Just(60), Just(10_080)];

    let handle = Handle::current();
    let test = tokio::task::spawn_blocking(move || {
        let budget = Budget::new(0);
        let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&(ends, lengths), |(end, minutes)| {
            handle.block_on(async {
                let window = Window::ending(end, minutes).unwrap();
                let mut snapshot =
                    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.unwrap();
                let summary =
                    EventAggregationService::summarize(&mut snapshot, window, &budget).await.unwrap();
                let expected = recount(&mut snapshot, window, i64::from(minutes)).await;
                if summary.per_bucket != per(&expected, |both| both.0)
                    || summary.per_type != per(&expected, |both| both.1.clone())
                {
                    let found = (summary.per_type, summary.per_bucket);
                    return Err(TestCaseError::fail(format!("{found:?} is not {expected:?}")));
                }
                Ok(())
            })
        })
    });
    test.await.unwrap().unwrap();
    assert!(!writer.is_finished(), "the writer stopped");
    writer.abort();
}
