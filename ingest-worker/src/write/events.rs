//! The events themselves: COPY, after a duplicate without those that are there already.

use std::collections::HashSet;

use shared::analytics::AnalyticsEvent;
use sqlx::PgConnection;
use uuid::Uuid;

use super::copy_row::{COLUMNS, CopyBuffer};
use super::failure::{Statement, WriteFailure, copy_row};
use crate::fail_point::FailPoint;

/// How events get into their table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// COPY: the usual way, which ends the transaction if one of them is there already.
    Straight,
    /// COPY of those that are not: after a duplicate, and for replays.
    Checked,
}

/// Stores the events, which come sorted by `(occurred_at, id)`, and returns the ids that were there already.
///
/// # Errors
/// `Duplicate` if one is there that was not looked for, or came between; else as [`WriteFailure`] says.
pub async fn insert(
    connection: &mut PgConnection,
    route: Route,
    events: &[&AnalyticsEvent],
) -> Result<HashSet<Uuid>, WriteFailure> {
    let known = match route {
        Route::Straight => HashSet::new(),
        Route::Checked => known(connection, events).await?,
    };
    if known.is_empty() {
        copy(connection, events).await?;
    } else {
        let is_new = |event: &&AnalyticsEvent| !known.contains(&event.id().uuid());
        let new: Vec<_> = events.iter().copied().filter(is_new).collect();
        copy(connection, &new).await?;
    }
    Ok(known)
}

async fn known(
    connection: &mut PgConnection,
    events: &[&AnalyticsEvent],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(include_str!("events_known.sql"))
        .bind(events.iter().map(|event| event.occurred_at()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.id().uuid()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().collect())
}

async fn copy(connection: &mut PgConnection, events: &[&AnalyticsEvent]) -> Result<(), WriteFailure> {
    if events.is_empty() {
        return Ok(());
    }
    let failed = |error: sqlx::Error| match WriteFailure::of(Statement::CopyEvents, &error) {
        WriteFailure::Refused { message, .. } => {
            let culprit = copy_row(&error).and_then(|row| events.get(row));
            WriteFailure::Refused { event: culprit.map(|event| event.id().uuid()), message }
        }
        failure => failure,
    };
    let command = format!("COPY analytics_events {COLUMNS} FROM STDIN (FORMAT binary)");
    let mut copy = connection.copy_in_raw(&command).await.map_err(failed)?;
    let mut buffer = CopyBuffer::new();
    for event in events {
        buffer.push(event);
        if buffer.is_full() {
            copy.send(buffer.as_bytes()).await.map_err(failed)?;
            buffer.clear();
        }
    }
    buffer.finish();
    copy.send(buffer.as_bytes()).await.map_err(failed)?;
    FailPoint::MidCopy.pass().await?;
    let stored = copy.finish().await.map_err(failed)?;
    if stored == events.len() as u64 {
        Ok(())
    } else {
        Err(WriteFailure::Defect(format!("PostgreSQL stored {stored} rows of {} sent", events.len())))
    }
}
