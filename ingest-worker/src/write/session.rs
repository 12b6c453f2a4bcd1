//! What a worker's session is set to, and what it finds then.

use std::io;

use sqlx::{AssertSqlSafe, FromRow as _, PgConnection, raw_sql};

use crate::postgres_session::{SETTINGS, Unsuitable};

/// Besides what all sessions are set to. Keep-alives free the locks of a host that vanished; a frozen process is ended by
/// `pg_terminate_backend`, which only its own login may do, whatever role that has by ALTER ROLE.
const SESSION: &str = "\
    SET ROLE NONE; SET lock_timeout = '10s'; SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '30s'; \
    SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6";

/// What a session finds that is set up.
#[derive(sqlx::FromRow)]
pub struct Found {
    is_standby: bool,
    is_read_only: bool,
    database: String,
    login: String,
    /// None if there is no such schema.
    may_use_public: Option<bool>,
    has_tables: bool,
}

/// Sets the session up.
///
/// # Errors
/// As PostgreSQL says; an I/O error if this server takes no writes: the caller tries again.
pub async fn begin(connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
    let statements = format!("{SETTINGS}; {SESSION}; {}", include_str!("session.sql"));
    let rows = raw_sql(AssertSqlSafe(statements)).fetch_all(connection).await?;
    let found = Found::from_row(rows.last().ok_or(sqlx::Error::RowNotFound)?)?;
    if found.is_standby {
        return Err(takes_no_writes("this PostgreSQL takes no writes: it is a standby"));
    }
    if found.is_read_only {
        return Err(takes_no_writes(
            "this PostgreSQL takes no writes: default_transaction_read_only is on for the server, the database or the login",
        ));
    }
    Ok(found)
}

impl Found {
    /// Whether there is anything to be seen in the schema of our tables.
    #[must_use]
    pub fn may_use_public(&self) -> bool {
        self.may_use_public == Some(true)
    }

    /// Whether there is no such schema.
    #[must_use]
    pub fn lacks_public(&self) -> bool {
        self.may_use_public.is_none()
    }

    /// Whether this session sees our tables: without privileges on their schema they look as if they were not there.
    ///
    /// # Errors
    /// Where it looked, and what to do.
    pub fn sees_tables(&self) -> Result<(), Unsuitable> {
        let Self { database, login, may_use_public, has_tables, .. } = self;
        let migrate = "run `ingest-worker migrate`, or name the database that is migrated";
        match may_use_public {
            None => Err(Unsuitable::new(
                format!("database {database} has no schema public, where our tables are looked for"),
                migrate,
            )),
            Some(false) => Err(Unsuitable::new(
                format!(
                    "the login {login} has no USAGE on schema public of database {database}, where our tables are"
                ),
                "make it a member of analytics_writer, or run GRANT USAGE ON SCHEMA public TO analytics_writer",
            )),
            Some(true) if !has_tables => Err(Unsuitable::new(
                format!("database {database} is not migrated, its schema public has none of our tables"),
                migrate,
            )),
            Some(true) => Ok(()),
        }
    }
}

fn takes_no_writes(sentence: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, sentence))
}
