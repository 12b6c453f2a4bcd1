use ingest_worker::batch::Totals;
use sqlx::PgPool;

use crate::given::{Worker, an_event, key, uuid};
use crate::stored::{check_books, events, everything, next_offset, totals};

#[sqlx::test(migrations = "../migrations")]
async fn a_stolen_partition_is_left_out_and_the_rest_is_written(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1, 2]).await;
    let mut thief = Worker::holding(&pool, &[1]).await;
    let records = worker
        .batch()
        .event(0, &an_event(1))
        .event(1, &an_event(2).external(uuid(2)))
        .refused(1, b"x")
        .gap(1, 2)
        .event(1, &an_event(3))
        .event(2, &an_event(4));
    let recorded = worker.record(records).await;

    assert_eq!(recorded.lost, [(key(1), worker.epoch(1))]);
    assert_eq!(recorded.advanced.len(), 2);
    assert_eq!((events(&pool).await, next_offset(&pool, 1).await), (2, 0));
    assert_eq!(totals(&pool, 1).await, Totals::default());
    check_books(&pool).await;
    // Nothing of it was reserved: the thief writes the very same records.
    thief.record(thief.batch().event(1, &an_event(2).external(uuid(2)))).await;
    assert_eq!(totals(&pool, 1).await, Totals { events: 1, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn when_all_is_stolen_nothing_is_written(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let _thief = Worker::holding(&pool, &[0, 1]).await;
    let before = everything(&pool).await;
    let records =
        worker.batch().event(0, &an_event(1).external(uuid(1))).refused(0, b"x").event(1, &an_event(2));
    let recorded = worker.record(records).await;

    assert_eq!(recorded.lost.len(), 2);
    assert!(recorded.advanced.is_empty() && recorded.new == 0);
    assert_eq!(everything(&pool).await, before);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_that_begins_elsewhere_than_the_table_writes_nothing(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1), an_event(2)]).await;
    let before = everything(&pool).await;
    for offset in [0, 1, 3] {
        let recorded = worker.record(worker.batch().at(0, offset).event(0, &an_event(3))).await;
        assert_eq!(recorded.lost, [(key(0), worker.epoch(0))], "offset {offset}");
        assert_eq!(everything(&pool).await, before, "offset {offset}");
    }
    // At the right place the same worker goes on.
    worker.record(worker.batch().at(0, 2).event(0, &an_event(3))).await;
    assert_eq!(next_offset(&pool, 0).await, 3);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_event_of_a_stolen_partition_comes_through_the_one_that_holds_it(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let mut thief = Worker::holding(&pool, &[0]).await;
    let shared = an_event(1).external(uuid(1));
    // The batch keeps the first by position, which is the stolen one.
    worker.record(worker.batch().event(0, &shared).event(1, &shared)).await;
    thief.record(thief.batch().event(0, &shared)).await;

    assert_eq!(events(&pool).await, 1);
    check_books(&pool).await;
}
