use ingest_worker::batch::Totals;
use sqlx::PgPool;

use crate::given::{Draft, Worker, an_event, uuid};
use crate::stored::{self, check_books, totals};

/// Holes of our own tables, of which the worker knows nothing: how PostgreSQL may refuse a row.
const HOLES: [(&str, &str); 4] = [
    ("a constraint", "ALTER TABLE analytics_events ADD CONSTRAINT no_poison CHECK (NOT payload ? 'poison')"),
    (
        "a trigger",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.payload ? 'poison' THEN
                 RAISE EXCEPTION 'poison' USING ERRCODE = '22000', CONSTRAINT = 'no_poison';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON analytics_events FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
    ("a column's type", "ALTER TABLE analytics_events ALTER COLUMN event_type TYPE varchar(29)"),
    (
        "a domain",
        "CREATE DOMAIN short AS varchar(120) CONSTRAINT no_poison CHECK (length(VALUE) < 30);
         ALTER TABLE analytics_events ALTER COLUMN event_type TYPE short",
    ),
];

fn good(number: u32) -> Draft {
    an_event(number)
}

/// Refused by any of the holes.
fn poison(number: u32) -> Draft {
    let json = format!(r#"{{"number":{number},"poison":true}}"#);
    an_event(number).with_payload(&json).of_type("challenges.solution-completed.poison")
}

async fn make_hole(pool: &PgPool, statements: &'static str) {
    sqlx::raw_sql(statements).execute(pool).await.unwrap();
}

/// Writes events 0 to `length`, those in `culprits` poisoned, and looks at what became of each.
async fn exactly_the_culprits_are_refused(
    pool: &PgPool,
    worker: &mut Worker,
    length: u32,
    culprits: &[u32],
    what: &str,
) {
    sqlx::raw_sql("TRUNCATE analytics_events, event_counts, dead_letters").execute(pool).await.unwrap();
    let before = totals(pool, 0).await;
    let first = stored::next_offset(pool, 0).await;
    let drafts: Vec<_> =
        (0..length).map(|n| if culprits.contains(&n) { poison(n) } else { good(n) }).collect();
    let recorded = worker.record_events(&drafts).await;
    assert!(recorded.refused.is_empty(), "{what}: a Kafka record becomes a dead letter");

    let refused: Vec<i64> = sqlx::query_scalar(
        "SELECT record_offset FROM dead_letters
         WHERE class = 'refused_by_database' AND sentence LIKE 'PostgreSQL refused the row: %' ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let expected: Vec<i64> = culprits.iter().map(|n| first + i64::from(*n)).collect();
    assert_eq!(refused, expected, "{what}");
    let after = totals(pool, 0).await;
    let dead = i64::try_from(culprits.len()).unwrap();
    assert_eq!(after.dead_letters - before.dead_letters, dead, "{what}");
    assert_eq!(after.events - before.events, i64::from(length) - dead, "{what}");
    check_books(pool).await;
}

async fn every_pattern(pool: &PgPool, hole: &str, checked: bool) {
    let mut worker = Worker::holding(pool, &[0]).await;
    for (length, culprits) in [
        (9, vec![0]),
        (9, vec![4]),
        (9, vec![8]),
        (1, vec![0]),
        (9, vec![0, 4, 8]),
        // More than are looked for one by one.
        (40, vec![0, 1, 7, 20, 38, 39]),
        (9, (0..9).collect()),
    ] {
        if checked {
            worker.recorder.expect_duplicates();
        }
        let what = format!("{hole}, checked {checked}, {culprits:?} of {length}");
        exactly_the_culprits_are_refused(pool, &mut worker, length, &culprits, &what).await;
    }
}

async fn a_hole_refuses_exactly_its_rows(pool: &PgPool, (hole, statements): (&str, &'static str)) {
    make_hole(pool, statements).await;
    for checked in [false, true] {
        every_pattern(pool, hole, checked).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_constraint_refuses_exactly_its_rows(pool: PgPool) {
    a_hole_refuses_exactly_its_rows(&pool, HOLES[0]).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_trigger_refuses_exactly_its_rows(pool: PgPool) {
    a_hole_refuses_exactly_its_rows(&pool, HOLES[1]).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_narrower_column_refuses_exactly_its_rows(pool: PgPool) {
    a_hole_refuses_exactly_its_rows(&pool, HOLES[2]).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_domain_refuses_exactly_its_rows(pool: PgPool) {
    a_hole_refuses_exactly_its_rows(&pool, HOLES[3]).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_hole_that_opens_while_the_worker_runs_is_no_alarm(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    // Its statements are prepared before.
    worker.recorder.expect_duplicates();
    worker.record_events(&[good(100)]).await;
    make_hole(&pool, HOLES[0].1).await;
    for culprits in [vec![2], vec![0, 1, 2, 3, 4]] {
        exactly_the_culprits_are_refused(&pool, &mut worker, 6, &culprits, "a later constraint").await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn looking_for_culprits_passes_over_expired_and_stolen_ones(pool: PgPool) {
    make_hole(&pool, HOLES[0].1).await;
    sqlx::query("SELECT drop_event_partitions('2025-11-01Z')").execute(&pool).await.unwrap();
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let _thief = Worker::holding(&pool, &[1]).await;
    let old = poison(50).at("2025-09-01T00:00:00Z");
    let mut records = worker.batch().event(0, &old).event(1, &poison(60)).event(1, &good(61));
    for number in 0..6 {
        records = records.event(0, &poison(number)).event(0, &good(number + 10));
    }
    let recorded = worker.record(records).await;

    assert_eq!(recorded.lost.len(), 1);
    let expected = Totals { events: 6, dead_letters: 6, expired: 1, ..Totals::default() };
    assert_eq!(totals(&pool, 0).await, expected);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_id_from_outside_is_free_again_after_its_row_was_refused(pool: PgPool) {
    make_hole(&pool, HOLES[0].1).await;
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[poison(1).external(uuid(1)), good(2).external(uuid(2))]).await;
    let recorded = worker.record_events(&[good(1).external(uuid(1))]).await;

    assert_eq!(recorded.new, 1);
    assert_eq!(totals(&pool, 0).await, Totals { events: 2, dead_letters: 1, ..Totals::default() });
    check_books(&pool).await;
}
