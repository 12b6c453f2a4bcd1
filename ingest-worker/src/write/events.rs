//! The events themselves: COPY straight in, or after a duplicate through staging.

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
    /// COPY straight into it: the usual way, which ends the transaction if one is there already.
    Straight,
    /// COPY into a temporary table and on with `ON CONFLICT DO NOTHING`: for replays.
    Staging,
}

/// Stores the events, which come sorted by `(occurred_at, id)`, and returns the ids that were new; `None` says all.
///
/// # Errors
/// `Duplicate` on the straight route; else as [`WriteFailure`] says.
pub async fn insert(
    connection: &mut PgConnection,
    route: Route,
    events: &[&AnalyticsEvent],
) -> Result<Option<HashSet<Uuid>>, WriteFailure> {
    if events.is_empty() {
        return Ok(None);
    }
    match route {
        Route::Straight => {
            copy(connection, "analytics_events", Statement::CopyEvents, events).await?;
            Ok(None)
        }
        Route::Staging => {
            stage(connection, events).await?;
            let new: Vec<Uuid> = sqlx::query_scalar(include_str!("events_merge.sql"))
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| WriteFailure::of(Statement::StageEvents, &error))?;
            Ok(Some(new.into_iter().collect()))
        }
    }
}

/// Copies the events into the connection's staging table, which the transaction's end empties.
async fn stage(connection: &mut PgConnection, events: &[&AnalyticsEvent]) -> Result<(), WriteFailure> {
    sqlx::query(include_str!("events_staging.sql")).execute(&mut *connection).await?;
    copy(connection, "event_staging", Statement::StageEvents, events).await
}

async fn copy(
    connection: &mut PgConnection,
    table: &str,
    statement: Statement,
    events: &[&AnalyticsEvent],
) -> Result<(), WriteFailure> {
    let failed = |error: sqlx::Error| match WriteFailure::of(statement, &error) {
        WriteFailure::Refused { message, .. } => {
            let culprit = copy_row(&error).and_then(|row| events.get(row));
            WriteFailure::Refused { event: culprit.map(|event| event.id().uuid()), message }
        }
        failure => failure,
    };
    let command = format!("COPY {table} {COLUMNS} FROM STDIN (FORMAT binary)");
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
