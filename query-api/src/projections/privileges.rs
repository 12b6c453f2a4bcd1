//! What the role in effect may do: this side of the service must not be able to write, whatever it is asked.

use sqlx::PgConnection;

/// The tables of `migrations/`.
const TABLES: [&str; 8] = [
    "analytics_events",
    "event_ids",
    "event_retention",
    "event_series",
    "event_counts",
    "ingest_offsets",
    "ingest_ledger",
    "dead_letters",
];

/// What the role in effect may do to our tables.
#[derive(Debug, sqlx::FromRow)]
pub struct Privileges {
    /// The role in effect, after `SET ROLE`.
    pub role: String,
    /// A table of ours is missing.
    pub not_migrated: bool,
    /// Tables and partitions that it may write to.
    pub may_write: Vec<String>,
    /// Tables that it may not read.
    pub may_not_read: Vec<String>,
}

/// Asks PostgreSQL's catalogue.
///
/// # Errors
/// PostgreSQL is away.
pub async fn read(connection: &mut PgConnection) -> sqlx::Result<Privileges> {
    sqlx::query_as(include_str!("privileges.sql")).bind(TABLES.as_slice()).fetch_one(connection).await
}
