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
    /// What the producer said.
    pub payload: StoredPayload,
}

/// A payload, or what is known of one that was not read with its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPayload {
    /// JSON text, every digit as PostgreSQL gives it.
    Text(String),
    /// So many bytes as text.
    Long(u64),
    /// Long in any case: how long, PostgreSQL would have to try.
    Unknown,
}

/// As the statement has them. By their places: looking each up by its name, row by row, takes longer than reading it.
type Columns = (Uuid, String, String, DateTime<Utc>, Option<String>, Option<String>, Option<i64>);

impl From<Columns> for EventRow {
    fn from((id, event_type, source, occurred_at, tenant_id, payload, bytes): Columns) -> Self {
        let payload = match (payload, bytes) {
            (Some(text), _) => StoredPayload::Text(text),
            (None, Some(bytes)) => StoredPayload::Long(u64::try_from(bytes).unwrap_or(0)),
            (None, None) => StoredPayload::Unknown,
        };
        Self { id, event_type, source, occurred_at, tenant_id, payload }
    }
}

/// How many events are asked for unless a client says otherwise.
pub const USUAL: u16 = 50;
/// Bytes of payloads that come with their events, together; each may have its part of them.
const AT_ONCE: u32 = 512 << 10;
/// A larger column is not written out before somebody made room for it.
const SMALL_COLUMN: u32 = 8 << 10;

/// The newest `limit` events; of one instant the highest id first. Payloads come along as far as they are short; if
/// `wary`, none is even tried.
///
/// # Errors
/// PostgreSQL is away or too slow.
pub async fn read_newest(
    connection: &mut PgConnection,
    limit: u16,
    wary: bool,
) -> Result<Vec<EventRow>, QueryFailure> {
    let short = AT_ONCE / u32::from(limit.max(USUAL));
    let small = if wary { 0 } else { SMALL_COLUMN };
    // Written in, since PostgreSQL would plan a statement with a parameter anew each time: a sixth of what it takes. Kept
    // for the usual number only, so that others do not fill its memory.
    let statement = include_str!("events.sql")
        .replace("$1", &limit.to_string())
        .replace("$2", &short.to_string())
        .replace("$3", &small.to_string());
    let query = sqlx::query_as(AssertSqlSafe(statement)).persistent(limit == USUAL && !wary);
    let rows: Vec<Columns> = query.fetch_all(connection).await?;
    metrics::rows_read("events", rows.len());
    Ok(rows.into_iter().map(EventRow::from).collect())
}
