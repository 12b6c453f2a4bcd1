//! Whole minutes from counts plus two ragged edges from events: together exact, to the microsecond.

use std::collections::BTreeMap;
use std::pin::pin;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use sqlx::PgConnection;

use super::range::{BucketWidth, Window};
use crate::budget::{Budget, Growing, Held};
use crate::metrics;
use crate::projections::failure::QueryFailure;
use crate::projections::{edge_counts, event_counts};

/// What happened in a window, over all sources and tenants.
pub struct Summary {
    /// What was counted.
    pub window: Window,
    /// Events of each type that occurred.
    pub per_type: BTreeMap<String, i64>,
    /// Events of each bucket that holds any, by its start.
    pub per_bucket: BTreeMap<DateTime<Utc>, i64>,
    /// Bytes of memory that it takes, about.
    pub bytes: u64,
    /// What accounts for them.
    pub held: Vec<Held>,
}

/// So much a summary may take outside the budget: a thousand types.
const FREE: u64 = 128 << 10;
/// What a type takes beside its name.
const ENTRY: usize = 64;

/// A summary that is being made: as large as there are types, whatever the number of rows.
struct Sums<'b> {
    per_type: BTreeMap<String, i64>,
    per_bucket: BTreeMap<DateTime<Utc>, i64>,
    memory: Growing<'b>,
}

impl Sums<'_> {
    async fn add(
        &mut self,
        bucket: DateTime<Utc>,
        event_type: String,
        events: i64,
    ) -> Result<(), QueryFailure> {
        *self.per_bucket.entry(bucket).or_default() += events;
        if let Some(sum) = self.per_type.get_mut(&event_type) {
            *sum += events;
        } else {
            self.memory.add(event_type.len() + ENTRY).await?;
            self.per_type.insert(event_type, events);
        }
        Ok(())
    }
}

/// Composes the projections, all in the caller's snapshot.
pub struct EventAggregationService;

impl EventAggregationService {
    /// The answer equals a count over the raw events.
    ///
    /// # Errors
    /// PostgreSQL is away or too slow.
    pub async fn summarize(
        connection: &mut PgConnection,
        window: Window,
        budget: &Budget,
    ) -> Result<Summary, QueryFailure> {
        let width = BucketWidth::of(window);
        let pieces = window.split(width);
        let memory = budget.growing(FREE);
        let mut sums = Sums { per_type: BTreeMap::new(), per_bucket: BTreeMap::new(), memory };
        for edge in pieces.edges {
            // An edge lies in one minute, so in one bucket.
            let bucket = width.bucket_of(edge.start());
            let mut rows = pin!(edge_counts::read(connection, edge));
            let mut number = 0;
            while let Some(row) = rows.try_next().await? {
                sums.add(bucket, row.event_type, row.events).await?;
                number += 1;
            }
            metrics::rows_read("edge_counts", number);
        }
        if let Some(minutes) = pieces.minutes {
            let mut rows = pin!(event_counts::read(connection, &minutes, width));
            let mut number = 0;
            while let Some(row) = rows.try_next().await? {
                sums.add(row.bucket_start, row.event_type, row.events).await?;
                number += 1;
            }
            metrics::rows_read("event_counts", number);
        }
        let (bytes, held) = sums.memory.done();
        Ok(Summary { window, per_type: sums.per_type, per_bucket: sums.per_bucket, bytes, held })
    }
}
