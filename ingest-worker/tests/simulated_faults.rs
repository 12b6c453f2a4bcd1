use ingest_worker::commands::RecordFailure;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use crate::given::{Records, Worker, an_event, ours, uuid};
use crate::stored::{check_books, events, everything, next_offset};

/// From now on whatever writes this table meets the SQLSTATE; `kind` is the trigger's, with its event.
async fn fault(pool: &PgPool, kind: &str, table: &str, body: &str, timing: &str) {
    let statements = format!(
        "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$;
         CREATE {kind} ON {table} {timing} FOR EACH ROW EXECUTE FUNCTION fault()"
    );
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool).await.unwrap();
}

async fn repair(pool: &PgPool) {
    sqlx::raw_sql("DROP FUNCTION fault() CASCADE").execute(pool).await.unwrap();
}

fn raise(sqlstate: &str) -> String {
    format!("RAISE EXCEPTION 'simulated' USING ERRCODE = '{sqlstate}'")
}

/// Of everything that a transaction can write.
fn rich_batch(worker: &Worker) -> Records {
    let records = worker.batch().event(0, &an_event(1)).event(0, &an_event(2).external(uuid(2))).tombstone(0);
    records.gap(0, 2).refused(0, b"x").event(1, &an_event(3))
}

/// The batch fails, nothing is half written, and once the fault is gone a worker that comes anew writes all of it.
async fn fails_whole_then_succeeds(
    pool: &PgPool,
    mut worker: Worker,
    unavailable: bool,
    what: &str,
) -> Worker {
    let before = everything(pool).await;
    let failure = worker.try_record(rich_batch(&worker)).await.unwrap_err();
    assert_eq!(matches!(failure, RecordFailure::Unavailable(_)), unavailable, "{what}: {failure}");
    assert_eq!(everything(pool).await, before, "{what}: half written");
    repair(pool).await;

    let mut next = Worker::holding(pool, &[]).await;
    for (partition, (claim, position)) in &worker.positions {
        let key = crate::given::key(*partition);
        let renewed = ours(next.claims.claim(&key, next.recorder.backend(), Some(claim.epoch)).await);
        assert_eq!(renewed.next_offset, *position, "{what}: the commit did not happen");
        next.positions.insert(*partition, (renewed, *position));
    }
    next
}

#[sqlx::test(migrations = "../migrations")]
async fn a_fault_at_any_statement_rolls_everything_back(pool: PgPool) {
    let (insert, update) = ("TRIGGER fault BEFORE INSERT", "TRIGGER fault BEFORE UPDATE");
    for (kind, table) in [
        (insert, "event_ids"),
        (insert, "analytics_events"),
        (insert, "event_counts"),
        (insert, "dead_letters"),
        (update, "ingest_offsets"),
        (insert, "ingest_ledger"),
        (update, "ingest_ledger"),
    ] {
        for (sqlstate, unavailable) in [("53100", true), ("40001", true), ("P0001", false), ("42804", false)]
        {
            let worker = Worker::holding(&pool, &[0, 1]).await;
            fault(&pool, kind, table, &raise(sqlstate), "").await;
            let what = format!("{kind} ON {table}, {sqlstate}");
            fails_whole_then_succeeds(&pool, worker, unavailable, &what).await;
        }
    }
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    worker.record(rich_batch(&worker)).await;
    assert_eq!((events(&pool).await, next_offset(&pool, 0).await), (3, 6));
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_fault_at_the_commit_itself_rolls_everything_back(pool: PgPool) {
    let constraint = "CONSTRAINT TRIGGER fault AFTER UPDATE";
    for (body, unavailable) in [
        (raise("53100"), true),
        (raise("57014"), true),
        // The connection is gone in the middle of the commit: its outcome is unknown until the row is claimed again.
        ("PERFORM pg_terminate_backend(pg_backend_pid())".to_owned(), true),
        (raise("P0001"), false),
    ] {
        let worker = Worker::holding(&pool, &[0, 1]).await;
        fault(&pool, constraint, "ingest_offsets", &body, "DEFERRABLE INITIALLY DEFERRED").await;
        let mut worker = fails_whole_then_succeeds(&pool, worker, unavailable, &body).await;
        let recorded = worker.record(rich_batch(&worker)).await;
        assert_eq!(recorded.advanced.len(), 2);
        check_books(&pool).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_terminated_session_is_the_worlds_fault(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    worker.record_events(&[an_event(9)]).await;
    sqlx::query("SELECT pg_terminate_backend($1, 5000)")
        .bind(worker.recorder.backend().pid)
        .execute(&pool)
        .await
        .unwrap();
    let before = everything(&pool).await;
    let failure = worker.try_record(rich_batch(&worker)).await.unwrap_err();

    assert!(matches!(failure, RecordFailure::Unavailable(_)), "{failure}");
    assert_eq!(everything(&pool).await, before);
}

/// As after `ALTER SYSTEM SET default_transaction_read_only = on`, which sessions meet that live already.
#[sqlx::test(migrations = "../migrations")]
async fn a_database_that_becomes_read_only_is_waited_for(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    // The first statement that writes is another one for a worker that knows the series and the month.
    for known in [false, true] {
        let before = everything(&pool).await;
        let read_only = |on: bool| AssertSqlSafe(format!("SET default_transaction_read_only = {on}"));
        worker.recorder.connection().execute(read_only(true)).await.unwrap();
        let failure = worker.try_record(rich_batch(&worker)).await.unwrap_err();
        assert!(matches!(failure, RecordFailure::Unavailable(_)), "known {known}: {failure}");
        assert!(failure.to_string().contains("25006"), "known {known}: {failure}");
        assert_eq!(everything(&pool).await, before, "known {known}");
        worker.recorder.connection().execute(read_only(false)).await.unwrap();
        worker.record(rich_batch(&worker)).await;
    }
    check_books(&pool).await;
}

/// Lock and compare relies on what READ COMMITTED sees after it waited, whatever the database's default is.
#[sqlx::test(migrations = "../migrations")]
async fn another_default_isolation_changes_nothing(pool: PgPool) {
    let alter = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$";
    sqlx::raw_sql(alter).execute(&pool).await.unwrap();
    let mut one = Worker::holding(&pool, &[0]).await;
    let mut other = Worker::holding(&pool, &[1]).await;
    for round in 0..20 {
        let drafts: Vec<_> =
            (0..20).map(|n| an_event(round * 20 + n).external(uuid((round * 20 + n).into()))).collect();
        let (forth, back) = (one.batch().events(0, &drafts), other.batch().events(1, &drafts));
        let (forth, back) = tokio::join!(one.try_record(forth), other.try_record(back));
        assert_eq!(forth.unwrap().new + back.unwrap().new, 20);
        one.claim(0).await;
    }
    check_books(&pool).await;
}
