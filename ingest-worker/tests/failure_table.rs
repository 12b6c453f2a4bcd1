use ingest_worker::write::{Statement, WriteFailure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Error, Executor as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::given::settings;

/// What is to be done, without the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Duplicate,
    MissingPartition,
    Refused,
    PredecessorAlive,
    Unavailable,
    Defect,
}
use Next::{Defect, Duplicate, MissingPartition, PredecessorAlive, Refused, Unavailable};

fn next(statement: Statement, error: &Error) -> Next {
    match WriteFailure::of(statement, error) {
        WriteFailure::Duplicate => Duplicate,
        WriteFailure::MissingPartition => MissingPartition,
        WriteFailure::Refused { .. } | WriteFailure::RefusedSeries(_) | WriteFailure::RefusedLetter(_) => {
            Refused
        }
        WriteFailure::PredecessorAlive => PredecessorAlive,
        WriteFailure::Unavailable(_) => Unavailable,
        WriteFailure::Defect(_) => Defect,
    }
}

/// By the step that failed: claim, COPY into events, the other rows made of records, everything else.
fn check(error: &Error, sqlstate: &str, expected: [Next; 4], what: &str) {
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some(sqlstate), "{what}: {error}");
    check_client(error, expected, what);
}

fn check_client(error: &Error, expected: [Next; 4], what: &str) {
    let steps = [Statement::Claim, Statement::CopyEvents, Statement::Rows, Statement::Other];
    assert_eq!(steps.map(|step| next(step, error)), expected, "{what}: {error}");
}

const ALWAYS_UNAVAILABLE: [Next; 4] = [Unavailable; 4];
const ALWAYS_DEFECT: [Next; 4] = [Defect; 4];
/// The row's fault where rows are written, ours elsewhere.
const ROW: [Next; 4] = [Defect, Refused, Refused, Defect];

async fn session(pool: &PgPool) -> PgConnection {
    PgConnection::connect_with(&pool.connect_options()).await.unwrap()
}

async fn failing(pool: &PgPool, statement: &str) -> Error {
    let mut connection = session(pool).await;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect_err(statement)
}

const EVENT: &str = "INSERT INTO analytics_events (id, event_type, source, occurred_at, payload)
    VALUES ('00000000-0000-0000-0000-000000000001', 't', 's', '2025-11-16Z', '{}')";

#[sqlx::test(migrations = "../migrations")]
async fn what_postgresql_says_of_a_row_is_acted_upon(pool: PgPool) {
    sqlx::raw_sql("SELECT create_event_partition('2025-11-16Z')").execute(&pool).await.unwrap();
    sqlx::raw_sql(EVENT).execute(&pool).await.unwrap();
    let beyond = EVENT.replace("2025-11-16Z", "2525-11-16Z");
    let infinite = EVENT.replace("2025-11-16Z", "infinity");
    for (statement, sqlstate, expected) in [
        (EVENT, "23505", [Defect, Duplicate, Refused, Defect]),
        (beyond.as_str(), "23514", [Defect, MissingPartition, Refused, Defect]),
        (infinite.as_str(), "23514", [Defect, MissingPartition, Refused, Defect]),
        ("INSERT INTO event_counts VALUES (now(), 1, 1, 0, '{}')", "23514", ROW),
        ("INSERT INTO event_ids VALUES (NULL, now())", "23502", ROW),
        ("SELECT '{'::jsonb", "22P02", ROW),
        (r#"SELECT '"\u0000"'::jsonb"#, "22P05", ROW),
        ("SELECT '1e200000'::jsonb", "22003", ROW),
        ("SELECT timestamptz '294277-01-01'", "22008", ROW),
        ("SELECT convert_from('\\xff', 'UTF8')", "22021", ROW),
        ("INSERT INTO event_series (source, event_type) VALUES (repeat('x', 121), 't')", "22001", ROW),
        ("SELECT repeat('[', 100000)::jsonb", "54001", ROW),
    ] {
        check(&failing(&pool, statement).await, sqlstate, expected, statement);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_blames_our_encoder_is_a_defect_wherever_it_comes(pool: PgPool) {
    for (what, sqlstate, columns, bytes) in [
        ("no signature", "22P04", "id", b"nonsense, and more than nineteen bytes".to_vec()),
        ("too few fields", "22P04", "id, occurred_at", row(&[&[0; 16]])),
        ("15 bytes of uuid", "08P01", "id", row(&[&[0; 15]])),
        ("9 bytes of time", "22P03", "occurred_at", row(&[&[0; 9]])),
        ("jsonb of version 2", "XX000", "payload", row(&[b"\x02{}"])),
    ] {
        let mut connection = session(&pool).await;
        let command = format!("COPY analytics_events ({columns}) FROM STDIN (FORMAT binary)");
        let mut copy = connection.copy_in_raw(&command).await.unwrap();
        copy.send(bytes.as_slice()).await.unwrap();
        check(&copy.finish().await.unwrap_err(), sqlstate, ALWAYS_DEFECT, what);
    }
}

/// Binary COPY of one row.
fn row(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(i16::try_from(fields.len()).unwrap().to_be_bytes());
    for field in fields {
        bytes.extend(i32::try_from(field.len()).unwrap().to_be_bytes());
        bytes.extend(*field);
    }
    bytes.extend((-1_i16).to_be_bytes());
    bytes
}

#[sqlx::test(migrations = "../migrations")]
async fn a_schema_that_does_not_fit_is_a_defect(pool: PgPool) {
    let insert = "SET ROLE analytics_reader; INSERT INTO event_ids VALUES (gen_random_uuid(), now())";
    for (statement, sqlstate) in [
        ("DROP TABLE dead_letters; SELECT FROM dead_letters", "42P01"),
        ("ALTER TABLE event_ids DROP COLUMN request_hash; SELECT request_hash FROM event_ids", "42703"),
        ("DROP FUNCTION create_event_partition; SELECT create_event_partition(now())", "42883"),
        (insert, "42501"),
        ("SELEKT", "42601"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x'; END $$", "P0001"),
    ] {
        check(&failing(&pool, statement).await, sqlstate, ALWAYS_DEFECT, statement);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_worlds_fault_is_waited_out(pool: PgPool) {
    let raise =
        |code: &str| format!("DO $$ BEGIN RAISE EXCEPTION 'simulated' USING ERRCODE = '{code}'; END $$");
    for (statement, sqlstate) in [
        ("SET transaction_read_only = on; DELETE FROM event_ids".to_owned(), "25006"),
        ("SET statement_timeout = '10ms'; SELECT pg_sleep(60)".to_owned(), "57014"),
        ("SELECT pg_terminate_backend(pg_backend_pid())".to_owned(), "57P01"),
        (raise("25P03"), "25P03"),
        (raise("53100"), "53100"),
        (raise("53200"), "53200"),
        (raise("57P02"), "57P02"),
        (raise("57P03"), "57P03"),
        (raise("58030"), "58030"),
        (raise("08006"), "08006"),
    ] {
        check(&failing(&pool, &statement).await, sqlstate, ALWAYS_UNAVAILABLE, &statement);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_lock_that_is_not_had_means_a_predecessor_only_to_a_claim(pool: PgPool) {
    let mut holder = session(&pool).await;
    holder.execute("BEGIN; LOCK TABLE ingest_offsets").await.unwrap();
    let statement = "SET lock_timeout = '10ms'; SELECT FROM ingest_offsets";
    let expected = [PredecessorAlive, Unavailable, Unavailable, Unavailable];
    check(&failing(&pool, statement).await, "55P03", expected, statement);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deadlock_and_a_lost_race_are_tried_again(pool: PgPool) {
    let (mut one, mut other) = (session(&pool).await, session(&pool).await);
    sqlx::raw_sql("INSERT INTO event_series (source, event_type) VALUES ('a', 'a'), ('b', 'b')")
        .execute(&pool)
        .await
        .unwrap();
    let (lock_a, lock_b) = (
        "SELECT FROM event_series WHERE source = 'a' FOR UPDATE",
        "SELECT FROM event_series WHERE source = 'b' FOR UPDATE",
    );
    for (session, lock) in [(&mut one, lock_a), (&mut other, lock_b)] {
        session.execute("SET deadlock_timeout = '10ms'; BEGIN").await.unwrap();
        session.execute(lock).await.unwrap();
    }
    // Whoever is not the victim goes on once the victim is rolled back.
    let victim = async |session: &mut PgConnection, lock: &'static str| {
        let result = session.execute(lock).await;
        session.execute("ROLLBACK").await.unwrap();
        result
    };
    let (forth, back) = tokio::join!(victim(&mut one, lock_b), victim(&mut other, lock_a));
    check(&forth.and(back).unwrap_err(), "40P01", ALWAYS_UNAVAILABLE, "deadlock");

    one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM event_series").await.unwrap();
    other.execute("UPDATE event_series SET source = 'c' WHERE source = 'a'").await.unwrap();
    let lost = one.execute("UPDATE event_series SET source = 'd' WHERE event_type = 'a'").await;
    check(&lost.unwrap_err(), "40001", ALWAYS_UNAVAILABLE, "serialization");

    // Each has read what the other writes: the second learns it only by its COMMIT.
    for (session, name) in [(&mut one, "e"), (&mut other, "f")] {
        session
            .execute("ROLLBACK; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM event_series")
            .await
            .unwrap();
        let write = format!("INSERT INTO event_series (source, event_type) VALUES ('{name}', '{name}')");
        session.execute(AssertSqlSafe(write)).await.unwrap();
    }
    one.execute("COMMIT").await.unwrap();
    let lost = other.execute("COMMIT").await.unwrap_err();
    check(&lost, "40001", ALWAYS_UNAVAILABLE, "serialization at the commit");
}

/// The same error would be acted upon otherwise were it met by a statement.
fn check_connect(error: &Error, sqlstate: &str, elsewhere: [Next; 4], what: &str) {
    check(error, sqlstate, elsewhere, what);
    assert_eq!(next(Statement::Connect, error), Unavailable, "{what}: {error}");
}

#[sqlx::test(migrations = "../migrations")]
async fn who_cannot_connect_waits_and_who_may_not_waits_too(pool: PgPool) {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    // A role of this test's own: roles belong to the whole cluster.
    let role = format!("full_{}", Uuid::new_v4().simple());
    let run = async |statement: String| sqlx::raw_sql(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    let connect = async |password: &str| {
        let login = settings(options.clone().username(&role).password(password));
        let refused = login.session().await.unwrap_err();
        assert!(matches!(refused, WriteFailure::Unavailable(_)), "{refused}");
        login.connect().await.unwrap_err()
    };
    run(format!("CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")).await;
    let full = connect("x").await;
    run(format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    let stranger = connect("wrong").await;
    run(
        "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$"
            .to_owned(),
    )
    .await;
    let revoked = connect("x").await;
    run(format!("ALTER ROLE {role} NOLOGIN")).await;
    let disabled = connect("x").await;
    run(format!("DROP ROLE {role}")).await;

    check_connect(&full, "53300", ALWAYS_UNAVAILABLE, "too many connections");
    check_connect(&stranger, "28P01", ALWAYS_DEFECT, "wrong password");
    check_connect(&revoked, "42501", ALWAYS_DEFECT, "may not connect");
    check_connect(&disabled, "28000", ALWAYS_DEFECT, "may not log in");
    let nowhere = settings(options.clone().database("no_such_database")).connect().await.unwrap_err();
    check_connect(&nowhere, "3D000", ALWAYS_DEFECT, "no database");
    let closed = settings(options.clone().port(1)).connect().await.unwrap_err();
    check_client(&closed, ALWAYS_UNAVAILABLE, "nobody listens");
    let standby = options.options([("default_transaction_read_only", "on")]);
    let standby = settings(standby).connect().await.unwrap_err();
    check_client(&standby, ALWAYS_UNAVAILABLE, "takes no writes");
    for error in [closed, standby] {
        assert_eq!(next(Statement::Connect, &error), Unavailable, "{error}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_that_is_gone_is_the_worlds_fault(pool: PgPool) {
    let mut connection = session(&pool).await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend($1, 5000)").bind(pid).execute(&pool).await.unwrap();
    for _ in 0..2 {
        let error = connection.execute("SELECT 1").await.unwrap_err();
        check_client(&error, ALWAYS_UNAVAILABLE, "terminated");
    }
}
