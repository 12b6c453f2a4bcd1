use std::process::Command;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgPool};
use uuid::Uuid;

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.expect(statement);
}

/// A login of this test's own: roles belong to the whole cluster.
async fn login(pool: &PgPool, attributes: &str) -> (String, PgConnectOptions) {
    let name = format!("worker_{}", Uuid::new_v4().simple());
    run(pool, &format!("CREATE ROLE {name} LOGIN PASSWORD 'x' {attributes}")).await;
    let options = (*pool.connect_options()).clone().username(&name).password("x");
    (name, options)
}

/// How it ends and what it prints.
fn ingest_worker(verb: &str, options: &PgConnectOptions) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingest-worker"));
    let kafka = std::env::var("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS").unwrap_or_default();
    command.arg(verb).env_clear().current_dir("/").env("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS", kafka);
    let output = command.env("ANALYTICS_DATABASE_URL", options.to_url_lossy().as_str()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[sqlx::test(migrations = "../migrations")]
async fn check_compares_a_login_with_what_its_group_was_granted(pool: PgPool) {
    let database: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&pool).await.unwrap();
    // Nothing of ours needs it.
    run(&pool, &format!("REVOKE TEMPORARY ON DATABASE \"{database}\" FROM PUBLIC")).await;
    // Of a release to come: nobody keeps a list.
    run(&pool, "CREATE TABLE later (n integer); GRANT DELETE ON later TO analytics_writer").await;
    let (member, as_member) = login(&pool, "IN ROLE analytics_writer").await;
    let (heir, as_heir) = login(&pool, "NOINHERIT IN ROLE analytics_writer").await;
    let (stranger, as_stranger) = login(&pool, "").await;
    run(&pool, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {stranger}")).await;

    let (_, said) = ingest_worker("check", &as_member);
    assert!(said.contains(&format!("ok       the login {member} may do what a worker does")), "{said}");
    let (code, said) = ingest_worker("check", &as_stranger);
    let lacks = format!(
        "WRONG    the login {stranger} lacks DELETE on later; EXECUTE on create_event_partition, drop_event_partitions; \
         INSERT on analytics_events, dead_letters, event_counts, event_ids, event_series, ingest_ledger, ingest_offsets, \
         rule_identities; UPDATE on dead_letters, event_counts, ingest_ledger, ingest_offsets\n"
    );
    assert!(
        said.contains(&lacks) && said.contains(&format!("GRANT analytics_writer TO \"{stranger}\"")),
        "{said}"
    );
    assert_eq!(code, Some(3));
    let (_, said) = ingest_worker("check", &as_heir);
    assert!(
        said.contains("lacks DELETE") && said.contains(&format!("ALTER ROLE \"{heir}\" INHERIT")),
        "{said}"
    );

    run(&pool, &format!("ALTER ROLE {member} SET synchronous_commit = off")).await;
    let (_, said) = ingest_worker("check", &as_member);
    assert!(said.contains("warning  synchronous_commit is off"), "{said}");

    run(&pool, &format!("ALTER ROLE {member} SET default_transaction_read_only = on")).await;
    let (_, said) = ingest_worker("check", &as_member);
    assert!(
        said.contains("takes no writes") && said.contains("RESET default_transaction_read_only"),
        "{said}"
    );

    run(&pool, "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM analytics_writer; REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM analytics_writer").await;
    run(&pool, "GRANT SELECT ON _sqlx_migrations TO PUBLIC").await;
    let (_, said) = ingest_worker("check", &as_heir);
    assert!(said.contains("nothing is granted to analytics_writer"), "{said}");
    for name in [member, heir, stranger] {
        run(&pool, &format!("DROP OWNED BY {name}; DROP ROLE {name}")).await;
    }
}

#[sqlx::test(migrations = false)]
async fn what_migrate_makes_belongs_to_the_role_that_the_login_is_given(pool: PgPool) {
    let (deploy, as_deploy) = login(&pool, "").await;
    let owner = format!("{deploy}_owner");
    run(
        &pool,
        &format!(
            "CREATE ROLE {owner} NOLOGIN; GRANT {owner} TO {deploy}; ALTER ROLE {deploy} SET role = {owner}"
        ),
    )
    .await;
    run(
        &pool,
        &format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO {owner}', current_database()); END $$"
        ),
    )
    .await;
    run(&pool, &format!("CREATE SCHEMA {deploy} AUTHORIZATION {owner}; ALTER ROLE {deploy} SET search_path = {deploy}, public")).await;
    run(&pool, &format!("ALTER SCHEMA public OWNER TO {owner}")).await;

    let (code, said) = ingest_worker("migrate", &as_deploy);
    assert_eq!(code, Some(0), "{said}");
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT relnamespace::regnamespace::text, relowner::regrole::text FROM pg_class
         WHERE relname IN ('analytics_events', 'ingest_offsets', '_sqlx_migrations')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(tables, [("public".to_owned(), owner.clone())]);
    let superuser: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&pool).await.unwrap();
    run(
        &pool,
        &format!(
            "REASSIGN OWNED BY {owner} TO {superuser}; DROP OWNED BY {owner}; DROP ROLE {deploy}, {owner}"
        ),
    )
    .await;
}
