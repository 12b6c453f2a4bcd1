use ingest_worker::batch::Totals;
use ingest_worker::write::DatabaseSettings;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use uuid::Uuid;

use crate::given::{Worker, an_event, eventually, settings, uuid};
use crate::stored::{check_books, totals};

/// `table: PRIVILEGE PRIVILEGE …` for all tables of ours, `_sqlx_migrations` and partitions included.
async fn privileges(pool: &PgPool, role: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat(c.relname, ':', (
             SELECT string_agg(' ' || p, '' ORDER BY p)
             FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
             WHERE has_table_privilege($1::text, c.oid, p)
         ))
         FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
         ORDER BY c.relname",
    )
    .bind(role)
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn executable(pool: &PgPool, role: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT p.proname::text FROM pg_proc p
         WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege($1::text, p.oid, 'EXECUTE')
         ORDER BY 1",
    )
    .bind(role)
    .fetch_all(pool)
    .await
    .unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn the_reader_can_only_read(pool: PgPool) {
    // Tables to come are the reader's too.
    sqlx::raw_sql("SELECT create_event_partition(now()); CREATE TABLE later (n integer)")
        .execute(&pool)
        .await
        .unwrap();
    let tables = privileges(&pool, "analytics_reader").await;
    assert!(tables.len() >= 11, "{tables:?}");
    for table in tables {
        assert!(table.ends_with(": SELECT"), "{table}");
    }
    assert_eq!(executable(&pool, "analytics_reader").await, Vec::<String>::new());
    let more = "SELECT has_schema_privilege('analytics_reader', 'public', 'USAGE')
        AND NOT EXISTS (SELECT FROM pg_sequence WHERE has_sequence_privilege('analytics_reader', seqrelid, 'USAGE, UPDATE'))";
    assert!(sqlx::query_scalar::<_, bool>(more).fetch_one(&pool).await.unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_writer_can_do_what_it_does_and_no_more(pool: PgPool) {
    let expected = [
        "_sqlx_migrations: SELECT",
        "analytics_events: INSERT SELECT",
        "dead_letters: INSERT SELECT UPDATE",
        "event_counts: INSERT SELECT UPDATE",
        "event_ids: INSERT SELECT",
        "event_retention: SELECT",
        "event_series: INSERT SELECT",
        "ingest_ledger: INSERT SELECT UPDATE",
        "ingest_offsets: INSERT SELECT UPDATE",
        "rule_identities: INSERT SELECT",
    ];
    assert_eq!(privileges(&pool, "analytics_writer").await, expected);
    let functions = ["create_event_partition", "drop_event_partitions"];
    assert_eq!(executable(&pool, "analytics_writer").await, functions);
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_else_can_do_anything(pool: PgPool) {
    for table in privileges(&pool, "pg_monitor").await {
        assert!(table.ends_with(':'), "{table}");
    }
    assert_eq!(executable(&pool, "pg_monitor").await, Vec::<String>::new());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_writers_privileges_are_enough_for_all_that_it_does(pool: PgPool) {
    // A login of this test's own: roles belong to the whole cluster.
    let login = format!("writer_{}", Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {login} LOGIN PASSWORD 'x' IN ROLE analytics_writer");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&pool).await.unwrap();
    let database: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&pool).await.unwrap();
    // Neither temporary tables nor another role than its own, which alone may end a frozen worker's session.
    let less = format!(
        "REVOKE TEMPORARY ON DATABASE \"{database}\" FROM PUBLIC; ALTER ROLE {login} SET role = analytics_writer"
    );
    sqlx::raw_sql(AssertSqlSafe(less)).execute(&pool).await.unwrap();
    let may = "SELECT has_database_privilege('analytics_writer', current_database(), 'TEMPORARY')";
    assert!(!sqlx::query_scalar::<_, bool>(may).fetch_one(&pool).await.unwrap());
    let options = (*pool.connect_options()).clone().username(&login).password("x");
    work_as_writer(&pool, &settings(options)).await;

    let drop_role = format!("DROP ROLE {login}");
    // Its sessions are about to end, and their temporary tables with them.
    let dropped = async || sqlx::raw_sql(AssertSqlSafe(drop_role.clone())).execute(&pool).await.is_ok();
    eventually("the role is dropped", dropped).await;
    check_books(&pool).await;
}

async fn work_as_writer(pool: &PgPool, database: &DatabaseSettings) {
    let mut worker = Worker::connected(database.clone(), &[0]).await;
    for _ in 0..2 {
        let records = worker.batch().event(0, &an_event(1)).event(0, &an_event(2).external(uuid(2)));
        worker.record(records.gap(0, 1).refused(0, b"x").tombstone(0)).await;
    }
    let expected = Totals { events: 2, duplicates: 2, dead_letters: 2, tombstones: 2, gaps: 2, expired: 0 };
    assert_eq!(totals(pool, 0).await, expected);
    let connection = worker.recorder.connection();
    connection.execute("SELECT drop_event_partitions('2020-01-01Z')").await.unwrap();
    // Frozen in a transaction: another worker of the same login may end its session.
    connection.execute("BEGIN; SELECT FROM ingest_offsets FOR UPDATE").await.unwrap();
    let mut successor = Worker::connected(database.clone(), &[0]).await;
    successor.record_events(&[an_event(3)]).await;
    assert!(worker.recorder.connection().execute("COMMIT").await.is_err());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_reader_is_refused_whatever_it_tries_to_write(pool: PgPool) {
    for statement in [
        "DELETE FROM analytics_events",
        "UPDATE event_counts SET total = 0",
        "TRUNCATE dead_letters",
        "INSERT INTO event_ids VALUES (gen_random_uuid(), now())",
        "SELECT FROM ingest_offsets FOR UPDATE",
        "SELECT create_event_partition(now())",
        "SELECT drop_event_partitions('2020-01-01Z')",
        "SELECT grant_analytics_privileges()",
        "ALTER TABLE event_ids ADD COLUMN mine text",
        "DROP TABLE analytics_events",
    ] {
        let statement = format!("SET ROLE analytics_reader; {statement}");
        let mut connection = pool.acquire().await.unwrap().detach();
        let error =
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
    }
}
