//! Ids that came from outside: unique whatever their time, and findable.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::failure::WriteFailure;

/// An id that came from outside, to be reserved.
#[derive(Debug, Clone, Copy)]
pub struct ExternalId<'a> {
    /// The id.
    pub id: Uuid,
    /// Where its event will lie.
    pub occurred_at: DateTime<Utc>,
    /// Set for HTTP.
    pub request_hash: Option<&'a [u8; 32]>,
    /// The millisecond in which a row of this id lies, should it be one that we once made.
    pub millisecond: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Who was here before? Returns the ids that are new; they come unique, and are written sorted.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn reserve(
    connection: &mut PgConnection,
    mut ids: Vec<ExternalId<'_>>,
) -> Result<HashSet<Uuid>, WriteFailure> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let known = known_as_ours(connection, &ids).await?;
    ids.retain(|id| !known.contains(&id.id));
    ids.sort_unstable_by_key(|id| id.id);
    let new: Vec<Uuid> = sqlx::query_scalar(include_str!("event_ids.sql"))
        .bind(ids.iter().map(|id| id.id).collect::<Vec<_>>())
        .bind(ids.iter().map(|id| id.occurred_at).collect::<Vec<_>>())
        .bind(ids.iter().map(|id| id.request_hash.map(|hash| hash.to_vec())).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(WriteFailure::of_rows)?;
    Ok(new.into_iter().collect())
}

/// A re-import brings ids that were made here and so are not in `event_ids`: they are looked for in their millisecond.
async fn known_as_ours(
    connection: &mut PgConnection,
    ids: &[ExternalId<'_>],
) -> Result<HashSet<Uuid>, WriteFailure> {
    let ours: Vec<_> =
        ids.iter().filter_map(|id| id.millisecond.map(|(start, end)| (id.id, start, end))).collect();
    if ours.is_empty() {
        return Ok(HashSet::new());
    }
    let known: Vec<Uuid> = sqlx::query_scalar(include_str!("event_ids_ours.sql"))
        .bind(ours.iter().map(|(id, _, _)| *id).collect::<Vec<_>>())
        .bind(ours.iter().map(|(_, start, _)| *start).collect::<Vec<_>>())
        .bind(ours.iter().map(|(_, _, end)| *end).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(known.into_iter().collect())
}
