use ingest_worker::batch::Totals;
use sqlx::PgPool;

use crate::given::{Draft, Worker, an_event, uuid};
use crate::stored::{self, answers, check_books, totals};

fn mixed() -> Vec<Draft> {
    vec![
        an_event(1),
        an_event(2).external(uuid(2)),
        an_event(3).of_tenant("acme"),
        an_event(3_600).external(uuid(4)).of_tenant(""),
    ]
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_events_again_change_no_count(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record(worker.batch().events(0, &mixed()).refused(0, b"x")).await;
    let before = answers(&pool).await;

    // The first time straight into a duplicate, then without them.
    for round in 1..=3 {
        let recorded = worker.record_events(&mixed()).await;
        assert!(recorded.new == 0);
        assert_eq!(answers(&pool).await, before, "round {round}");
        let expected = Totals { events: 4, dead_letters: 1, duplicates: 4 * round, ..Totals::default() };
        assert_eq!(totals(&pool, 0).await, expected);
    }
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn old_and_new_in_one_batch_are_told_apart(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&mixed()).await;
    let mut batch = mixed();
    batch.extend([an_event(5), an_event(6).external(uuid(6))]);
    let recorded = worker.record_events(&batch).await;

    assert_eq!(recorded.new, 2);
    assert_eq!(totals(&pool, 0).await, Totals { events: 6, duplicates: 4, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn after_a_duplicate_the_straight_way_is_taken_again(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(0)]).await;
    worker.record_events(&[an_event(0)]).await;
    for number in 1..=25 {
        worker.record_events(&[an_event(number)]).await;
    }
    // Straight again: the next duplicate is met there, and handled once more.
    worker.record_events(&[an_event(1), an_event(26)]).await;

    assert_eq!(totals(&pool, 0).await, Totals { events: 27, duplicates: 2, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn within_a_batch_the_first_by_position_wins(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let first = an_event(1).external(uuid(1)).with_payload(r#"{"n":1}"#);
    let second = an_event(9).external(uuid(1)).with_payload(r#"{"n":2}"#);
    let records = worker.batch().event(0, &first).event(0, &second).event(1, &second).event(1, &an_event(2));
    worker.record(records.event(0, &an_event(2))).await;

    assert_eq!(totals(&pool, 0).await, Totals { events: 1, duplicates: 2, ..Totals::default() });
    assert_eq!(totals(&pool, 1).await, Totals { events: 1, duplicates: 1, ..Totals::default() });
    let kept = "SELECT (payload->>'n')::bigint FROM analytics_events WHERE payload ? 'n'";
    assert_eq!(stored::number(&pool, kept).await, 1);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn across_partitions_the_same_event_is_one(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    worker.record(worker.batch().events(0, &mixed())).await;
    let before = answers(&pool).await;
    worker.record(worker.batch().events(1, &mixed())).await;

    assert_eq!(answers(&pool).await, before);
    assert_eq!(totals(&pool, 1).await, Totals { duplicates: 4, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_id_from_outside_is_unique_whatever_its_time(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1).external(uuid(1))]).await;
    let before = answers(&pool).await;
    for at in ["2025-11-16T12:00:02Z", "2025-10-01T00:00:00Z", "2026-01-31T23:59:59Z"] {
        worker.record_events(&[an_event(1).external(uuid(1)).at(at).of_type("another.type")]).await;
    }

    assert_eq!(answers(&pool).await, before);
    assert_eq!(totals(&pool, 0).await, Totals { events: 1, duplicates: 3, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_derived_id_at_another_time_is_another_event(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1), an_event(1).at("2025-11-16T12:00:01.001Z")]).await;
    assert_eq!(stored::events(&pool).await, 2);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_id_of_ours_that_comes_back_from_outside_is_found_in_its_millisecond(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let ours = an_event(1).at("2025-11-16T12:00:01.234567Z");
    let id = ours.make().id().uuid();
    worker.record_events(std::slice::from_ref(&ours)).await;
    let before = answers(&pool).await;
    // A re-import: the same row, and one whose time lost its digits on the way.
    worker.record_events(&[ours.clone().external(id)]).await;
    worker.record_events(&[ours.external(id).at("2025-11-16T12:00:01Z")]).await;

    assert_eq!(answers(&pool).await, before);
    assert_eq!(totals(&pool, 0).await, Totals { events: 1, duplicates: 2, ..Totals::default() });
    // One that nobody stored yet is new, and from then on an id from outside.
    let unknown = an_event(2).external(an_event(2).make().id().uuid());
    let recorded = worker.record_events(&[unknown]).await;
    assert_eq!(recorded.new, 1);
    assert_eq!(stored::rows(&pool, "event_ids").await.len(), 1);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_id_from_outside_that_is_then_derived_is_a_duplicate_too(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let derived = an_event(1);
    worker.record_events(&[derived.clone().external(derived.make().id().uuid())]).await;
    let before = answers(&pool).await;
    worker.record_events(&[derived]).await;

    assert_eq!(answers(&pool).await, before);
    assert_eq!(totals(&pool, 0).await, Totals { events: 1, duplicates: 1, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_dead_letter_that_is_read_again_is_the_same(pool: PgPool) {
    let mut first = Worker::holding(&pool, &[0]).await;
    first.record(first.batch().refused(0, b"x").refused(0, b"x")).await;
    let before = answers(&pool).await;
    // Another group, or a start from the beginning: the same records at the same offsets.
    sqlx::query("DELETE FROM ingest_ledger").execute(&pool).await.unwrap();
    sqlx::query("DELETE FROM ingest_offsets").execute(&pool).await.unwrap();
    let mut second = Worker::holding(&pool, &[0]).await;
    second.record(second.batch().refused(0, b"x").refused(0, b"x")).await;

    assert_eq!(answers(&pool).await, before);
    assert_eq!(totals(&pool, 0).await, Totals { dead_letters: 2, ..Totals::default() });
}
