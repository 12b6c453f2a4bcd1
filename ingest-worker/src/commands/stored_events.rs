use std::collections::HashMap;

use chrono::{DateTime, Utc};
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

/// The events that are stored under these ids, as receipts of a repeat. `occurred_at` says where an id lies that is not in
/// `event_ids`.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn find(
    connection: &mut PgConnection,
    ids: &[(Uuid, DateTime<Utc>)],
) -> Result<HashMap<Uuid, Receipt>, WriteFailure> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let stored: Vec<StoredEvent> = sqlx::query_as(include_str!("stored_events.sql"))
        .bind(ids.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(ids.iter().map(|(_, occurred_at)| *occurred_at).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(stored.into_iter().map(|event| (event.id, Receipt::from(event))).collect())
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
