//! Duplicates by an id from outside: what says something else than the first with it is seen, and stays a duplicate.

use ingest_worker::batch::Totals;
use ingest_worker::commands::{Conflict, Recorded};
use ingest_worker::write::event_ids::Place;
use sqlx::PgPool;

use crate::given::{Draft, Worker, an_event, database, key, uuid};
use crate::stored::{check_books, number, totals};

fn word(n: u32) -> Draft {
    an_event(n).external(uuid(1))
}

fn at(partition: i32, offset: i64) -> Place {
    Place { topic: key(partition).topic, partition, offset: Some(offset) }
}

/// Offsets of the duplicates that differ, and of the firsts.
fn offsets(recorded: &Recorded) -> Vec<(Option<i64>, Option<i64>)> {
    let first = |conflict: &Conflict| conflict.first.as_ref().and_then(|first| first.offset);
    recorded.conflicts.iter().map(|conflict| (conflict.place.offset, first(conflict))).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn another_content_under_the_same_id_is_seen_with_both_positions(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let first = word(1);
    worker.record_events(&[an_event(9), first.clone()]).await;
    let same = first.clone().with_payload(r#" { "points":15e-1, "number" : 1 } "#);
    let others = [
        first.clone().with_payload(r#"{"number":2,"points":1.50}"#),
        first.clone().of_type("another"),
        first.clone().of_tenant(""),
        first.clone().at("2025-11-16T12:00:02Z"),
        first.clone().came_at("2025-11-16T12:00:01Z"),
    ];
    let recorded = worker.record_events(&[&[same], &others[..]].concat()).await;

    assert_eq!(offsets(&recorded), (3..8).map(|offset| (Some(offset), Some(1))).collect::<Vec<_>>());
    let conflict = Conflict { id: uuid(1), place: at(0, 3), first: Some(at(0, 1)) };
    assert_eq!(recorded.conflicts[0], conflict);
    assert_eq!(totals(&pool, 0).await, Totals { events: 2, duplicates: 6, ..Totals::default() });
    assert_eq!(
        number(&pool, "SELECT count(*) FROM event_ids WHERE octet_length(content_digest) = 16").await,
        1
    );
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_repeat_that_says_no_time_may_come_at_any(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let said_nothing = |at: &str| word(1).came_at(at);
    worker.record_events(&[said_nothing("2025-11-16T12:00:00Z")]).await;
    let recorded = worker.record_events(&[said_nothing("2025-11-17T12:00:00Z"), word(1)]).await;
    assert_eq!(offsets(&recorded), [(Some(2), Some(0))]);
}

#[sqlx::test(migrations = "../migrations")]
async fn within_one_batch_and_across_lanes_too(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let recorded = worker.record_events(&[word(1), word(1), word(2), word(3)]).await;
    assert_eq!(offsets(&recorded), [(Some(2), Some(0)), (Some(3), Some(0))]);
    let mut other = Worker::holding(&pool, &[5]).await;
    let recorded = other.record(other.batch().event(5, &word(4)).event(5, &word(1)).event(5, &word(4))).await;
    let expected = |offset| Conflict { id: uuid(1), place: at(5, offset), first: Some(at(0, 0)) };
    assert_eq!(recorded.conflicts, [expected(0), expected(2)]);
    check_books(&pool).await;
}

/// It is not in `event_ids`: compared with the event itself.
#[sqlx::test(migrations = "../migrations")]
async fn a_re_imported_id_that_was_made_here_is_compared_with_its_event(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    let made_here = an_event(1).of_tenant("t");
    let id = made_here.make().id().uuid();
    worker.record_events(std::slice::from_ref(&made_here)).await;
    let again = made_here.external(id);
    let drafts = [
        again.clone(),
        again.clone().with_payload(r#"{"points":1.5,"number":1.0}"#),
        again.clone().came_at("2025-11-20T00:00:00Z"),
        again.clone().with_payload("{}"),
        again.clone().at("2025-11-16T12:00:01.0001Z"),
    ];
    let recorded = worker.record_events(&drafts).await;
    assert_eq!(offsets(&recorded), [(Some(4), None), (Some(5), None)]);
    assert_eq!(number(&pool, "SELECT count(*) FROM event_ids").await, 0);
    check_books(&pool).await;
    // One that is new here has a row, and so a position.
    let foreign = an_event(7).external(an_event(7).make().id().uuid());
    worker.record_events(std::slice::from_ref(&foreign)).await;
    let recorded = worker.record_events(&[foreign.clone().with_payload("{}"), foreign]).await;
    assert_eq!(offsets(&recorded), [(Some(7), Some(6))]);
}

#[sqlx::test(migrations = "../migrations")]
async fn ids_from_before_there_were_digests_are_not_compared(pool: PgPool) {
    let mut worker = Worker::holding(&pool, &[0]).await;
    worker.record_events(&[word(1)]).await;
    // As the release before this one leaves them.
    sqlx::query(
        "UPDATE event_ids SET content_digest = NULL, topic = NULL, partition = NULL, record_offset = NULL",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(worker.record_events(&[word(2)]).await.conflicts, []);
}

#[sqlx::test(migrations = "../migrations")]
async fn reading_the_same_records_again_finds_the_same_and_a_replay_nothing(pool: PgPool) {
    let words = [word(1), word(2), word(1)];
    let mut worker = Worker::holding(&pool, &[0]).await;
    assert_eq!(offsets(&worker.record_events(&words).await), [(Some(1), Some(0))]);
    let mut replay = Worker::of_group(database(&pool), "replay/x", &[0]).await;
    let recorded = replay.record_events(&words).await;
    assert_eq!((recorded.new, recorded.conflicts.len()), (0, 0));
    // What is expired or another's is not looked at.
    sqlx::query("SELECT drop_event_partitions('2025-11-01Z')").execute(&pool).await.unwrap();
    let recorded = worker.record_events(&[word(3).at("2025-09-01T00:00:00Z")]).await;
    assert_eq!(recorded.conflicts, []);
}
