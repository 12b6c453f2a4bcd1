use sqlx::postgres::PgDatabaseError;
use uuid::Uuid;

use crate::postgres_session::Unsuitable;

/// The step of the transaction that failed. What an SQLSTATE means depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// The connection itself, with the settings of its session.
    Connect,
    /// The claim of a partition.
    Claim,
    /// The binary COPY into `analytics_events`.
    CopyEvents,
    /// The other rows made of what records say: series, ids, counts, dead letters.
    Rows,
    /// Everything else.
    Other,
}

/// What to do next. One variant per next action.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// An event of the batch is there already: the same batch again, without those that are.
    #[error("an event is stored already")]
    Duplicate,
    /// A month has no partition: make it, the same batch again.
    #[error("a month has no partition")]
    MissingPartition,
    /// PostgreSQL refused a row for its content: the record is marked, the batch tried again without it.
    #[error("row refused: {message}")]
    Refused {
        /// The event, where PostgreSQL names the line.
        event: Option<Uuid>,
        /// PostgreSQL's words.
        message: String,
    },
    /// PostgreSQL refused these series (their places in the batch, and its words): their records are marked, the batch
    /// tried again without them.
    #[error("{} series refused", .0.len())]
    RefusedSeries(Vec<(usize, String)>),
    /// PostgreSQL refused a dead letter: the same batch again, what it refuses in a plainer form.
    #[error("dead letter refused: {0}")]
    RefusedLetter(String),
    /// The claim's row is locked: the predecessor is alive or frozen.
    #[error("another session holds the row of this partition")]
    PredecessorAlive,
    /// The world's fault: back off, on a new connection. Never a dead letter.
    #[error("{0}")]
    Unavailable(String),
    /// Our fault, or the schema's: stop with an alarm.
    #[error("{0}")]
    Defect(String),
}

impl WriteFailure {
    /// Decides by statement and SQLSTATE; the first match wins.
    #[must_use]
    pub fn of(statement: Statement, error: &sqlx::Error) -> Self {
        // Without a session nothing was asked, so nothing of ours was refused. A password that is being rotated, a grant or
        // a database that is being restored: whoever mends it should not have to start the workers again.
        if statement == Statement::Connect {
            return Self::Unavailable(refusal(error));
        }
        let Some(database) = error.as_database_error() else { return Self::of_client(error) };
        let code = database.code().unwrap_or_default();
        let message = format!("{} ({code})", database.message());
        let events = statement == Statement::CopyEvents;
        let is_of_rows = events || statement == Statement::Rows;
        match code.as_ref() {
            "23505" if events => Self::Duplicate,
            "23514" if events && database.constraint().is_none() => Self::MissingPartition,
            // They blame our encoder, whatever the record holds.
            "22P03" | "22P04" | "08P01" | "XX000" => Self::Defect(message),
            "55P03" if statement == Statement::Claim => Self::PredecessorAlive,
            code if is_of_rows && matches!(class(code), "22" | "23" | "54") => {
                Self::Refused { event: None, message }
            }
            // Read-only after a fail-over; ended after the process was frozen within a transaction; a lock not had.
            "25006" | "25P03" | "25P04" | "55P03" => Self::Unavailable(message),
            code if is_outage(class(code)) => Self::Unavailable(message),
            "42P01" | "42703" | "42883" => Self::Defect(format!(
                "{message}, looked for in schema public: the tables are not those of this release, run `ingest-worker migrate`"
            )),
            _ => Self::Defect(message),
        }
    }

    /// For statements that write rows made of what records say.
    #[must_use]
    pub fn of_rows(error: sqlx::Error) -> Self {
        Self::of(Statement::Rows, &error)
    }

    fn of_client(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Defect(error.to_string()),
        }
    }
}

/// Why there is no connection, for people.
fn refusal(error: &sqlx::Error) -> String {
    if let Some(unsuitable) = Unsuitable::of(error) {
        return format!("it cannot be used as it is: {unsuitable}");
    }
    if let sqlx::Error::Tls(fault) = error {
        return fault.to_string();
    }
    let Some(database) = error.as_database_error() else { return error.to_string() };
    let (message, code) = (database.message(), database.code().unwrap_or_default());
    if needs_a_person(error) {
        format!("it lets nobody in with these settings: {message} ({code})")
    } else {
        format!("{message} ({code})")
    }
}

/// Whether what keeps us from a connection will not pass by itself, as a server that starts or is full does.
#[must_use]
pub fn needs_a_person(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => false,
        error => {
            error.as_database_error().is_none_or(|error| !is_outage(class(&error.code().unwrap_or_default())))
        }
    }
}

fn is_outage(class: &str) -> bool {
    matches!(class, "08" | "40" | "53" | "57" | "58")
}

/// The row of a COPY that the error names, counted from 0.
#[must_use]
pub fn copy_row(error: &sqlx::Error) -> Option<usize> {
    let postgres = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    copy_line(postgres.r#where()?)?.checked_sub(1)
}

/// For `?` on statements of no particular meaning.
impl From<sqlx::Error> for WriteFailure {
    fn from(error: sqlx::Error) -> Self {
        Self::of(Statement::Other, &error)
    }
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or_default()
}

/// `COPY analytics_events, line 3, column payload` names the third row.
fn copy_line(context: &str) -> Option<usize> {
    // jsonb's own context comes first and counts lines of the text.
    let (_, rest) = context.rsplit_once(", line ")?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_from_the_context() {
        assert_eq!(
            copy_line("JSON data, line 1: …\nCOPY analytics_events, line 12, column payload"),
            Some(12)
        );
        assert_eq!(copy_line("COPY analytics_events, line 12, column payload"), Some(12));
        assert_eq!(copy_line("PL/pgSQL function"), None);
    }

    #[test]
    fn what_is_wrong_with_tls_is_waited_for_and_said_in_one_sentence() {
        let error = sqlx::Error::Tls("the server's certificate expired".into());
        assert!(needs_a_person(&error));
        let failure = WriteFailure::of(Statement::Connect, &error);
        assert!(
            matches!(&failure, WriteFailure::Unavailable(said) if said == "the server's certificate expired")
        );
    }

    #[test]
    fn a_lost_connection_is_the_worlds_fault() {
        let error = sqlx::Error::Io(std::io::Error::other("reset"));
        assert!(matches!(WriteFailure::of(Statement::CopyEvents, &error), WriteFailure::Unavailable(_)));
    }
}
