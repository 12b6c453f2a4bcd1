//! Twin: what a session with PostgreSQL must be before it is used, and what every session is set to.
//!
//! Whoever connects calls [`verify`], then sets [`SETTINGS`] and its own: a session that is shared would carry them to
//! others.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, FromRow as _, PgConnection, raw_sql};
use tokio::time::timeout;
use uuid::Uuid;

use crate::postgres::{self, Tls};

/// Whatever ALTER ROLE, ALTER DATABASE or the server's file say. Only `public` holds our tables, and temporary ones come
/// last, or they would stand in for ours; a policy that hides rows is an error, not fewer rows. What makes statements
/// faster or slower is left to whoever set it.
pub const SETTINGS: &str = "\
    SET search_path = public, pg_temp; SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; \
    SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET bytea_output = 'hex'; \
    SET extra_float_digits = 1; SET client_min_messages = 'warning'; SET row_security = off; SET idle_session_timeout = 0; \
    SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off; \
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'";

/// How many connections prove whose session it is, where much depends on it: see [`verify`].
pub const THOROUGHLY: usize = 4;
/// The same, elsewhere: enough for a pooler that hands out what came back last, or first.
pub const BRIEFLY: usize = 1;

const OLDEST: i32 = 140_000;
/// How long a second connection may take.
const HOLD_WITHIN: Duration = Duration::from_secs(5);
/// An answer that takes longer, and longer than three answers did before, may be waiting for another session's transaction.
const PATIENCE: Duration = Duration::from_millis(500);

/// One word that the session alone knows: a setting of ours that nobody else has.
const MARK: &str = "SELECT pg_catalog.current_setting('analytics.session', true)";
const SERVER: &str = "\
    SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS number, \
           pg_catalog.current_setting('server_version') AS version, \
           pg_catalog.current_setting('server_encoding') AS encoding, \
           pg_catalog.current_database()::pg_catalog.text AS database, \
           pg_catalog.current_setting('analytics.session', true) AS mark";

/// What will not do, however often it is tried: a person must act. Shown as one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{found}: {remedy}")]
pub struct Unsuitable {
    /// What is.
    pub found: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Unsuitable {
    /// What is, and what to do.
    #[must_use]
    pub fn new(found: impl Into<String>, remedy: &'static str) -> Self {
        Self { found: found.into(), remedy }
    }

    /// If that is why there is no session.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Option<&Self> {
        let sqlx::Error::Configuration(error) = error else { return None };
        error.downcast_ref()
    }
}

impl From<Unsuitable> for sqlx::Error {
    fn from(unsuitable: Unsuitable) -> Self {
        Self::Configuration(Box::new(unsuitable))
    }
}

/// Which PostgreSQL it is.
#[derive(Debug, sqlx::FromRow)]
pub struct Server {
    /// As PostgreSQL writes it.
    pub version: String,
    /// Name of the database.
    pub database: String,
    number: i32,
    encoding: String,
    mark: Option<String>,
}

impl Server {
    fn suits(&self) -> Result<(), Unsuitable> {
        let Self { version, database, number, encoding, .. } = self;
        if *number < OLDEST {
            return Err(Unsuitable::new(
                format!("this is PostgreSQL {version}"),
                "use PostgreSQL 14 or newer",
            ));
        }
        if encoding != "UTF8" {
            return Err(Unsuitable::new(
                format!("the encoding of database {database} is {encoding}, which cannot hold every text"),
                "use another one, made by CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'",
            ));
        }
        Ok(())
    }
}

/// The server suits us, and the session is this connection's own. A pooler that shares sessions is found by up to
/// `holders` connections more to the same `place`, each with an open transaction: it takes the place of one that was thought to be idle.
///
/// # Errors
/// [`Unsuitable`], or as PostgreSQL says.
pub async fn verify(
    connection: &mut PgConnection,
    place: (&PgConnectOptions, &Tls),
    holders: usize,
) -> sqlx::Result<Server> {
    let mark = Uuid::new_v4().simple().to_string();
    // By the simple protocol: of two clients that share a session, each would prepare statements of the same name.
    connection.execute(raw_sql(AssertSqlSafe(format!("SET analytics.session = '{mark}'")))).await?;
    let asked = Instant::now();
    let rows = raw_sql(SERVER).fetch_all(&mut *connection).await?;
    let patience = PATIENCE.max(asked.elapsed() * 3);
    let server = Server::from_row(rows.first().ok_or(sqlx::Error::RowNotFound)?)?;
    server.suits()?;
    if server.mark.as_ref() != Some(&mark) {
        return Err(shared().into());
    }
    prove_own(connection, place, (&mark, patience), holders).await?;
    Ok(server)
}

async fn prove_own(
    connection: &mut PgConnection,
    (options, tls): (&PgConnectOptions, &Tls),
    proof: (&str, Duration),
    holders: usize,
) -> sqlx::Result<()> {
    let mut held = Vec::new();
    while held.len() < holders {
        let proven = match timeout(HOLD_WITHIN, postgres::connect(options, tls)).await {
            Ok(Ok(mut holder)) => {
                let proven = prove_beside(connection, &mut holder, proof).await;
                held.push(holder);
                proven
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(no_second()),
        };
        match proven {
            Ok(()) => {}
            // A full server proves nothing and is no reason to refuse; the pool of whole sessions may be smaller than our number.
            Err(error) if is_full(&error) || (held.len() > 1 && is_timeout(&error)) => break,
            Err(error) => return Err(error),
        }
    }
    for mut holder in held {
        let end = async {
            holder.execute("ROLLBACK").await?;
            holder.close().await
        };
        drop(timeout(PATIENCE, end).await); // Dropped, it ends as well.
    }
    Ok(())
}

/// Late once may have been the network's fault.
async fn prove_beside(
    connection: &mut PgConnection,
    holder: &mut PgConnection,
    proof: (&str, Duration),
) -> sqlx::Result<()> {
    for _ in 0..2 {
        match whose(connection, holder, proof).await? {
            Found::Own => return Ok(()),
            Found::OwnButLate => {}
            Found::Shared => break,
        }
    }
    Err(shared().into())
}

enum Found {
    Own,
    /// It answered when the other transaction had ended, for which sessions of their own do not wait.
    OwnButLate,
    Shared,
}

/// Asks for the mark again while the holder has a transaction open.
async fn whose(
    connection: &mut PgConnection,
    holder: &mut PgConnection,
    (mark, patience): (&str, Duration),
) -> sqlx::Result<Found> {
    let seen = match timeout(HOLD_WITHIN, mark_of(holder, "BEGIN")).await {
        Ok(Err(error)) if is_refused_transaction(&error) => return Ok(Found::Shared),
        Ok(seen) => seen?,
        Err(_) => return Err(no_second()),
    };
    if seen.as_deref() == Some(mark) {
        return Ok(Found::Shared);
    }
    let mut again = std::pin::pin!(mark_of(connection, ""));
    let (late, again) = match timeout(patience, &mut again).await {
        Ok(again) => (false, again?),
        Err(_) => {
            holder.execute("ROLLBACK").await?;
            let released = timeout(patience, again).await;
            (true, released.map_err(|_| timed_out("PostgreSQL does not answer"))??)
        }
    };
    Ok(match again.as_deref() {
        Some(again) if again == mark && late => Found::OwnButLate,
        Some(again) if again == mark => Found::Own,
        _ => Found::Shared,
    })
}

async fn mark_of(connection: &mut PgConnection, first: &'static str) -> sqlx::Result<Option<String>> {
    let rows = raw_sql(AssertSqlSafe(format!("{first}; {MARK}"))).fetch_all(connection).await?;
    sqlx::Row::try_get(rows.first().ok_or(sqlx::Error::RowNotFound)?, 0)
}

fn shared() -> Unsuitable {
    Unsuitable::new(
        "a pooler on the way to PostgreSQL gives one session to several clients (PgBouncer: pool_mode=transaction or statement)",
        "connect to PostgreSQL itself, or use pool_mode=session",
    )
}

fn no_second() -> sqlx::Error {
    timed_out(
        "no second connection to PostgreSQL in time, to prove that the session is ours: it, or a pooler before it, has none left",
    )
}

fn timed_out(sentence: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, sentence))
}

/// PostgreSQL itself always begins a transaction; PgBouncer does not with pool_mode=statement.
fn is_refused_transaction(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.message().contains("statement pooling"))
}

fn is_full(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "53300")
}

fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_and_other_encodings_are_refused_with_what_to_do() {
        let sentence = |number, encoding: &str| {
            let (version, database) = ("13.4".to_owned(), "d".to_owned());
            let server = Server { version, database, number, encoding: encoding.to_owned(), mark: None };
            server.suits().err().map(|unsuitable| unsuitable.to_string())
        };
        for (number, encoding, expected) in [
            (140_000, "UTF8", None),
            (190_001, "UTF8", None),
            (139_999, "UTF8", Some("this is PostgreSQL 13.4: use PostgreSQL 14 or newer")),
            (150_000, "WIN1252", Some("database d is WIN1252")),
            (150_000, "SQL_ASCII", Some("ENCODING 'UTF8'")),
        ] {
            let sentence = sentence(number, encoding);
            assert_eq!(sentence.is_some(), expected.is_some(), "{sentence:?}");
            assert!(sentence.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }
}
