//! What PostgreSQL may refuse of a record outside the COPY: its series, its id, its count, its dead letter.

use chrono::TimeDelta;
use ingest_worker::batch::Totals;
use ingest_worker::clock;
use ingest_worker::commands::RecordFailure;
use sqlx::{AssertSqlSafe, PgPool};

use crate::given::{Draft, Worker, an_event, uuid};
use crate::stored::{check_books, number, rows, totals};

/// A table, when its trigger refuses a row, and how: every class of SQLSTATE that a row's content can cause.
const HOLES: [(&str, &str, &str); 6] = [
    ("event_series", "NEW.event_type = 'poison'", "22P05"),
    ("event_series", "NEW.event_type = 'poison'", "54000"),
    ("event_ids", "NEW.occurred_at = '2025-11-16T20:59Z'", "22008"),
    ("event_ids", "NEW.occurred_at = '2025-11-16T20:59Z'", "23514"),
    ("event_counts", "NEW.hour = '2025-11-16T20:00Z'", "22003"),
    ("event_counts", "NEW.hour = '2025-11-16T20:00Z'", "23502"),
];

async fn make_hole(pool: &PgPool, table: &str, when: &str, sqlstate: &str, at_commit: bool) {
    let (constraint, moment, deferred) =
        if at_commit { ("CONSTRAINT", "AFTER", "DEFERRABLE INITIALLY DEFERRED") } else { ("", "BEFORE", "") };
    let statements = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF {when} THEN RAISE EXCEPTION 'no poison' USING ERRCODE = '{sqlstate}'; END IF;
             RETURN NEW;
         END $$;
         CREATE {constraint} TRIGGER refuse {moment} INSERT ON {table} {deferred}
             FOR EACH ROW EXECUTE FUNCTION refuse()"
    );
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool).await.unwrap();
}

/// Refused by any of the holes.
fn poison(number: u32) -> Draft {
    good(number).of_type("poison").at("2025-11-16T20:59:00Z")
}

fn good(number: u32) -> Draft {
    an_event(number).external(uuid(number.into()))
}

/// Writes batches with these culprits among nine events each.
async fn exactly_the_culprits_are_refused(pool: &PgPool, what: &str) {
    let mut worker = Worker::holding(pool, &[0]).await;
    let mut expected = Totals::default();
    for (round, culprits) in (1..).zip([vec![4], vec![0, 8], vec![], (0..9).collect()]) {
        let drafts: Vec<_> = (0..9)
            .map(|n| if culprits.contains(&n) { poison(round * 10 + n) } else { good(round * 10 + n) })
            .collect();
        worker.record_events(&drafts).await;
        let dead = i64::try_from(culprits.len()).unwrap();
        (expected.events, expected.dead_letters) = (expected.events + 9 - dead, expected.dead_letters + dead);
        assert_eq!(totals(pool, 0).await, expected, "{what}, {culprits:?}");
    }
    let letters = "SELECT count(*) FROM dead_letters WHERE class = 'refused_by_database'
                       AND sentence LIKE 'PostgreSQL refused the row: no poison%'";
    assert_eq!(number(pool, letters).await, expected.dead_letters, "{what}");
    check_books(pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_table_refuses_of_a_record_is_its_dead_letter(pool: PgPool) {
    for (table, when, sqlstate) in HOLES {
        make_hole(&pool, table, when, sqlstate, false).await;
        exactly_the_culprits_are_refused(&pool, &format!("{table}, {sqlstate}")).await;
        let clean = "DROP FUNCTION refuse CASCADE; TRUNCATE analytics_events, event_ids, event_counts,
                     event_series, dead_letters, ingest_offsets, ingest_ledger";
        sqlx::raw_sql(clean).execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_refused_only_by_the_commit_is_found_too(pool: PgPool) {
    make_hole(&pool, "event_ids", HOLES[2].1, "23514", true).await;
    exactly_the_culprits_are_refused(&pool, "a deferred constraint").await;
}

/// A series is made before anything is known of its events: also of those that are repeats, expired or another worker's.
#[sqlx::test(migrations = "../migrations")]
async fn a_refused_series_takes_along_whoever_is_counted_by_it(pool: PgPool) {
    make_hole(&pool, "event_series", HOLES[0].1, HOLES[0].2, false).await;
    sqlx::query("SELECT drop_event_partitions('2025-11-01Z')").execute(&pool).await.unwrap();
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let _thief = Worker::holding(&pool, &[1]).await;
    let records = worker
        .batch()
        .event(0, &poison(1))
        .event(0, &good(1))
        .event(0, &good(2))
        .event(0, &good(2).of_type("poison"))
        .event(0, &poison(3).at("2025-09-01T00:00:00Z"))
        .event(1, &poison(4))
        .event(0, &good(5).at("2025-09-01T00:00:00Z"));
    let recorded = worker.record(records).await;

    assert_eq!((recorded.new, recorded.lost.len()), (2, 1));
    let expected = Totals { events: 2, dead_letters: 3, expired: 1, ..Totals::default() };
    assert_eq!(totals(&pool, 0).await, expected);
    assert_eq!(rows(&pool, "dead_letters").await.len(), 3);
    check_books(&pool).await;
}

/// Sentence, headers, and whether the record's timestamp is there.
async fn letters(pool: &PgPool) -> Vec<(String, String, bool)> {
    let statement = r"SELECT sentence, record_headers::text, record_timestamp IS NOT NULL FROM dead_letters
                      WHERE record_value IS NOT NULL AND record_key = '\x6b00ff' ORDER BY record_offset";
    sqlx::query_as(statement).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_dead_letter_that_is_refused_is_stored_with_less_of_its_text(pool: PgPool) {
    const SENTENCE: &str = "expected value at line 1 column 1";
    const WHOLE: (&str, &str, bool) = (
        SENTENCE,
        "[[\"trace\u{fffd}id\", \"AP8=\", \"dHJhY2UAaWQ=\"], [\"none\", null], [\"b\u{fffd}\", null, \"YsM=\"]]",
        true,
    );
    let ascii = WHOLE.1.replace('\u{fffd}', "?");
    for (when, expected) in [
        ("NEW.record_offset = 2 AND NEW.record_headers::text ~ '[^ -~]'", (SENTENCE, ascii.as_str(), true)),
        ("NEW.record_offset = 2 AND length(NEW.sentence) > 1", ("-", "[]", false)),
    ] {
        make_hole(&pool, "dead_letters", when, "22P05", false).await;
        let mut worker = Worker::holding(&pool, &[0]).await;
        let five = (0..5).fold(worker.batch(), |records, _| records.refused(0, b"x"));
        worker.record(five.event(0, &good(1))).await;
        let letters = letters(&pool).await;
        let found: Vec<_> =
            letters.iter().map(|(sentence, headers, at)| (&**sentence, &**headers, *at)).collect();
        assert_eq!(found, [WHOLE, WHOLE, expected, WHOLE, WHOLE], "{when}");
        check_books(&pool).await;
        let clean = "DROP FUNCTION refuse CASCADE; TRUNCATE analytics_events, event_ids, event_counts,
                     dead_letters, ingest_offsets, ingest_ledger";
        sqlx::raw_sql(clean).execute(&pool).await.unwrap();
    }
}

/// Whoever refuses it whatever is in it can mend that: it waits, and is not lost.
#[sqlx::test(migrations = "../migrations")]
async fn a_dead_letter_that_cannot_be_stored_at_all_waits(pool: PgPool) {
    make_hole(&pool, "dead_letters", "true", "23514", false).await;
    let mut worker = Worker::holding(&pool, &[0]).await;
    let records = worker.batch().event(0, &good(1)).refused(0, b"x");
    let failure = worker.try_record(records).await.unwrap_err();
    let RecordFailure::Unavailable(reason) = &failure else { panic!("ends the process: {failure}") };
    assert!(reason.contains("a dead letter") && reason.contains("no poison"), "{reason}");
    assert_eq!(totals(&pool, 0).await, Totals::default());
    drop(worker); // With its transaction, as a lane does.
    sqlx::raw_sql("DROP FUNCTION refuse CASCADE").execute(&pool).await.unwrap();
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record(worker.batch().event(0, &good(1)).refused(0, b"x")).await;
    assert_eq!(totals(&pool, 0).await, Totals { events: 1, dead_letters: 1, ..Totals::default() });
    check_books(&pool).await;
}

/// The clock has moved on, and would let the record pass that it refused.
#[sqlx::test(migrations = "../migrations")]
async fn a_letter_stays_a_letter_until_it_is_redriven(pool: PgPool) {
    let day = |days: i64| (clock::now() + TimeDelta::days(days)).to_rfc3339();
    let (ahead, past, other) = (good(1).at(&day(9)), good(2).at(&day(-9)), good(3).at(&day(9)));
    let read_again = async || {
        sqlx::raw_sql("TRUNCATE ingest_offsets, ingest_ledger").execute(&pool).await.unwrap();
        let mut worker = Worker::holding(&pool, &[0]).await;
        // Of one id: the second stands in for the first. Another record at the offset of a letter is another record.
        let batch = worker.batch().event(0, &ahead).event(0, &past).event(0, &other).event(0, &ahead);
        worker.record(batch).await.new
    };
    let mut worker = Worker::holding(&pool, &[0]).await;
    let letters = worker.batch().too_early(0, &ahead).too_early(0, &past).too_early(0, &ahead);
    worker.record(letters).await;

    assert_eq!(read_again().await, 3);
    assert_eq!(totals(&pool, 0).await, Totals { events: 3, dead_letters: 1, ..Totals::default() });
    let letter = "SELECT count(*) FROM dead_letters WHERE sentence = 'occurredAt is too far ahead'";
    assert_eq!(number(&pool, letter).await, 3);
    check_books(&pool).await;
    assert_eq!(read_again().await, 0);
    assert_eq!(totals(&pool, 0).await, Totals { duplicates: 3, dead_letters: 1, ..Totals::default() });
    sqlx::raw_sql("UPDATE dead_letters SET state = 'redriven', settled_at = now()")
        .execute(&pool)
        .await
        .unwrap();
    read_again().await;
    assert_eq!(totals(&pool, 0).await, Totals { duplicates: 4, ..Totals::default() });
    check_books(&pool).await;
}
