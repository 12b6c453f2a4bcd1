//! Counts, from really new events only.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use shared::analytics::AnalyticsEvent;
use shared::bucket::{self, MINUTES_PER_HOUR};
use sqlx::PgConnection;

use super::failure::WriteFailure;
use super::series::SeriesCache;

/// Counts really new events per hour, series and minute, under the lane's shard.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn count<'e>(
    connection: &mut PgConnection,
    shard: i16,
    series: &SeriesCache,
    new_events: impl Iterator<Item = &'e AnalyticsEvent>,
) -> Result<(), WriteFailure> {
    let hours = per_hour(series, new_events)?;
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
        .await?;
    Ok(())
}

type HourCounts = ((DateTime<Utc>, i32), [i32; MINUTES_PER_HOUR]);

/// Sorted by key, so that the rows are locked in one order everywhere.
fn per_hour<'e>(
    series: &SeriesCache,
    events: impl Iterator<Item = &'e AnalyticsEvent>,
) -> Result<Vec<HourCounts>, WriteFailure> {
    let mut hours: HashMap<(DateTime<Utc>, i32), [i32; MINUTES_PER_HOUR], foldhash::fast::RandomState> =
        HashMap::default();
    for event in events {
        let number =
            series.number(event).ok_or_else(|| WriteFailure::Defect("an event has no series".to_owned()))?;
        let minutes =
            hours.entry((bucket::hour(event.occurred_at()), number)).or_insert([0; MINUTES_PER_HOUR]);
        if let Some(count) = minutes.get_mut(bucket::minute_of_hour(event.occurred_at())) {
            *count += 1;
        }
    }
    let mut hours: Vec<_> = hours.into_iter().collect();
    hours.sort_unstable_by_key(|(key, _)| *key);
    Ok(hours)
}
