use query_api::projections::connection::DatabaseConfig;
use query_api::projections::database::RoleMayWrite;
use reqwest::Method;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::harness::{Service, config, database, event, eventually, login, reader, store};

async fn refusal(database: DatabaseConfig) -> String {
    let fault = match query_api::start(config(database, &[]), CancellationToken::new()).await {
        Ok(_) => panic!("it serves"),
        Err(fault) => fault,
    };
    assert!(fault.is::<RoleMayWrite>(), "{fault}");
    fault.to_string()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_role_that_may_write_is_refused(pool: PgPool) {
    let writer = login(&pool, "query_api_test_writer", "analytics_writer").await;
    let sentence = refusal(database(writer.clone())).await;
    assert!(
        sentence.starts_with(
            "the role query_api_test_writer may write to analytics_events, dead_letters, event_counts"
        ),
        "{sentence}"
    );
    // Without a URL of its own too: it is no member of the group that it would step down to.
    refusal(DatabaseConfig { steps_down: true, ..database(writer) }).await;

    let owner = (*pool.connect_options()).clone();
    refusal(database(owner)).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_privilege_on_one_partition_or_column_is_enough_to_be_refused(pool: PgPool) {
    store(&pool, &[event("a", "2025-11-16T18:14:00Z")]).await;
    for (name, privilege) in [
        ("query_api_test_partition", "DELETE ON analytics_events_2025_11"),
        ("query_api_test_column", "UPDATE (total) ON event_counts"),
        ("query_api_test_truncate", "TRUNCATE ON event_retention"),
    ] {
        let options = login(&pool, name, "analytics_reader").await;
        sqlx::query(sqlx::AssertSqlSafe(format!("GRANT {privilege} TO {name}")))
            .execute(&pool)
            .await
            .unwrap();
        refusal(database(options)).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_shared_login_steps_down_on_every_connection(pool: PgPool) {
    let both = login(&pool, "query_api_test_both", "analytics_writer, analytics_reader").await;
    refusal(database(both.clone())).await;
    let service = Service::with(DatabaseConfig { steps_down: true, ..database(both) }, &[]).await;
    service.json("/v1/analytics/metrics/summary").await;
    service.json("/health/ready").await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_role_that_may_not_read_is_told_so(pool: PgPool) {
    let stranger = login(&pool, "query_api_test_stranger", "").await;
    let service = Service::with(database(stranger), &[]).await;
    let ready = service.get("/health/ready").await;
    assert_eq!(ready.status(), 503);
    let text = ready.text().await.unwrap();
    assert!(text.contains("may not read analytics_events") && text.contains("analytics_reader"), "{text}");
    service.problem(Method::GET, "/v1/analytics/events/recent", 503).await;
    service.json("/health/live").await;
}

#[sqlx::test(migrations = false)]
async fn a_database_that_is_not_migrated_is_waited_for(pool: PgPool) {
    let owner = (*pool.connect_options()).clone();
    // The group role may not exist on this server yet, so the owner steps down once it does.
    let service = Service::with(DatabaseConfig { steps_down: true, ..database(owner) }, &[]).await;
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&pool).await.unwrap();
    for path in ["/health", "/health/ready"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status(), 503);
        let expected = format!(
            r#"{{"status":"DOWN","reason":"database {name} is not migrated, its schema public has none of our tables: run `ingest-worker migrate`, or name the database that is migrated"}}"#
        );
        assert_eq!(answer.text().await.unwrap(), expected);
    }
    let problem = service.problem(Method::GET, "/v1/analytics/metrics/summary", 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("ingest-worker migrate"));

    sqlx::migrate!("../migrations").run(&pool).await.unwrap();
    eventually("ready", async || service.get("/health/ready").await.status() == 200).await;
    service.json("/v1/analytics/metrics/summary").await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_readers_role_cannot_write_whatever_it_is_asked(pool: PgPool) {
    let options = reader(&pool).await.connect;
    let reader = sqlx::postgres::PgPoolOptions::new().connect_with(options).await.unwrap();
    for statement in [
        "INSERT INTO event_series (source, event_type) VALUES ('a', 'b')",
        "UPDATE event_counts SET total = 0",
        "DELETE FROM analytics_events",
        "TRUNCATE dead_letters",
        "SELECT create_event_partition(now())",
    ] {
        let fault = sqlx::query(statement).execute(&reader).await.unwrap_err();
        assert_eq!(fault.as_database_error().unwrap().code().unwrap(), "42501", "{statement}");
    }
}
