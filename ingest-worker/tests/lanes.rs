use ingest_worker::batch::Totals;
use sqlx::PgPool;

use crate::given::{Draft, Worker, an_event, eventually, uuid};
use crate::stored::{check_books, events, number, totals};

#[sqlx::test(migrations = "../migrations")]
async fn two_recorders_take_different_shards_and_a_free_one_is_taken_again(pool: PgPool) {
    let mut first = Worker::holding(&pool, &[0]).await;
    let mut second = Worker::holding(&pool, &[1]).await;
    assert_eq!((first.recorder.shard(), second.recorder.shard()), (0, 1));
    first.record(first.batch().event(0, &an_event(1))).await;
    second.record(second.batch().event(1, &an_event(2))).await;
    assert_eq!(number(&pool, "SELECT count(DISTINCT shard) FROM event_counts").await, 2);
    check_books(&pool).await;

    drop(first);
    let free = async || Worker::holding(&pool, &[]).await.recorder.shard() == 0;
    eventually("shard 0 is free", free).await;
}

/// Each row takes its time, so that two statements surely meet in the middle.
const SLOW_ROWS: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON event_ids FOR EACH ROW EXECUTE FUNCTION slow();
    CREATE TRIGGER slow BEFORE INSERT ON analytics_events FOR EACH ROW EXECUTE FUNCTION slow()";

/// Of several months and tenants, in no order, with ids from outside or not.
fn many(round: u32, external: bool) -> Vec<Draft> {
    (0..60)
        .map(|n| {
            let number = round * 60 + n;
            let event = an_event(number * 77_777 % 9_999_991).of_tenant(["a", "b", "c"][n as usize % 3]);
            let id = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            if external { event.external(uuid(id)) } else { event }
        })
        .collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn two_lanes_with_the_same_new_events_in_opposite_order_do_not_deadlock(pool: PgPool) {
    let mut one = Worker::holding(&pool, &[0]).await;
    let mut other = Worker::holding(&pool, &[1]).await;
    sqlx::raw_sql(SLOW_ROWS).execute(&pool).await.unwrap();
    for (round, (external, checked)) in
        (0..).zip([(false, false), (true, false), (false, true), (true, true)])
    {
        let drafts = many(round, external);
        let reversed: Vec<_> = drafts.iter().rev().cloned().collect();
        if checked {
            one.recorder.expect_duplicates();
            other.recorder.expect_duplicates();
        }
        let (forth, back) = (one.batch().events(0, &drafts), other.batch().events(1, &reversed));
        let (forth, back) = tokio::join!(one.try_record(forth), other.try_record(back));
        let new = forth.unwrap().new + back.unwrap().new;
        assert_eq!(new, 60, "ids from outside {external}, checked {checked}");
    }
    assert_eq!(events(&pool).await, 240);
    let (zero, one) = (totals(&pool, 0).await, totals(&pool, 1).await);
    assert_eq!((zero.events + one.events, zero.duplicates + one.duplicates), (240, 240));
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_lane_does_not_wait_for_anothers_open_transaction_on_the_same_minute(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    worker.record(worker.batch().event(0, &an_event(1))).await;
    // Another shard's row of the very same hour and series, held open.
    let mut open = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO event_counts SELECT hour, series_id, 77, 0, array_fill(0, '{60}') FROM event_counts",
    )
    .execute(&mut *open)
    .await
    .unwrap();
    sqlx::query("SELECT 1 FROM ingest_offsets WHERE partition = 1 FOR UPDATE")
        .execute(&mut *open)
        .await
        .unwrap();
    worker.record(worker.batch().event(0, &an_event(2))).await;
    open.rollback().await.unwrap();

    assert_eq!(totals(&pool, 0).await, Totals { events: 2, ..Totals::default() });
    check_books(&pool).await;
}
