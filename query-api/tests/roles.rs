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
        ("query_api_test_identities", "INSERT ON rule_identities"),
        ("query_api_test_migrations", "DELETE ON _sqlx_migrations"),
        ("query_api_test_trigger", "TRIGGER ON event_ids"),
        ("query_api_test_sequence", "USAGE ON SEQUENCE event_series_id_seq"),
        ("query_api_test_create", "EXECUTE ON FUNCTION create_event_partition(timestamptz)"),
        ("query_api_test_drop", "EXECUTE ON FUNCTION drop_event_partitions(timestamptz)"),
    ] {
        let options = login(&pool, name, "analytics_reader").await;
        sqlx::query(sqlx::AssertSqlSafe(format!("GRANT {privilege} TO {name}")))
            .execute(&pool)
            .await
            .unwrap();
        let said = refusal(database(options)).await;
        let (_, object) = privilege.rsplit_once("ON ").unwrap();
        let object = object.split_once(' ').map_or(object, |(_, function)| function);
        assert!(said.contains(object.trim_end_matches("(timestamptz)")), "{privilege}: {said}");
    }
}

/// A table of a release to come: nobody keeps a list.
#[sqlx::test(migrations = "../migrations")]
async fn what_the_writers_group_may_do_is_what_a_reader_may_not(pool: PgPool) {
    let options = login(&pool, "query_api_test_later", "analytics_reader").await;
    let make = "CREATE TABLE later (n integer); CREATE TABLE others (n integer); GRANT INSERT, SELECT ON later TO analytics_writer; \
                CREATE FUNCTION later_too() RETURNS void LANGUAGE sql SECURITY DEFINER AS ''; \
                REVOKE EXECUTE ON FUNCTION later_too() FROM PUBLIC; GRANT EXECUTE ON FUNCTION later_too() TO analytics_writer";
    sqlx::raw_sql(make).execute(&pool).await.unwrap();
    // A table in the same schema that is none of ours.
    sqlx::raw_sql("GRANT INSERT ON others TO query_api_test_later").execute(&pool).await.unwrap();
    Service::with(database(options.clone()), &[]).await.json("/health/ready").await;
    sqlx::raw_sql("GRANT UPDATE (n) ON later TO query_api_test_later").execute(&pool).await.unwrap();
    assert!(refusal(database(options.clone())).await.contains("may write to later and"));
    sqlx::raw_sql(
        "REVOKE UPDATE (n) ON later FROM query_api_test_later; GRANT EXECUTE ON FUNCTION later_too() TO query_api_test_later",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert!(refusal(database(options)).await.contains("may write to later_too() and"));
}

/// As after a restore without privileges: functions may be executed by everybody then, and no group says what is ours.
#[sqlx::test(migrations = "../migrations")]
async fn without_grants_what_belongs_to_the_owner_of_the_events_is_ours(pool: PgPool) {
    let options = login(&pool, "query_api_test_restored", "").await;
    let restored = "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM analytics_writer, analytics_reader; \
                    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM analytics_writer, analytics_reader; \
                    GRANT SELECT ON ALL TABLES IN SCHEMA public TO query_api_test_restored";
    sqlx::raw_sql(restored).execute(&pool).await.unwrap();
    Service::with(database(options.clone()), &[]).await.json("/health/ready").await;
    for (privilege, object) in [
        ("EXECUTE ON FUNCTION create_event_partition(timestamptz)", "create_event_partition()"),
        ("INSERT ON rule_identities", "rule_identities"),
    ] {
        for (verb, direction) in [("GRANT", "TO"), ("REVOKE", "FROM")] {
            let statement = format!("{verb} {privilege} {direction} query_api_test_restored");
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
            if verb == "GRANT" {
                let said = refusal(database(options.clone())).await;
                assert!(said.contains(&format!("may write to {object} and")), "{said}");
            }
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_owner_of_one_table_or_of_the_schema_is_refused(pool: PgPool) {
    let options = login(&pool, "query_api_test_owner", "analytics_reader").await;
    for (owned, named) in [("TABLE rule_identities", "rule_identities"), ("SCHEMA public", "schema public")] {
        let statement = format!("ALTER {owned} OWNER TO query_api_test_owner");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        // What it was granted as owner is gone; it could grant it to itself again.
        sqlx::raw_sql("REVOKE ALL ON rule_identities FROM query_api_test_owner")
            .execute(&pool)
            .await
            .unwrap();
        let said = refusal(database(options.clone())).await;
        assert!(said.contains(&format!("may write to {named} and")), "{said}");
        let back = format!("ALTER {owned} OWNER TO CURRENT_USER");
        sqlx::raw_sql(sqlx::AssertSqlSafe(back)).execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_older_schema_is_named_with_what_this_release_needs(pool: PgPool) {
    let newest = "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations) RETURNING version";
    let newest: i64 = sqlx::query_scalar(newest).fetch_one(&pool).await.unwrap();
    let service = Service::start(&pool).await;
    let ready = service.get("/health/ready").await.text().await.unwrap();
    let expected = format!("its schema version is {}, this release needs {newest}", newest - 1);
    assert!(ready.contains(&expected) && ready.contains("ingest-worker migrate"), "{ready}");
    let again = "INSERT INTO _sqlx_migrations SELECT version + 1, description, now(), true, checksum, 0 FROM _sqlx_migrations ORDER BY version DESC LIMIT 1";
    sqlx::raw_sql(again).execute(&pool).await.unwrap();
    eventually("ready", async || service.get("/health/ready").await.status() == 200).await;
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
