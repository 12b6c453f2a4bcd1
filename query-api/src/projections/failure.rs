//! Why there is no answer, by what the client can do about it.

use std::borrow::Cow;

use crate::postgres_session::Unsuitable;

/// A question that PostgreSQL did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryFailure {
    /// PostgreSQL cannot be reached, or is starting, stopping or full: later it may answer.
    #[error("{0}")]
    Away(String),
    /// PostgreSQL's words about a table or column that it does not find.
    #[error("{0}")]
    NotMigrated(String),
    /// All connections were busy for as long as a request waits.
    #[error("all connections to PostgreSQL are busy")]
    Busy,
    /// The memory for long answers is in use.
    #[error("all memory for long answers is in use")]
    NoRoom,
    /// The statement ran into `statement_timeout`.
    #[error("PostgreSQL did not finish within the statement time-out")]
    TooSlow,
    /// Our own fault, or a schema that does not fit.
    #[error("{0}")]
    Defect(sqlx::Error),
}

impl From<sqlx::Error> for QueryFailure {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Configuration, Database, Io, Protocol, Tls, WorkerCrashed};
        match error {
            Io(_) | Tls(_) | Protocol(_) | WorkerCrashed => Self::Away(sentence(&error)),
            Configuration(_) if Unsuitable::of(&error).is_some() => Self::Away(sentence(&error)),
            Database(ref database) => match database.code().unwrap_or(Cow::Borrowed("")).as_ref() {
                "57014" => Self::TooSlow,
                // Undefined table, column or schema: not migrated yet, or not by a release that fits.
                "42P01" | "42703" | "3F000" => Self::NotMigrated(sentence(&error)),
                code if is_outage(code) => Self::Away(sentence(&error)),
                _ => Self::Defect(error),
            },
            other => Self::Defect(other),
        }
    }
}

impl QueryFailure {
    /// Whether it may be for a text that PostgreSQL takes too long for, or that is longer than it can make (1 GiB).
    #[must_use]
    pub fn may_be_length(&self) -> bool {
        match self {
            Self::TooSlow => true,
            Self::Defect(fault) => fault
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|code| code == "54000"),
            _ => false,
        }
    }
}

/// Connection (08), login (28), no such database (3D000), rolled back by a standby (40), resources (53), lock (55P03),
/// intervention (57) and the operating system (58).
fn is_outage(code: &str) -> bool {
    ["08", "28", "3D", "40", "53", "57", "58"].contains(&code.get(..2).unwrap_or("")) || code == "55P03"
}

/// PostgreSQL's or the operating system's own words, without sqlx's wrapping.
pub fn sentence(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) => error.to_string(),
        sqlx::Error::Tls(error) => error.to_string(),
        other => other.to_string(),
    }
}
