//! Counts, from really new events only.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use shared::bucket::{self, MINUTES_PER_HOUR};
use sqlx::PgConnection;

use super::failure::WriteFailure;

/// Counts really new events, each its time and the number of its series, per hour, series and minute, under the lane's
/// shard.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn count(
    connection: &mut PgConnection,
    shard: i16,
    new_events: &[(DateTime<Utc>, i32)],
) -> Result<(), WriteFailure> {
    let hours = per_hour(new_events);
    if hours.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("event_counts.sql"))
        .bind(shard)
        .bind(hours.iter().map(|((hour, _), _)| *hour).collect::<Vec<_>>())
        .bind(hours.iter().map(|((_, number), _)| *number).collect::<Vec<_>>())
        .bind(
            hours
                .iter()
                .map(|(_, minutes)| minutes.iter().map(|n| i64::from(*n)).sum())
                .collect::<Vec<i64>>(),
        )
        .bind(hours.iter().flat_map(|(_, minutes)| *minutes).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(WriteFailure::of_rows)?;
    Ok(())
}

type HourCounts = ((DateTime<Utc>, i32), [i32; MINUTES_PER_HOUR]);

/// Sorted by key, so that the rows are locked in one order everywhere.
fn per_hour(events: &[(DateTime<Utc>, i32)]) -> Vec<HourCounts> {
    let mut hours: HashMap<(DateTime<Utc>, i32), [i32; MINUTES_PER_HOUR], foldhash::fast::RandomState> =
        HashMap::default();
    for (occurred_at, series) in events {
        let minutes = hours.entry((bucket::hour(*occurred_at), *series)).or_insert([0; MINUTES_PER_HOUR]);
        if let Some(count) = minutes.get_mut(bucket::minute_of_hour(*occurred_at)) {
            *count += 1;
        }
    }
    let mut hours: Vec<_> = hours.into_iter().collect();
    hours.sort_unstable_by_key(|(key, _)| *key);
    hours
}
