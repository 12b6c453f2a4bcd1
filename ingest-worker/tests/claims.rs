use std::time::Duration;

use ingest_worker::write::{Backend, Claimed, WriteFailure};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};

use crate::given::{TOPIC, Worker, an_event, database, eventually, key, ours};
use crate::stored::{check_books, number, totals};

const HOLD_ROW: &str = "BEGIN; SELECT FROM ingest_offsets WHERE partition = 0 FOR UPDATE";

async fn is_alive(pool: &PgPool, backend: &Backend) -> bool {
    let statement = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2)";
    sqlx::query_scalar(statement).bind(backend.pid).bind(backend.start).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_counts_up_names_its_session_and_opens_a_ledger_row(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1), an_event(2)]).await;
    let former = worker.epoch(0);
    let claim = worker.claim(0).await;

    assert_eq!((claim.incarnation, claim.start_offset, claim.next_offset), (1, 0, 2));
    assert!(claim.epoch > former);
    let (pid, worker_name): (i32, String) =
        sqlx::query_as("SELECT backend_pid, claimed_by FROM ingest_offsets").fetch_one(&pool).await.unwrap();
    assert_eq!((pid, worker_name.as_str()), (worker.recorder.backend().pid, "test"));
    let ledger: Vec<(i64, i64, i64, String)> =
        sqlx::query_as("SELECT epoch, from_offset, to_offset, reason FROM ingest_ledger ORDER BY epoch")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(ledger, [(former, 0, 2, "consumed".to_owned()), (claim.epoch, 2, 2, "consumed".to_owned())]);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn claims_that_account_for_nothing_share_a_ledger_row(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1)]).await;
    for _ in 0..5 {
        worker.claim(0).await;
    }
    assert_eq!(number(&pool, "SELECT count(*) FROM ingest_ledger").await, 2);
    worker.record_events(&[an_event(2)]).await;
    worker.claim(0).await;
    assert_eq!(number(&pool, "SELECT count(*) FROM ingest_ledger").await, 3);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_partition_without_a_row_is_unknown_and_so_is_perhaps_its_topic(pool: PgPool) {
    let worker = Worker::holding(&pool, &[]).await;
    let backend = worker.recorder.backend();
    let claim = async |partition, held| worker.claims.claim(&key(partition), backend, held).await;
    for held in [None, Some(1)] {
        assert_eq!(claim(0, held).await.unwrap(), Claimed::Unknown { topic_is_known: false });
    }
    worker.claims.begin(TOPIC, &[(0, 5)]).await.unwrap();
    assert_eq!(ours(claim(0, None).await).next_offset, 5);
    // What was held and has no row any more: an older copy of the database.
    for held in [None, Some(1)] {
        assert_eq!(claim(1, held).await.unwrap(), Claimed::Unknown { topic_is_known: true });
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_is_renewed_only_while_nobody_else_has_claimed(pool: PgPool) {
    let mut first = Worker::holding(&pool, &[0]).await;
    let backend = first.recorder.backend().clone();
    let held = first.epoch(0);
    let renewed = ours(first.claims.claim(&key(0), &backend, Some(held)).await);
    assert!(renewed.epoch > held);
    // Its own former epoch is as stale as anybody's.
    assert_eq!(first.claims.claim(&key(0), &backend, Some(held)).await.unwrap(), Claimed::Taken);

    let mut second = Worker::holding(&pool, &[0]).await;
    second.record_events(&[an_event(1)]).await;
    assert_eq!(first.claims.claim(&key(0), &backend, Some(renewed.epoch)).await.unwrap(), Claimed::Taken);
    let pid = i64::from(second.recorder.backend().pid);
    assert_eq!(number(&pool, "SELECT backend_pid::bigint FROM ingest_offsets").await, pid);
    first.positions.insert(0, (renewed, 0));
    assert_eq!(first.record_events(&[an_event(1)]).await.lost.len(), 1);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn two_that_begin_at_once_begin_once(pool: PgPool) {
    let one = Worker::holding(&pool, &[]).await;
    let other = Worker::holding(&pool, &[]).await;
    let forth: Vec<_> = (0..50).map(|partition| (partition, 100)).collect();
    let back: Vec<_> = (0..50).rev().map(|partition| (partition, 200)).collect();
    for _ in 0..3 {
        let (forth, back) = tokio::join!(one.claims.begin(TOPIC, &forth), other.claims.begin(TOPIC, &back));
        forth.unwrap();
        back.unwrap();
    }
    assert_eq!(
        number(&pool, "SELECT count(*) FROM ingest_offsets WHERE start_offset = next_offset").await,
        50
    );
    assert_eq!(number(&pool, "SELECT count(DISTINCT next_offset) FROM ingest_offsets").await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn beginning_again_moves_nothing(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[an_event(1)]).await;
    worker.claims.begin(TOPIC, &[(0, 0), (1, 7)]).await.unwrap();
    assert_eq!(worker.claim(0).await.next_offset, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_frozen_predecessor_is_ended_and_only_it(pool: PgPool) {
    let mut frozen = Worker::holding(&pool, &[0]).await;
    let bystander = Worker::holding(&pool, &[1]).await;
    frozen.recorder.connection().execute(HOLD_ROW).await.unwrap();
    let backend = frozen.recorder.backend().clone();

    let mut successor = Worker::holding(&pool, &[0]).await;
    assert!(!is_alive(&pool, &backend).await);
    assert!(is_alive(&pool, bystander.recorder.backend()).await);
    successor.record_events(&[an_event(1)]).await;
    // It wakes: neither its session nor its epoch is there any more.
    assert!(frozen.try_record(frozen.batch().event(0, &an_event(1))).await.is_err());
    let renewed = frozen.claims.claim(&key(0), &backend, Some(frozen.epoch(0))).await.unwrap();
    assert_eq!(renewed, Claimed::Taken);
    assert_eq!(totals(&pool, 0).await.events, 1);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stranger_that_holds_the_row_is_waited_for(pool: PgPool) {
    let predecessor = Worker::holding(&pool, &[0]).await;
    let worker = Worker::holding(&pool, &[]).await;
    let mut stranger = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    stranger.execute(HOLD_ROW).await.unwrap();

    let refused = worker.claims.claim(&key(0), worker.recorder.backend(), None).await.unwrap_err();
    assert!(matches!(refused, WriteFailure::PredecessorAlive), "{refused}");
    stranger.execute("COMMIT").await.expect("nobody ended the stranger");
    assert!(is_alive(&pool, predecessor.recorder.backend()).await, "it held nothing");
    let claim = ours(worker.claims.claim(&key(0), worker.recorder.backend(), None).await);
    assert!(claim.epoch > predecessor.epoch(0));
}

#[sqlx::test(migrations = "../migrations")]
async fn another_session_with_the_recorded_pid_is_no_predecessor(pool: PgPool) {
    let mut holder = Worker::holding(&pool, &[0]).await;
    // As if the pid had been used again since.
    sqlx::query("UPDATE ingest_offsets SET backend_start = backend_start - interval '1 microsecond'")
        .execute(&pool)
        .await
        .unwrap();
    holder.recorder.connection().execute(HOLD_ROW).await.unwrap();
    let worker = Worker::holding(&pool, &[]).await;
    let refused = worker.claims.claim(&key(0), worker.recorder.backend(), None).await.unwrap_err();

    assert!(matches!(refused, WriteFailure::PredecessorAlive), "{refused}");
    assert!(is_alive(&pool, holder.recorder.backend()).await);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_renewal_waits_for_an_open_transaction_of_the_former_session(pool: PgPool) {
    let mut former = Worker::holding(&pool, &[0]).await;
    former.recorder.connection().execute(HOLD_ROW).await.unwrap();
    let mut settings = database(&pool);
    settings.claim_lock_timeout = Duration::from_secs(9);
    let next = Worker::connected(settings, &[]).await;
    let backend = next.recorder.backend().clone();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let held = former.epoch(0);
    let end = async {
        eventually("the renewal waits for the row", async || number(&pool, waits).await == 1).await;
        former.recorder.connection().execute("COMMIT").await.unwrap();
    };
    let key = key(0);
    let (renewed, ()) = tokio::join!(next.claims.claim(&key, &backend, Some(held)), end);
    assert!(ours(renewed).epoch > held);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_renewal_ends_the_own_former_session_that_holds_the_row(pool: PgPool) {
    // As after a network that died: the server does not know yet, and waits for a client that went on elsewhere.
    let mut former = Worker::holding(&pool, &[0]).await;
    former.recorder.connection().execute(HOLD_ROW).await.unwrap();
    let next = Worker::holding(&pool, &[]).await;
    let held = former.epoch(0);
    let renewed = ours(next.claims.claim(&key(0), next.recorder.backend(), Some(held)).await);

    assert!(renewed.epoch > held);
    assert!(!is_alive(&pool, former.recorder.backend()).await);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_lane_that_claims_is_not_its_own_frozen_predecessor(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.recorder.connection().execute(HOLD_ROW).await.unwrap();
    let (backend, epoch) = (worker.recorder.backend().clone(), worker.epoch(0));
    for held in [None, Some(epoch)] {
        let refused = worker.claims.claim(&key(0), &backend, held).await.unwrap_err();
        assert!(matches!(refused, WriteFailure::PredecessorAlive), "{refused}");
    }
    worker.recorder.connection().execute("COMMIT").await.expect("its session lives");
    assert!(worker.claim(0).await.epoch > epoch);
}
