use std::sync::Arc;
use std::time::Duration;

use ingest_worker::batch::{BatchSettings, CommandLane};
use ingest_worker::commands::{CommandFailure, CommandSender, Receipt};
use ingest_worker::health::Health;
use ingest_worker::write::Claims;
use shared::analytics::AnalyticsEvent;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::given::{Draft, GROUP, an_event, database, instant, uuid};
use crate::stored::{check_books, number, rows};

const NO_POISON: &str =
    "ALTER TABLE analytics_events ADD CONSTRAINT no_poison CHECK (NOT payload ? 'poison')";

/// A lane of HTTP commands and this end of it.
fn lane(pool: &PgPool) -> (CommandSender, CommandLane) {
    let (sender, commands) = mpsc::channel(1_000);
    let claims = Claims::new(database(pool), GROUP.to_owned(), "test".to_owned());
    let settings = BatchSettings {
        lanes: 1,
        max_events: 500,
        backlog_max_events: 500,
        max_bytes: 1 << 20,
        linger: Duration::ZERO,
        memory_budget: 96 << 20,
    };
    let lane = CommandLane {
        commands,
        database: database(pool),
        claims,
        group: Arc::from(GROUP),
        worker: Arc::from("test"),
        health: Health::default(),
        settings,
    };
    (CommandSender::new(sender, Duration::from_secs(20), 1 << 20), lane)
}

type Answer = Result<Receipt, CommandFailure>;

/// Posts the events at once, in their order and before the lane is connected; the lane ends when all are answered.
async fn post(pool: &PgPool, drafts: &[Draft]) -> Vec<Answer> {
    let (sender, lane) = lane(pool);
    let clients = async {
        let answers = post_all(&sender, drafts.iter().map(Draft::make)).await;
        drop(sender);
        answers
    };
    let (answers, ended) = tokio::join!(clients, lane.run(CancellationToken::new()));
    ended.unwrap();
    answers
}

async fn post_all(sender: &CommandSender, events: impl Iterator<Item = AnalyticsEvent>) -> Vec<Answer> {
    let mut clients = tokio::task::JoinSet::new();
    for (index, event) in events.enumerate() {
        let sender = sender.clone();
        clients.spawn(async move { (index, sender.record(event, [7; 32]).await) });
    }
    let mut answers = clients.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn concurrent_commands_are_all_stored_and_answered(pool: PgPool) {
    let drafts: Vec<_> = (0..200)
        .map(|n| if n % 2 == 0 { an_event(n).external(uuid(n.into())) } else { an_event(n) })
        .collect();
    let answers = post(&pool, &drafts).await;

    for (draft, answer) in drafts.iter().zip(answers) {
        let receipt = answer.unwrap();
        assert!(!receipt.repeated);
        assert_eq!((receipt.id, receipt.occurred_at), (draft.make().id().uuid(), draft.make().occurred_at()));
    }
    assert_eq!(number(&pool, "SELECT next_offset FROM ingest_offsets WHERE topic = '@http'").await, 200);
    assert_eq!(
        number(&pool, "SELECT count(*) FROM event_ids WHERE octet_length(request_hash) = 32").await,
        100
    );
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_repeat_is_answered_with_what_is_stored(pool: PgPool) {
    let first = an_event(1).external(uuid(1)).of_tenant("acme");
    let again = an_event(2).external(uuid(1)).of_type("something.else");
    let stored = post(&pool, &[first]).await.remove(0).unwrap();
    for answer in post(&pool, &[again.clone(), again]).await {
        assert_eq!(answer.unwrap(), Receipt { repeated: true, ..stored.clone() });
    }
    assert_eq!(number(&pool, "SELECT duplicates FROM ingest_offsets").await, 2);
    let origin =
        "SELECT count(*) FROM event_ids WHERE topic = '@http' AND partition >= 0 AND record_offset IS NULL";
    assert_eq!(number(&pool, origin).await, 1);
    check_books(&pool).await;
}

/// As a client does that was told to repeat with the id it was given, without a time of its own.
#[sqlx::test(migrations = "../migrations")]
async fn a_repeat_with_an_id_made_here_is_found_in_its_millisecond(pool: PgPool) {
    let stored = post(&pool, &[an_event(1)]).await.remove(0).unwrap();
    let again = post(&pool, &[an_event(5_000).external(stored.id)]).await.remove(0);
    assert_eq!(again.unwrap(), Receipt { repeated: true, ..stored });
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_with_one_id_in_one_commit_one_is_the_repeat(pool: PgPool) {
    let twice = an_event(1).external(uuid(1));
    let answers = post(&pool, &[twice.clone(), twice]).await;
    let repeated = answers.into_iter().map(|answer| answer.unwrap().repeated).collect::<Vec<_>>();
    assert_eq!(repeated.iter().filter(|repeated| **repeated).count(), 1);
    check_books(&pool).await;
}

/// Who is refused or too late does not take the others with the same id along; each is told what became of its own.
#[sqlx::test(migrations = "../migrations")]
async fn of_several_with_one_id_in_one_commit_the_first_that_can_be_is_stored(pool: PgPool) {
    sqlx::raw_sql(NO_POISON).execute(&pool).await.unwrap();
    sqlx::query("SELECT drop_event_partitions('2025-11-01Z')").execute(&pool).await.unwrap();
    let word = |n: u32| an_event(n).external(uuid(1));
    let poison = |n: u32| word(n).with_payload(r#"{"poison":1}"#);
    let drafts =
        [poison(1), word(2).at("2025-10-31T23:59:59Z"), poison(1), poison(3), word(4), word(5), poison(6)];
    let answers = post(&pool, &drafts).await;

    for refused in [0, 2, 3] {
        assert!(
            matches!(&answers[refused], Err(CommandFailure::Refused(_))),
            "{refused}: {:?}",
            answers[refused]
        );
    }
    assert!(matches!(answers[1], Err(CommandFailure::Expired { .. })), "{:?}", answers[1]);
    let stored = answers[4].clone().unwrap();
    assert_eq!((stored.repeated, stored.occurred_at), (false, word(4).make().occurred_at()));
    for repeat in [5, 6] {
        assert_eq!(answers[repeat], Ok(Receipt { repeated: true, ..stored.clone() }), "{repeat}");
    }
    assert_eq!(number(&pool, "SELECT next_offset FROM ingest_offsets").await, 4);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_refused_command_is_handed_back_and_is_no_dead_letter(pool: PgPool) {
    sqlx::raw_sql(NO_POISON).execute(&pool).await.unwrap();
    for (round, culprits) in [vec![3], vec![0, 9], vec![1, 2, 3, 5, 8], (0..10).collect()].iter().enumerate()
    {
        let base = u32::try_from(round).unwrap() * 100;
        let drafts: Vec<_> = (0..10)
            .map(|n| {
                let event = an_event(base + n);
                if culprits.contains(&n) { event.with_payload(r#"{"poison":1}"#) } else { event }
            })
            .collect();
        for (n, answer) in (0..).zip(post(&pool, &drafts).await) {
            match answer {
                Ok(_) => assert!(!culprits.contains(&n), "{n} of {culprits:?}"),
                Err(CommandFailure::Refused(message)) => {
                    assert!(
                        culprits.contains(&n) && message.contains("no_poison"),
                        "{n} of {culprits:?}: {message}"
                    );
                }
                Err(other) => panic!("{n} of {culprits:?}: {other}"),
            }
        }
    }
    assert_eq!(rows(&pool, "dead_letters").await.len(), 0);
    assert_eq!(number(&pool, "SELECT next_offset FROM ingest_offsets").await, 22);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_command_that_another_table_refuses_is_handed_back_too(pool: PgPool) {
    for (round, table, when) in [
        (0, "event_series", "NEW.event_type = 'poison'"),
        (1, "event_counts", "NEW.hour = '2025-11-16T20:00Z'"),
    ] {
        let hole = format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF {when} THEN RAISE EXCEPTION 'no poison' USING ERRCODE = '22P05'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(hole)).execute(&pool).await.unwrap();
        let event = |n: u32| an_event(round * 100 + n);
        let poison = event(5).of_type("poison").at("2025-11-16T20:00:00Z");
        let answers = post(&pool, &[event(1), poison, event(2)]).await;
        assert!(answers[0].is_ok() && answers[2].is_ok(), "{table}: {answers:?}");
        let Err(CommandFailure::Refused(message)) = &answers[1] else { panic!("{table}: {answers:?}") };
        assert!(message.contains("no poison"), "{table}: {message}");
        sqlx::raw_sql("DROP FUNCTION refuse CASCADE").execute(&pool).await.unwrap();
    }
    assert_eq!(rows(&pool, "dead_letters").await.len(), 0);
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_command_before_the_horizon_is_told_so(pool: PgPool) {
    sqlx::query("SELECT drop_event_partitions($1)")
        .bind(instant("2025-11-01T00:00:00Z"))
        .execute(&pool)
        .await
        .unwrap();
    let answers = post(&pool, &[an_event(1).at("2025-10-31T23:59:59Z"), an_event(2)]).await;

    let expected = CommandFailure::Expired { horizon: "2025-11-01T00:00:00+00:00".to_owned() };
    assert_eq!(answers[0], Err(expected));
    assert!(answers[1].is_ok());
    check_books(&pool).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn commands_survive_the_end_of_their_session(pool: PgPool) {
    let (sender, lane) = lane(&pool);
    let clients = async {
        for round in 0..5_u32 {
            let events = (0..20).map(|n| an_event(round * 100 + n).make());
            let end_session = "SELECT count(pg_terminate_backend(backend_pid, 5000)) FROM ingest_offsets WHERE topic = '@http'";
            let (answers, _) = tokio::join!(post_all(&sender, events), number(&pool, end_session));
            for answer in answers {
                assert!(!answer.unwrap().repeated, "a client's first word is no repeat");
            }
        }
        drop(sender);
    };
    let ((), ended) = tokio::join!(clients, lane.run(CancellationToken::new()));
    ended.unwrap();
    assert_eq!(number(&pool, "SELECT count(*) FROM analytics_events").await, 100);
    check_books(&pool).await;
}
