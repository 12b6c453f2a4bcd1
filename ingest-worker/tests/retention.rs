use ingest_worker::batch::Totals;
use sqlx::PgPool;

use crate::given::{Draft, Worker, an_event, instant, uuid};
use crate::stored::{self, answers, check_books, events, totals};

async fn move_horizon(pool: &PgPool, horizon: &str) -> Vec<String> {
    let statement = "SELECT drop_event_partitions($1::timestamptz)";
    sqlx::query_scalar(statement).bind(instant(horizon)).fetch_all(pool).await.unwrap()
}

async fn partitions(pool: &PgPool) -> Vec<String> {
    let statement = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'analytics_events'::regclass ORDER BY 1";
    sqlx::query_scalar(statement).fetch_all(pool).await.unwrap()
}

fn september() -> Draft {
    an_event(1).at("2025-09-10T00:00:00Z").external(uuid(9))
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_dropped_cannot_come_back(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let october = an_event(2).at("2025-10-10T00:00:00Z");
    worker.record_events(&[september(), october.clone(), an_event(3)]).await;
    assert_eq!(move_horizon(&pool, "2025-11-01T00:00:00Z").await.len(), 2);
    let before = answers(&pool).await;

    // The worker still believes in the partitions; a new one asks for them.
    for mut worker in [worker, Worker::holding(&pool, &[0]).await] {
        worker.claim(0).await;
        let recorded = worker.record_events(&[september(), october.clone(), an_event(3)]).await;
        assert_eq!(recorded.horizon, Some(instant("2025-11-01T00:00:00Z")));
        assert!(recorded.new == 0);
    }
    assert_eq!(answers(&pool).await, before);
    assert_eq!(partitions(&pool).await, ["analytics_events_2025_11"]);
    assert_eq!(totals(&pool, 0).await, Totals { events: 3, expired: 4, duplicates: 2, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn within_a_month_the_horizon_is_exact(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1)]).await;
    move_horizon(&pool, "2025-11-16T12:00:10Z").await;
    worker
        .record_events(&[
            an_event(2).at("2025-11-16T12:00:09.999999Z"),
            an_event(3).at("2025-11-16T12:00:10Z"),
            an_event(4).external(uuid(4)),
        ])
        .await;

    assert_eq!(totals(&pool, 0).await, Totals { events: 2, expired: 2, ..Totals::default() });
    assert_eq!(stored::rows(&pool, "event_ids").await.len(), 0, "an expired event reserves no id");
    assert_eq!(events(&pool).await, 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_that_is_all_expired_still_advances(pool: PgPool) {
    move_horizon(&pool, "2025-11-01T00:00:00Z").await;
    let mut worker = Worker::holding(&pool, &[0]).await;
    let recorded = worker.record_events(&[september(), an_event(1).at("2020-01-01T00:00:00Z")]).await;

    assert_eq!(recorded.advanced.len(), 1);
    assert_eq!(totals(&pool, 0).await, Totals { expired: 2, ..Totals::default() });
    assert!(partitions(&pool).await.is_empty());
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_month_without_a_partition_gets_one(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker
        .record_events(&[
            an_event(1).at("2024-02-29T23:59:59.999999Z"),
            an_event(2).at("2024-03-01T00:00:00Z"),
            an_event(3).at("2031-12-31T23:00:00Z"),
        ])
        .await;
    let expected = ["analytics_events_2024_02", "analytics_events_2024_03", "analytics_events_2031_12"];
    assert_eq!(partitions(&pool).await, expected);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_partition_dropped_behind_the_workers_back_is_made_again(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1)]).await;
    sqlx::raw_sql("DROP TABLE analytics_events_2025_11; TRUNCATE event_counts").execute(&pool).await.unwrap();
    worker.record_events(&[an_event(2), an_event(3)]).await;
    // And once more where events are looked for first.
    worker.recorder.expect_duplicates();
    sqlx::raw_sql("DROP TABLE analytics_events_2025_11; TRUNCATE event_counts").execute(&pool).await.unwrap();
    worker.record_events(&[an_event(4), an_event(5)]).await;

    assert_eq!(events(&pool).await, 2);
    assert_eq!(totals(&pool, 0).await.events, 5);
    check_books(&pool).await;
}
