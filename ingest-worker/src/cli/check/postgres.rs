use sqlx::PgConnection;

use super::Screen;
use crate::cli::{migrate, sentence};
use crate::write::DatabaseSettings;

/// What a worker does, and may therefore need.
const LACKING: &str = "\
    SELECT privilege || ' on ' || string_agg(name, ', ' ORDER BY name) \
    FROM (SELECT name, 'INSERT' AS privilege FROM unnest(ARRAY['analytics_events', 'event_ids', 'rule_identities', \
              'event_series', 'event_counts', 'ingest_offsets', 'ingest_ledger', 'dead_letters']) AS name \
          UNION ALL SELECT name, 'UPDATE' FROM unnest(ARRAY['event_counts', 'ingest_offsets', 'ingest_ledger']) AS name \
          UNION ALL SELECT name, 'SELECT' FROM unnest(ARRAY['analytics_events', 'event_ids', 'rule_identities', \
              'event_series', 'event_counts', 'event_retention', 'ingest_offsets', 'ingest_ledger', 'dead_letters']) AS name) AS needed \
    WHERE NOT has_table_privilege('public.' || name, privilege) GROUP BY privilege \
    UNION ALL SELECT 'TEMPORARY on the database' WHERE NOT has_database_privilege(current_database(), 'TEMPORARY') \
    UNION ALL SELECT 'EXECUTE on create_event_partition' \
    WHERE NOT has_function_privilege('public.create_event_partition(timestamptz)', 'EXECUTE')";
const OTHER_LOGINS: &str = "\
    SELECT string_agg(DISTINCT usename::text, ', ') FROM pg_stat_activity \
    WHERE datname = current_database() AND usename <> session_user AND application_name = current_setting('application_name')";

pub(super) async fn check(database: &DatabaseSettings, screen: &mut Screen) -> anyhow::Result<()> {
    screen.title("PostgreSQL", &database.target());
    let mut connection = match database.connect().await {
        Ok(connection) => connection,
        Err(error) => {
            screen.wrong(&format!("cannot connect: {}", sentence(&error)), remedy(&error));
            return Ok(());
        }
    };
    server(&mut connection, screen).await?;
    if !schema(&mut connection, screen).await? {
        return Ok(());
    }
    login(&mut connection, screen).await?;
    Ok(())
}

fn remedy(error: &sqlx::Error) -> &'static str {
    let state = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match (state.as_deref(), error) {
        (Some("28P01" | "28000"), _) => {
            "check ANALYTICS_POSTGRES_USER, ANALYTICS_POSTGRES_PASSWORD, ANALYTICS_POSTGRES_SSLMODE and pg_hba.conf"
        }
        (Some("3D000"), _) => "make the database, or check ANALYTICS_POSTGRES_DB",
        (Some("53300"), _) => "too many connections: raise max_connections or stop something",
        (_, sqlx::Error::Tls(_)) => "check ANALYTICS_POSTGRES_SSLMODE and ANALYTICS_POSTGRES_SSLROOTCERT",
        (_, sqlx::Error::Io(fault)) if fault.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            "connect to the primary server"
        }
        _ => "check ANALYTICS_POSTGRES_HOST and ANALYTICS_POSTGRES_PORT, and that the server runs",
    }
}

async fn server(connection: &mut PgConnection, screen: &mut Screen) -> anyhow::Result<()> {
    let (number, name): (i32, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::integer, current_setting('server_version')",
    )
    .fetch_one(connection)
    .await?;
    if number >= 140_000 {
        screen.ok(&format!("connected, PostgreSQL {name}"));
    } else {
        screen.wrong(&format!("connected, but this is PostgreSQL {name}"), "use PostgreSQL 14 or newer");
    }
    Ok(())
}

async fn schema(connection: &mut PgConnection, screen: &mut Screen) -> anyhow::Result<bool> {
    if migrate::is_foreign(connection).await? {
        screen.wrong(
            "there is a table analytics_events that is not ours, probably the original service's",
            "use another database (ANALYTICS_POSTGRES_DB)",
        );
        return Ok(false);
    }
    let newest = migrate::newest();
    let migrate = "run `ingest-worker migrate` with the login that owns the database";
    match migrate::version(connection).await {
        Ok(0) => screen.wrong("there are no tables", migrate),
        Ok(version) if version < newest => {
            screen.wrong(&format!("schema version {version}, this release needs {newest}"), migrate);
        }
        Ok(version) => {
            screen.ok(&format!("schema version {version}"));
            return Ok(true);
        }
        Err(error) => screen.wrong(
            &format!("cannot read the schema version: {}", sentence(&error)),
            "make this login a member of analytics_writer: GRANT analytics_writer TO <login>;",
        ),
    }
    Ok(false)
}

async fn login(connection: &mut PgConnection, screen: &mut Screen) -> anyhow::Result<()> {
    let (login, superuser): (String, bool) =
        sqlx::query_as("SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname = current_user")
            .fetch_one(&mut *connection)
            .await?;
    let lacking: Vec<String> = sqlx::query_scalar(LACKING).fetch_all(&mut *connection).await?;
    if lacking.is_empty() {
        screen.ok(&format!("the login {login} may do what a worker does"));
    } else {
        screen.wrong(
            &format!("the login {login} lacks {}", lacking.join("; ")),
            &format!("run as administrator: GRANT analytics_writer TO \"{login}\";"),
        );
    }
    if superuser {
        screen.warn(&format!("{login} is a superuser"), "use a login whose only role is analytics_writer");
    }
    let others: Option<String> = sqlx::query_scalar(OTHER_LOGINS).fetch_one(connection).await?;
    if let Some(others) = others {
        screen.wrong(
            &format!("other workers on this database log in as {others}"),
            "all workers must use one login: only then can one end the session of another that froze",
        );
    }
    Ok(())
}
