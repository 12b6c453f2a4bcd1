use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use shared::analytics::AnalyticsEvent;
use sqlx::PgConnection;
use uuid::Uuid;

use super::receipt::Receipt;
use crate::write::WriteFailure;

#[derive(sqlx::FromRow)]
struct StoredEvent {
    id: Uuid,
    event_type: String,
    source: String,
    occurred_at: DateTime<Utc>,
    ingested_at: DateTime<Utc>,
    tenant_id: Option<String>,
}

/// What is stored under these events' ids, as receipts of a repeat.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn find(
    connection: &mut PgConnection,
    events: &[&AnalyticsEvent],
) -> Result<HashMap<Uuid, Receipt>, WriteFailure> {
    if events.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<_> = events.iter().map(|event| place(event)).collect();
    let stored: Vec<StoredEvent> = sqlx::query_as(include_str!("stored_events.sql"))
        .bind(events.iter().map(|event| event.id().uuid()).collect::<Vec<_>>())
        .bind(places.iter().map(|(first, _)| *first).collect::<Vec<_>>())
        .bind(places.iter().map(|(_, last)| *last).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(stored.into_iter().map(|event| (event.id, Receipt::from(event))).collect())
}

/// First and last instant at which a row with this id can lie, should `event_ids` not know it. A repeat need not carry the
/// time that it was given the first time, but an id of ours tells its millisecond.
fn place(event: &AnalyticsEvent) -> (DateTime<Utc>, DateTime<Utc>) {
    let at = event.occurred_at();
    event.id().millisecond().map_or((at, at), |(start, end)| (start, end - TimeDelta::microseconds(1)))
}

impl From<StoredEvent> for Receipt {
    fn from(event: StoredEvent) -> Self {
        Self {
            repeated: true,
            id: event.id,
            event_type: event.event_type,
            source: event.source,
            occurred_at: event.occurred_at,
            ingested_at: event.ingested_at,
            tenant_id: event.tenant_id,
        }
    }
}
