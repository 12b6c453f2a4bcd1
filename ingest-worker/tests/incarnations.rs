use ingest_worker::batch::{Claim, Totals};
use ingest_worker::write::{Claimed, WriteFailure};
use sqlx::{Executor as _, PgPool};

use crate::given::{Worker, an_event, eventually, key};
use crate::stored::{check_books, events, everything, next_offset, number, rows, totals};

/// `(incarnation, n-th claim of the partition, reason, from, to, gaps)` of the ledger.
async fn ledger(pool: &PgPool) -> Vec<(i32, i64, String, i64, i64, i64)> {
    let statement = "SELECT incarnation, dense_rank() OVER (PARTITION BY partition ORDER BY epoch), reason, from_offset, to_offset, gaps \
         FROM ingest_ledger ORDER BY 1, 2, 3";
    sqlx::query_as(statement).fetch_all(pool).await.unwrap()
}

fn row(
    incarnation: i32,
    claim: i64,
    reason: &str,
    from: i64,
    to: i64,
    gaps: i64,
) -> (i32, i64, String, i64, i64, i64) {
    (incarnation, claim, reason.to_owned(), from, to, gaps)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_recreated_topic_counts_anew_and_the_ledger_keeps_what_was(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    worker
        .record(worker.batch().event(0, &an_event(1)).gap(0, 2).refused(0, b"x").event(1, &an_event(2)))
        .await;
    let held = worker.positions[&0].0.clone();
    let begun = worker.claims.begin_incarnation(&key(0), &held, 0).await.unwrap().unwrap();

    assert!(begun.epoch > held.epoch);
    let epoch = begun.epoch;
    assert_eq!(begun, Claim { epoch, incarnation: 2, start_offset: 0, next_offset: 0, last: None });
    assert_eq!(totals(&pool, 0).await, Totals::default());
    check_books(&pool).await;
    // The same event again and another dead letter, at offsets that were used before.
    worker.positions.insert(0, (begun, 0));
    worker.record(worker.batch().event(0, &an_event(1)).refused(0, b"y").event(0, &an_event(3))).await;
    assert_eq!(
        totals(&pool, 0).await,
        Totals { events: 1, duplicates: 1, dead_letters: 1, ..Totals::default() }
    );
    assert_eq!((events(&pool).await, rows(&pool, "dead_letters").await.len()), (3, 2));
    let of_partition_0 = ledger(&pool).await.into_iter().filter(|row| row.4 != 1).collect::<Vec<_>>();
    let expected = [
        row(1, 1, "consumed", 0, 4, 2),
        row(1, 1, "new_incarnation", 4, 4, 0),
        row(1, 1, "not_delivered", 0, 3, 2),
        row(2, 2, "consumed", 0, 3, 0),
    ];
    assert_eq!(of_partition_0, expected);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_truncated_topic_begins_where_it_now_does(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1), an_event(2)]).await;
    let mut claim = worker.claim(0).await;
    for (incarnation, start) in [(2, 1), (3, 77), (4, 0)] {
        claim = worker.claims.begin_incarnation(&key(0), &claim, start).await.unwrap().unwrap();
        assert_eq!((claim.incarnation, claim.next_offset), (incarnation, start));
        check_books(&pool).await;
    }
    // The next worker finds no last record to compare with.
    let next = worker.claim(0).await;
    assert_eq!(next, Claim { epoch: next.epoch, ..claim });
}

#[sqlx::test(migrations = "../migrations")]
async fn what_retention_removed_is_a_gap_of_the_claim_that_met_it(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record(worker.batch().event(0, &an_event(1)).end_beyond(0, 1)).await;
    let held = worker.claim(0).await;
    let passed = worker.claims.pass_retention(&key(0), &held, 10).await.unwrap().unwrap();

    // The last record stays known: a topic recreated at these offsets would be told by it.
    let epoch = passed.epoch;
    assert_eq!(passed, Claim { epoch, incarnation: 1, start_offset: 0, next_offset: 10, last: held.last });
    assert!(held.last.is_some());
    check_books(&pool).await;
    worker.positions.insert(0, (passed, 10));
    worker.record_events(&[an_event(2)]).await;
    assert_eq!(totals(&pool, 0).await, Totals { events: 2, gaps: 9, ..Totals::default() });
    let expected = [
        row(1, 1, "consumed", 0, 2, 1),
        row(1, 1, "not_delivered", 0, 2, 1),
        row(1, 2, "consumed", 2, 10, 8),
        row(1, 2, "retention", 2, 10, 8),
        row(1, 3, "consumed", 10, 11, 0),
    ];
    assert_eq!(ledger(&pool).await, expected);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn where_nothing_is_gone_nothing_is_passed(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1)]).await;
    let held = worker.claim(0).await;
    let before = everything(&pool).await;
    for low in [0, 1] {
        let passed = worker.claims.pass_retention(&key(0), &held, low).await.unwrap();
        assert_eq!(passed.as_ref(), Some(&held));
    }
    assert_eq!(everything(&pool).await, before);
}

#[sqlx::test(migrations = "../migrations")]
async fn only_who_holds_the_claim_may(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let held = worker.positions[&0].0.clone();
    // Something was written under it since: what is gone is not what it thinks.
    worker.record_events(&[an_event(1)]).await;
    assert_eq!(worker.claims.pass_retention(&key(0), &held, 9).await.unwrap(), None);
    let mut thief = Worker::holding(&pool, &[0]).await;
    let before = everything(&pool).await;
    assert_eq!(worker.claims.pass_retention(&key(0), &held, 9).await.unwrap(), None);
    assert_eq!(worker.claims.begin_incarnation(&key(0), &held, 0).await.unwrap(), None);
    assert_eq!(everything(&pool).await, before);

    // And the other way round: who held it before writes nothing more.
    let begun = thief.claims.begin_incarnation(&key(0), &thief.positions[&0].0, 0).await.unwrap();
    assert!(begun.is_some());
    assert_eq!(thief.record_events(&[an_event(2)]).await.lost.len(), 1);
    let claimed = thief.claims.claim(&key(0), thief.recorder.backend(), Some(thief.epoch(0))).await.unwrap();
    assert_eq!(claimed, Claimed::Taken);
    check_books(&pool).await;
}

/// A batch of the lane commits while the statement waits for its row: the ledger must say where it really ended.
#[sqlx::test(migrations = "../migrations")]
async fn a_new_incarnation_waits_for_the_batch_under_way(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let held = worker.positions[&0].0.clone();
    // Holds the batch in the middle of its transaction until it is let go.
    let mut gate = pool.acquire().await.unwrap();
    gate.execute("BEGIN; LOCK TABLE event_counts").await.unwrap();
    let other = Worker::holding(&pool, &[]).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let batch = worker.batch().event(0, &an_event(1)).gap(0, 3).event(0, &an_event(2));
    let partition = key(0);
    let begin = async {
        eventually("the batch waits", async || number(&pool, waiting).await == 1).await;
        let let_go = async {
            eventually("both wait", async || number(&pool, waiting).await == 2).await;
            gate.execute("COMMIT").await.unwrap();
        };
        tokio::join!(other.claims.begin_incarnation(&partition, &held, 0), let_go).0
    };
    let (recorded, begun) = tokio::join!(worker.record(batch), begin);

    assert_eq!(recorded.advanced.len(), 1);
    assert_eq!(begun.unwrap().unwrap().incarnation, 2);
    assert_eq!(next_offset(&pool, 0).await, 0);
    assert!(ledger(&pool).await.contains(&row(1, 1, "new_incarnation", 5, 5, 0)));
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_row_that_stays_locked_is_waited_for(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let held = worker.positions[&0].0.clone();
    let hold = "BEGIN; SELECT FROM ingest_offsets FOR UPDATE";
    worker.recorder.connection().execute(hold).await.unwrap();
    for refused in [
        worker.claims.begin_incarnation(&key(0), &held, 0).await.unwrap_err(),
        worker.claims.pass_retention(&key(0), &held, 9).await.unwrap_err(),
    ] {
        assert!(matches!(refused, WriteFailure::PredecessorAlive), "{refused}");
    }
    worker.recorder.connection().execute("COMMIT").await.expect("nobody ended the lane");
}
