use sqlx::PgConnection;

use crate::cli::{migrate, sentence};
use crate::postgres::TlsFault;
use crate::postgres_session::Unsuitable;
use crate::screen::Screen;
use crate::write::{DatabaseSettings, SessionFound};

/// What the login may do, by what was granted to its group.
#[derive(sqlx::FromRow)]
struct May {
    is_granted: bool,
    lacking: Vec<String>,
    is_member: bool,
    is_owner: bool,
}

const OTHER_LOGINS: &str = "\
    SELECT string_agg(DISTINCT usename::text, ', ') FROM pg_stat_activity \
    WHERE datname = current_database() AND usename <> session_user AND application_name = current_setting('application_name')";

pub(super) async fn check(database: &DatabaseSettings, screen: &mut Screen) -> anyhow::Result<()> {
    screen.title("PostgreSQL", &database.target());
    let (mut connection, server, found) = match database.inspect().await {
        Ok(inspected) => inspected,
        Err(error) => {
            match (Unsuitable::of(&error), TlsFault::of(&error)) {
                (Some(unsuitable), _) => screen.wrong(&unsuitable.found, unsuitable.remedy),
                (_, Some(fault)) => screen.wrong(&format!("cannot connect: {}", fault.what), &fault.remedy),
                _ => screen.wrong(&format!("cannot connect: {}", sentence(&error)), remedy(&error)),
            }
            return Ok(());
        }
    };
    screen.ok(&format!("connected, PostgreSQL {}, database {} in UTF8", server.version, server.database));
    screen.ok("the session is the worker's own, no pooler shares it");
    let durable = "SELECT current_setting('synchronous_commit') <> 'off'";
    if !sqlx::query_scalar(durable).fetch_one(&mut connection).await? {
        screen.warn(
            "synchronous_commit is off: after a crash of PostgreSQL, HTTP commands that were answered may be lost",
            "set it on for this login; what comes from Kafka is read again in any case",
        );
    }
    if schema(&mut connection, &found, screen).await? {
        login(&mut connection, screen).await?;
    }
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
        (_, sqlx::Error::Io(fault)) if fault.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            if fault.to_string().contains("standby") {
                "connect to the primary server"
            } else {
                "ALTER ROLE, ALTER DATABASE or ALTER SYSTEM … RESET default_transaction_read_only, whichever has set it"
            }
        }
        _ => "check ANALYTICS_POSTGRES_HOST and ANALYTICS_POSTGRES_PORT, and that the server runs",
    }
}

async fn schema(
    connection: &mut PgConnection,
    found: &SessionFound,
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    let sees_tables = found.sees_tables();
    if found.may_use_public() && migrate::is_foreign(connection).await? {
        screen.wrong(
            "there is a table analytics_events that is not ours, probably the original service's",
            "use another database (ANALYTICS_POSTGRES_DB)",
        );
        return Ok(false);
    }
    if let Err(unsuitable) = sees_tables {
        screen.wrong(&unsuitable.found, unsuitable.remedy);
        return Ok(false);
    }
    let newest = migrate::newest();
    let migrate = "run `ingest-worker migrate` with the login that owns the database";
    match migrate::version(connection).await {
        Ok(version) if version < newest => {
            screen.wrong(&format!("schema version {version}, this release needs {newest}"), migrate);
        }
        Ok(version) => {
            screen.ok(&format!("schema version {version}"));
            return Ok(true);
        }
        // What the login lacks is told next.
        Err(error) if is_not_permitted(&error) => return Ok(true),
        Err(error) => screen.wrong(&format!("cannot read the schema version: {}", sentence(&error)), migrate),
    }
    Ok(false)
}

fn is_not_permitted(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42501")
}

async fn login(connection: &mut PgConnection, screen: &mut Screen) -> anyhow::Result<()> {
    let (login, superuser): (String, bool) =
        sqlx::query_as("SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname = current_user")
            .fetch_one(&mut *connection)
            .await?;
    let may: May = sqlx::query_as(include_str!("lacking.sql")).fetch_one(&mut *connection).await?;
    match (may.is_granted || may.is_owner, may.lacking.as_slice()) {
        (true, []) => screen.ok(&format!("the login {login} may do what a worker does")),
        (true, lacking) => {
            let remedy = if may.is_member {
                format!(
                    "it is a member without its privileges, run as administrator: ALTER ROLE \"{login}\" INHERIT; from PostgreSQL 16 on \
                         GRANT analytics_writer TO \"{login}\" WITH INHERIT TRUE;"
                )
            } else {
                format!("run as administrator: GRANT analytics_writer TO \"{login}\";")
            };
            screen.wrong(&format!("the login {login} lacks {}", lacking.join("; ")), &remedy);
        }
        (false, _) => screen.wrong(
            "nothing is granted to analytics_writer",
            "run `ingest-worker migrate`, which grants it or says what an administrator must run",
        ),
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
