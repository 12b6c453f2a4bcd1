//! Whole minutes from counts plus two ragged edges from events: together exact, to the microsecond.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::range::{BucketWidth, Window};
use crate::projections::failure::QueryFailure;
use crate::projections::{edge_counts, event_counts};

/// What happened in a window, over all sources and tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What was counted.
    pub window: Window,
    /// Events of each type that occurred.
    pub per_type: BTreeMap<String, i64>,
    /// Events of each bucket that holds any, by its start.
    pub per_bucket: BTreeMap<DateTime<Utc>, i64>,
}

impl Summary {
    fn add(&mut self, bucket: DateTime<Utc>, event_type: String, events: i64) {
        *self.per_type.entry(event_type).or_default() += events;
        *self.per_bucket.entry(bucket).or_default() += events;
    }
}

/// Composes the projections, all in the caller's snapshot.
pub struct EventAggregationService;

impl EventAggregationService {
    /// The answer equals a count over the raw events.
    ///
    /// # Errors
    /// PostgreSQL is away or too slow.
    pub async fn summarize(connection: &mut PgConnection, window: Window) -> Result<Summary, QueryFailure> {
        let width = BucketWidth::of(window);
        let pieces = window.split(width);
        let mut summary = Summary { window, per_type: BTreeMap::new(), per_bucket: BTreeMap::new() };
        for edge in pieces.edges {
            // An edge lies in one minute, so in one bucket.
            let bucket = width.bucket_of(edge.start());
            for row in edge_counts::read(connection, edge).await? {
                summary.add(bucket, row.event_type, row.events);
            }
        }
        if let Some(minutes) = pieces.minutes {
            for row in event_counts::read(connection, &minutes, width).await? {
                summary.add(row.bucket_start, row.event_type, row.events);
            }
        }
        Ok(summary)
    }
}
