//! What both processes need of a database and of their sessions there: verified, said in one sentence, or set by themselves.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dev::bench::Bench;
use dev::database::Database;
use dev::processes::{Process, Settings, free_port, verdict};
use dev::stack::{Login, Stack};
use dev::wait::until;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

const SOON: Duration = Duration::from_secs(30);

/// As administrators set them, for whatever else the login is used.
const ALL: [&str; 18] = [
    "search_path = evil, pg_catalog, public",
    "client_encoding = LATIN1",
    "standard_conforming_strings = off",
    "DateStyle = 'German'",
    "IntervalStyle = iso_8601",
    // Its abbreviation is also Israel's.
    "TimeZone = 'Asia/Kolkata'",
    "bytea_output = escape",
    "extra_float_digits = -15",
    "client_min_messages = error",
    "statement_timeout = '20ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "idle_session_timeout = '100ms'",
    "default_transaction_isolation = serializable",
    "default_transaction_deferrable = on",
    "row_security = off",
    "application_name = other",
    "array_nulls = off",
];

async fn run(pool: &PgPool, statement: String) -> Result<()> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(pool).await;
    done.map(drop).context(statement)
}

fn settings(database: &Database) -> [(&'static str, Settings); 2] {
    let of = |name: &str, login| Settings::from([(name.to_owned(), database.url(login))]);
    let worker = of("ANALYTICS_DATABASE_URL", Login::Writer);
    [("ingest-worker", worker), ("query-api", of("ANALYTICS_READ_DATABASE_URL", Login::Reader))]
}

/// Kafka is not asked here: its part of the screen is left out.
async fn checks_say(database: &Database, sentences: &[&str]) -> Result<()> {
    for (binary, settings) in settings(database) {
        let (code, said) = verdict(binary, "check", &settings).await?;
        let says = sentences.iter().all(|sentence| said.contains(sentence));
        ensure!(code == 3 && says, "{binary} check ended with {code}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_before_anything_is_claimed() -> Result<()> {
    let stack = Stack::find()?;
    for encoding in ["LATIN1", "SQL_ASCII", "WIN1252"] {
        let name = format!("analytics_test_{}_{}", std::process::id(), encoding.to_lowercase());
        let database = Database::encoded(&stack, &name, encoding).await?;
        let sentence = format!("the encoding of database {name} is {encoding}");
        let owner = Settings::from([("ANALYTICS_DATABASE_URL".to_owned(), database.url(Login::Owner))]);
        let (code, said) = verdict("ingest-worker", "migrate", &owner).await?;
        ensure!(code == 1 && said.contains(&sentence) && said.contains("ENCODING 'UTF8'"), "{code}: {said}");
        checks_say(&database, &[&sentence, "ENCODING 'UTF8'"]).await?;
        if encoding == "WIN1252" {
            database.migrate_from_files().await?;
            wait_with(&stack, &database, &sentence).await?;
        }
        database.remove().await?;
    }
    Ok(())
}

/// Both run on, say why they are not ready and write nothing.
async fn wait_with(stack: &Stack, database: &Database, sentence: &str) -> Result<()> {
    for (binary, mut settings) in settings(database) {
        let port = free_port(0)?;
        settings.insert("ANALYTICS_SERVICE_PORT".to_owned(), port.to_string());
        settings.insert("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS".to_owned(), stack.bootstrap.clone());
        settings.insert("ANALYTICS_KAFKA_CONSUMER_GROUP".to_owned(), database.name.clone());
        let log = std::env::temp_dir().join(format!("{}-{binary}.log", database.name));
        let verb = if binary == "query-api" { "serve" } else { "run" };
        let mut process = Process::start(binary, verb, &settings, port, &log)?;
        until("it says why it is not ready", SOON, async || {
            Ok(process.server.get("/health/ready").await?.text.contains(sentence))
        })
        .await
        .with_context(|| process.last_lines())?;
        ensure!(process.is_running()?, "{binary} has ended");
        ensure!(process.terminate(SOON).await?.success(), "{}", process.last_lines());
        std::fs::remove_file(&log)?;
    }
    let rows: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM ingest_offsets) + (SELECT count(*) FROM rule_identities)",
    )
    .fetch_one(&database.pool)
    .await?;
    ensure!(rows == 0, "{rows} rows were written");
    Ok(())
}

#[tokio::test]
async fn what_is_set_for_a_login_or_a_database_does_not_matter() -> Result<()> {
    let bench = Bench::new("session_settings").await?;
    let (pool, name) = (&bench.database.pool, &bench.database.name);
    // Tables and functions of our names before ours.
    run(
        pool,
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC; \
         CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT timestamptz ''2001-01-01Z'''; \
         CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT ''evil'''; \
         DO $$ DECLARE t text; BEGIN \
             FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LOOP \
                 EXECUTE format('CREATE TABLE evil.%I (nothing integer)', t); \
             END LOOP; \
         END $$; GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC"
            .to_owned(),
    )
    .await?;
    for (login, role) in [("analytics_ingest", "analytics_writer"), ("analytics_query", "analytics_reader")] {
        for setting in ALL {
            run(pool, format!("ALTER ROLE {login} IN DATABASE {name} SET {setting}")).await?;
        }
        run(pool, format!("ALTER ROLE {login} IN DATABASE {name} SET role = {role}")).await?;
    }
    run(
        pool,
        format!("ALTER ROLE analytics_query IN DATABASE {name} SET default_transaction_read_only = on"),
    )
    .await?;

    let mut worker_settings = bench.worker_settings(&bench.group);
    worker_settings.insert("ANALYTICS_KAFKA_TOPIC".to_owned(), "analytics.events".to_owned());
    for (binary, settings) in
        [("ingest-worker", &worker_settings), ("query-api", &settings(&bench.database)[1].1)]
    {
        let (code, said) = verdict(binary, "check", settings).await?;
        ensure!(code == 0, "{binary} check ended with {code}: {said}");
    }
    let (mut worker, mut reader) = (bench.worker().await?, bench.reader().await?);
    for at in ["2025-10-31T23:59:59.999999Z", "2025-11-01T00:00:00Z", "2025-11-01T04:00:00Z"] {
        let body =
            json!({ "eventType": "日本 \\é", "source": "s", "occurredAt": at, "payload": { "x": "ß\\" } });
        let answer = worker.server.post("/v1/analytics/events", body.to_string()).await?;
        ensure!(answer.status.as_u16() == 201, "{at}: {} {}", answer.status, answer.text);
    }
    let recent = reader.server.get_json("/v1/analytics/events/recent?limit=9").await?;
    ensure!(recent["count"] == 3 && recent["items"][0]["eventType"] == "日本 \\é", "{recent}");
    ensure!(recent["items"][0]["payload"] == json!({ "x": "ß\\" }), "{recent}");
    let path = "/v1/analytics/metrics/summary?windowMinutes=60&reference=2025-11-01T00:00:01Z";
    let summary = reader.server.get_json(path).await?;
    ensure!(summary["eventsPerType"] == json!({ "日本 \\é": 2 }), "{summary}");
    let months: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT e.tableoid::regclass::text || to_char(occurred_at, ' YYYY-MM') FROM analytics_events e ORDER BY 1",
    )
    .fetch_all(pool)
    .await?;
    ensure!(months == ["analytics_events_2025_10 2025-10", "analytics_events_2025_11 2025-11"], "{months:?}");
    worker.terminate(SOON).await?;
    reader.terminate(SOON).await?;
    bench.remove().await
}

#[tokio::test]
async fn tables_that_are_not_found_and_tables_that_may_not_be_seen_are_told_apart() -> Result<()> {
    let stack = Stack::find()?;
    let name = format!("analytics_test_{}_unseen", std::process::id());
    let database = Database::fresh(&stack, &name).await?;
    let nothing = format!("database {name} is not migrated, its schema public has none of our tables");
    checks_say(&database, &[&nothing, "run `ingest-worker migrate`"]).await?;

    database.migrate_from_files().await?;
    run(
        &database.pool,
        "REVOKE ALL ON SCHEMA public FROM PUBLIC, analytics_writer, analytics_reader".to_owned(),
    )
    .await?;
    let unseen = format!("has no USAGE on schema public of database {name}");
    checks_say(&database, &[&unseen, "GRANT USAGE ON SCHEMA public"]).await?;

    run(&database.pool, "DROP SCHEMA public CASCADE".to_owned()).await?;
    checks_say(&database, &[&format!("database {name} has no schema public")]).await?;
    let owner = Settings::from([("ANALYTICS_DATABASE_URL".to_owned(), database.url(Login::Owner))]);
    let (code, said) = verdict("ingest-worker", "migrate", &owner).await?;
    ensure!(code == 1 && said.contains("has no schema public"), "{code}: {said}");
    database.remove().await
}
