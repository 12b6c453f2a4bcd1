use std::fmt;

use anyhow::{Context as _, anyhow, bail};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::sentence;
use crate::write::DatabaseSettings;

/// The schema that this release was built with.
static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// A migration may take its time; waiting for somebody's lock may not. What it makes belongs to the role that ALTER ROLE or
/// ALTER DATABASE give the login, if they do.
const SESSION: &str = "\
    RESET ROLE; SET application_name = 'ingest-worker migrate'; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '60s'";

/// What was done.
pub(super) struct Migrated {
    target: String,
    from: i64,
    to: i64,
    /// What an administrator must run.
    statements: Vec<String>,
}

impl fmt::Display for Migrated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, from, to, statements } = self;
        match (*from, *to) {
            (from, to) if from > newest() => {
                write!(
                    formatter,
                    "{target}: schema version {to} is newer than this release's {}, nothing to do",
                    newest()
                )?;
            }
            (from, to) if from == to => write!(formatter, "{target}: schema version {to}, nothing to do")?,
            (0, to) => write!(formatter, "{target}: schema version {to} made")?,
            (from, to) => write!(formatter, "{target}: schema version {from} became {to}")?,
        }
        if statements.is_empty() {
            return Ok(());
        }
        write!(
            formatter,
            "\nThis login may not make roles. An administrator must run, before `migrate` is run again:"
        )?;
        statements.iter().try_for_each(|statement| write!(formatter, "\n  {statement}"))
    }
}

/// The schema version of this release.
pub(super) fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The schema version of the database, 0 if there is none.
pub(super) async fn version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let made = "SELECT to_regclass('public._sqlx_migrations') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(made).fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    let version = "SELECT coalesce(max(version), 0) FROM public._sqlx_migrations WHERE success";
    sqlx::query_scalar(version).fetch_one(connection).await
}

/// Whether there is an `analytics_events` that our migrations did not make.
pub(super) async fn is_foreign(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Ours is partitioned; the original service's is a plain table.
    let foreign = "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('public.analytics_events') AND relkind <> 'p')";
    sqlx::query_scalar(foreign).fetch_one(connection).await
}

/// Makes or updates the tables, grants privileges, and makes the partitions for this month and the next.
pub(super) async fn apply(database: &DatabaseSettings) -> anyhow::Result<Migrated> {
    let target = database.target();
    let inspected = database.inspect().await;
    let (mut connection, _, found) =
        inspected.map_err(|fault| anyhow!("cannot connect to {target}: {}", sentence(&fault)))?;
    if found.lacks_public() {
        bail!("{target} has no schema public, where the tables are made: run CREATE SCHEMA public");
    }
    connection.execute(SESSION).await?;
    // One process at a time, from the first look to the last grant; released when the session ends.
    connection
        .execute("SELECT pg_advisory_lock(hashtextextended('analytics migrate', 0))")
        .await
        .context("another migrate is still at work on this database after a minute")?;
    if is_foreign(&mut connection)
        .await
        .with_context(|| format!("cannot look into schema public of {target}"))?
    {
        bail!(
            "{target} has a table analytics_events that is not ours, probably the original service's: use another \
             database (ANALYTICS_POSTGRES_DB)"
        );
    }
    let from = version(&mut connection).await?;
    migrate(&mut connection).await.map_err(|fault| anyhow!("cannot make the tables in {target}: {fault}"))?;
    let to = version(&mut connection).await?;
    let statements = sqlx::query_scalar("SELECT * FROM public.grant_analytics_privileges()");
    let statements = statements.fetch_all(&mut connection).await.context("cannot grant privileges")?;
    connection
        .execute(
            "SELECT public.create_event_partition(now()), \
             public.create_event_partition((date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')",
        )
        .await
        .context("cannot make the partitions of analytics_events")?;
    connection.close().await?;
    Ok(Migrated { target, from, to, statements })
}

/// The error is a sentence: `sqlx`'s own says the same three times.
async fn migrate(connection: &mut PgConnection) -> Result<(), String> {
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    // A release that was rolled back meets a newer schema, which suits it.
    migrator.set_ignore_missing(true);
    let Err(error) = migrator.run(connection).await else { return Ok(()) };
    let (MigrateError::Execute(fault) | MigrateError::ExecuteMigration(fault, _)) = &error else {
        return Err(error.to_string());
    };
    let lacks_privilege =
        fault.as_database_error().and_then(|fault| fault.code()).is_some_and(|code| code == "42501");
    let remedy = if lacks_privilege { "; use the login that owns the database" } else { "" };
    Err(format!("{}{remedy}", sentence(fault)))
}
