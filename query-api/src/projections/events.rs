//! Events themselves, newest first.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::failure::QueryFailure;
use crate::metrics;

/// A stored event, as far as answers show it.
#[derive(Debug)]
pub struct EventRow {
    /// Unique.
    pub id: Uuid,
    /// What happened.
    pub event_type: String,
    /// Which service says so.
    pub source: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// Whose data it is.
    pub tenant_id: Option<String>,
    /// JSON text, every digit as PostgreSQL gives it.
    pub payload: String,
}

/// As the statement has them. By their places: looking each up by its name, row by row, takes longer than reading it.
type Columns = (Uuid, String, String, DateTime<Utc>, Option<String>, String);

impl From<Columns> for EventRow {
    fn from((id, event_type, source, occurred_at, tenant_id, payload): Columns) -> Self {
        Self { id, event_type, source, occurred_at, tenant_id, payload }
    }
}

/// How many events are asked for unless a client says otherwise.
pub const USUAL: u16 = 50;

/// The newest `limit` events; of one instant the highest id first.
///
/// # Errors
/// PostgreSQL is away or too slow.
pub async fn read_newest(connection: &mut PgConnection, limit: u16) -> Result<Vec<EventRow>, QueryFailure> {
    // Written in, since PostgreSQL would plan a statement with a parameter anew each time: a sixth of what it takes. Kept
    // for the usual number only, so that others do not fill its memory.
    let statement = include_str!("events.sql").replace("$1", &limit.to_string());
    let query = sqlx::query_as(AssertSqlSafe(statement)).persistent(limit == USUAL);
    let rows: Vec<Columns> = query.fetch_all(connection).await?;
    metrics::rows_read("events", rows.len());
    Ok(rows.into_iter().map(EventRow::from).collect())
}
