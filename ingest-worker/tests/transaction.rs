use ingest_worker::batch::Totals;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::given::{TOPIC, Worker, an_event, instant, uuid};
use crate::stored::{self, check_books, next_offset, totals};

#[sqlx::test(migrations = "../migrations")]
async fn one_commit_writes_events_ids_counts_dead_letters_offsets_and_ledger(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let records = worker
        .batch()
        .event(0, &an_event(1))
        .refused(0, b"\0\xff")
        .event(1, &an_event(61).external(uuid(7)).of_tenant("acme"))
        .tombstone(0)
        .event(0, &an_event(2).of_tenant("").of_type("iam.user-registered"));
    let recorded = worker.record(records).await;

    assert_eq!(recorded.new, 3);
    assert!(recorded.lost.is_empty() && recorded.refused.is_empty());
    let zero = Totals { events: 2, dead_letters: 1, tombstones: 1, ..Totals::default() };
    assert_eq!(totals(&pool, 0).await, zero);
    assert_eq!(totals(&pool, 1).await, Totals { events: 1, ..Totals::default() });
    assert_eq!((next_offset(&pool, 0).await, next_offset(&pool, 1).await), (4, 1));
    for (table, rows) in [
        ("analytics_events", 3),
        ("event_ids", 1),
        ("event_counts", 3),
        ("event_series", 3),
        ("dead_letters", 1),
        ("ingest_ledger", 2),
    ] {
        assert_eq!(stored::rows(&pool, table).await.len(), rows, "{table}");
    }
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_event_is_stored_as_it_is(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let json = r#"{"big":1e400,"exact":0.1000000000000000055511151231257827,"text":"ä\ud83d\ude00\\"}"#;
    let draft =
        an_event(1).external(uuid(3)).at("2025-11-16T18:14:00.048931Z").of_tenant("acme").with_payload(json);
    let recorded = worker.record_events(&[draft]).await;

    let row: Value =
        sqlx::query_scalar("SELECT to_jsonb(e) - 'payload' - 'ingested_at' FROM analytics_events e")
            .fetch_one(&pool)
            .await
            .unwrap();
    let expected = json!({
        "id": uuid(3), "event_type": "challenges.solution-completed", "source": "challenges-service",
        "occurred_at": "2025-11-16T18:14:00.048931+00:00", "tenant_id": "acme", "actor_id": "student-1",
        "payload_bytes": null, // It is short.
    });
    assert_eq!(row, expected);
    let same =
        "SELECT payload = $1::text::jsonb AND payload::text LIKE '%0.1000000000000000055511151231257827%'
                   AND ingested_at = $2 FROM analytics_events";
    let same: bool = sqlx::query_scalar(same).bind(json).bind(recorded.at).fetch_one(&pool).await.unwrap();
    assert!(same);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_dead_letter_keeps_every_byte(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record(worker.batch().tombstone(0).refused(0, b"\0\xff{")).await;

    let letter: Value = sqlx::query_scalar(
        "SELECT to_jsonb(d) - 'digest' - 'refused_at' FROM dead_letters d WHERE octet_length(digest) = 32",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let expected = json!({
        "topic": TOPIC, "partition": 0, "incarnation": 1, "record_offset": 1,
        "record_key": "\\x6b00ff", "record_value": "\\x00ff7b",
        "record_headers": [["trace\u{fffd}id", "AP8=", "dHJhY2UAaWQ="], ["none", null], ["b\u{fffd}", null, "YsM="]],
        "record_timestamp": "2025-11-16T12:00:00+00:00", "timestamp_type": "create_time",
        "class": "not_json", "sentence": "expected value at line 1 column 1",
        "state": "open", "settled_at": null,
    });
    assert_eq!(letter, expected);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_last_record_of_each_partition_is_remembered(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker
        .record(worker.batch().event(0, &an_event(1)).gap(0, 3).event(0, &an_event(2)).end_beyond(0, 2))
        .await;
    let claim = worker.claim(0).await;

    let last = claim.last.unwrap();
    assert_eq!((claim.next_offset, last.offset), (7, 4));
    assert_eq!(last.timestamp, Some(instant("2025-11-16T12:00:00Z")));
    // A batch that is all gap leaves it alone.
    worker.record(worker.batch().end_beyond(0, 5)).await;
    assert_eq!(worker.claim(0).await.last, Some(last));
    check_books(&pool).await;
}

/// `(n-th claim that met one, from, to, gaps)` of the holes in the ledger.
async fn holes(pool: &PgPool) -> Vec<(i64, i64, i64, i64)> {
    let statement = "SELECT dense_rank() OVER (ORDER BY epoch), from_offset, to_offset, gaps FROM ingest_ledger WHERE reason = 'not_delivered' ORDER BY 1";
    sqlx::query_as(statement).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn the_holes_of_a_claim_are_one_ledger_row_that_its_batches_extend(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let records = worker.batch().gap(0, 4).event(0, &an_event(1)).gap(0, 1).tombstone(0).end_beyond(0, 2);
    worker.record(records).await;

    assert_eq!(totals(&pool, 0).await, Totals { events: 1, tombstones: 1, gaps: 7, ..Totals::default() });
    assert_eq!(holes(&pool).await, [(1, 0, 9, 7)]);
    check_books(&pool).await;
    // A batch without a hole leaves it where the last one ends.
    worker.record_events(&[an_event(2)]).await;
    assert_eq!(holes(&pool).await, [(1, 0, 9, 7)]);
    worker.record(worker.batch().gap(0, 3).event(0, &an_event(3)).event(0, &an_event(4))).await;
    assert_eq!(holes(&pool).await, [(1, 0, 13, 10)]);
    worker.claim(0).await;
    worker.record(worker.batch().event(0, &an_event(5)).gap(0, 1).event(0, &an_event(6))).await;
    assert_eq!(holes(&pool).await, [(1, 0, 13, 10), (2, 15, 17, 1)]);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn each_claim_has_a_ledger_row_that_its_batches_extend(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1)]).await;
    worker.record_events(&[an_event(2), an_event(3)]).await;
    worker.claim(0).await;
    worker.record_events(&[an_event(4)]).await;

    let ledger: Vec<(i64, i64, i64, i64)> =
        sqlx::query_as("SELECT dense_rank() OVER (ORDER BY epoch), from_offset, to_offset, events FROM ingest_ledger ORDER BY 1")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(ledger, [(1, 0, 3, 3), (2, 3, 4, 1)]);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_balance_is_a_constraint(pool: PgPool) {
    let _worker = Worker::holding(&pool, &[0]).await;
    for column in ["next_offset", "events", "duplicates", "dead_letters", "tombstones", "gaps", "expired"] {
        let statement = format!("UPDATE ingest_offsets SET {column} = {column} + 1");
        let error = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap_err();
        let constraint = error.as_database_error().unwrap().constraint();
        assert_eq!(constraint, Some("ingest_offsets_balance"), "{column}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_over_many_pieces_of_copy_and_many_months_is_stored_whole(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let blob = format!(r#"{{"blob":"{}"}}"#, "x".repeat(2_000));
    let drafts: Vec<_> = (0..1_000)
        .map(|n| {
            an_event(n).with_payload(&blob).at(&format!(
                "2025-{:02}-28T{:02}:59:59.999999Z",
                n % 12 + 1,
                n % 24
            ))
        })
        .collect();
    worker.record_events(&drafts).await;

    assert_eq!(stored::events(&pool).await, 1_000);
    assert_eq!(totals(&pool, 0).await.events, 1_000);
    check_books(&pool).await;
}
