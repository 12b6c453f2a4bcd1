//! Several records with one id in one batch: one of them becomes the event, whatever becomes of the others.

use ingest_worker::batch::Totals;
use sqlx::PgPool;

use crate::given::{Draft, Worker, an_event, uuid};
use crate::stored::{check_books, events, number, rows, totals};

const NO_POISON: &str =
    "ALTER TABLE analytics_events ADD CONSTRAINT no_poison CHECK (NOT payload ? 'poison')";

/// The `n`-th word under one id from outside.
fn word(n: u32) -> Draft {
    an_event(n).external(uuid(1)).with_payload(&format!(r#"{{"n":{n}}}"#))
}

fn poison(n: u32) -> Draft {
    word(n).with_payload(&format!(r#"{{"n":{n},"poison":true}}"#))
}

/// Which word is stored; there is one event.
async fn stored_word(pool: &PgPool) -> i64 {
    assert_eq!(events(pool).await, 1);
    number(pool, "SELECT (payload->>'n')::bigint FROM analytics_events").await
}

#[sqlx::test(migrations = "../migrations")]
async fn after_a_refused_row_the_next_with_its_id_is_stored(pool: PgPool) {
    sqlx::raw_sql(NO_POISON).execute(&pool).await.unwrap();
    let mut worker = Worker::holding(&pool, &[0]).await;
    // Of another type and month, so that it needs a series and a partition of its own.
    let good = word(3).of_type("another.type").at("2025-12-01T00:00:00Z");
    let recorded = worker.record_events(&[poison(1), poison(2), good, word(4)]).await;

    assert_eq!((recorded.new, stored_word(&pool).await), (1, 3));
    assert_eq!(
        totals(&pool, 0).await,
        Totals { events: 1, dead_letters: 2, duplicates: 1, ..Totals::default() }
    );
    assert_eq!(rows(&pool, "dead_letters").await.len(), 2);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_poisoned_record_sent_many_times_is_so_many_dead_letters(pool: PgPool) {
    sqlx::raw_sql(NO_POISON).execute(&pool).await.unwrap();
    let mut worker = Worker::holding(&pool, &[0]).await;
    // A producer's retries, and more different ones than there are turns for anything else.
    let mut drafts = vec![poison(0); 300];
    drafts.extend((1..130).map(poison));
    worker.record_events(&drafts).await;

    assert_eq!(totals(&pool, 0).await, Totals { dead_letters: 429, ..Totals::default() });
    assert_eq!(rows(&pool, "dead_letters").await.len(), 429);
    assert_eq!(events(&pool).await, 0);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn after_an_expired_event_the_next_with_its_id_is_stored(pool: PgPool) {
    sqlx::query("SELECT drop_event_partitions('2025-11-01Z')").execute(&pool).await.unwrap();
    let mut worker = Worker::holding(&pool, &[0]).await;
    let old = |n| word(n).at("2025-09-01T00:00:00Z");
    worker.record_events(&[old(1), word(2), old(3), word(4)]).await;

    assert_eq!(stored_word(&pool).await, 2);
    assert_eq!(totals(&pool, 0).await, Totals { events: 1, expired: 2, duplicates: 1, ..Totals::default() });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_taken_partition_brought_first_is_stored_by_the_next(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let mut thief = Worker::holding(&pool, &[0]).await;
    let records = worker.batch().event(0, &word(1)).event(1, &word(2)).event(0, &word(3)).event(1, &word(4));
    let recorded = worker.record(records).await;

    assert_eq!((recorded.lost.len(), recorded.new), (1, 1));
    assert_eq!(stored_word(&pool).await, 2);
    assert_eq!(totals(&pool, 1).await, Totals { events: 1, duplicates: 1, ..Totals::default() });
    assert_eq!(totals(&pool, 0).await, Totals::default());
    check_books(&pool).await;
    // Whoever took the partition reads its records, and finds the event there.
    thief.record_events(&[word(1), word(3)]).await;
    assert_eq!(totals(&pool, 0).await, Totals { duplicates: 2, ..Totals::default() });
    assert_eq!(stored_word(&pool).await, 2);
    check_books(&pool).await;
}

/// All three at once, with many rows to look for, straight and looked for.
#[sqlx::test(migrations = "../migrations")]
async fn whatever_becomes_of_the_first_one_event_is_stored(pool: PgPool) {
    sqlx::raw_sql(NO_POISON).execute(&pool).await.unwrap();
    sqlx::query("SELECT drop_event_partitions('2025-11-01Z')").execute(&pool).await.unwrap();
    let mut worker = Worker::holding(&pool, &[0, 1]).await;
    let _thief = Worker::holding(&pool, &[1]).await;
    for (round, checked) in [(0, false), (1, true)] {
        if checked {
            worker.recorder.expect_duplicates();
        }
        let mut records = worker.batch();
        for n in 0..8_u32 {
            let id = uuid(u128::from(round * 100 + n) + 1_000);
            let first = round * 1_000 + n * 10;
            records = records
                .event(1, &word(first).external(id))
                .event(0, &poison(first + 1).external(id))
                .event(0, &word(first + 2).external(id).at("2025-09-01T00:00:00Z"))
                .event(0, &poison(first + 3).external(id))
                .event(0, &word(first + 4).external(id))
                .event(0, &poison(first + 5).external(id));
        }
        let recorded = worker.record(records).await;
        assert_eq!(recorded.new, 8, "checked {checked}");
    }
    let expected = Totals { events: 16, dead_letters: 32, expired: 16, duplicates: 16, ..Totals::default() };
    assert_eq!(totals(&pool, 0).await, expected);
    assert_eq!(
        number(&pool, "SELECT count(*) FROM analytics_events WHERE (payload->>'n')::int % 10 = 4").await,
        16
    );
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn repeats_of_what_is_stored_already_are_duplicates_all(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[word(1)]).await;
    worker.record_events(&[word(2), word(3), an_event(9), an_event(9)]).await;

    assert_eq!(totals(&pool, 0).await, Totals { events: 2, duplicates: 3, ..Totals::default() });
    check_books(&pool).await;
}
