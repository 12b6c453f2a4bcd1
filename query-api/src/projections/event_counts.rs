//! Whole minutes and hours, counted when the events were written.

use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt as _};
use sqlx::PgConnection;

use super::failure::QueryFailure;
use crate::queries::range::{BucketWidth, WholeMinutes};

/// Events of one type in one bucket.
#[derive(Debug, sqlx::FromRow)]
pub struct BucketCount {
    /// When the bucket begins.
    pub bucket_start: DateTime<Utc>,
    /// What happened.
    pub event_type: String,
    /// How often.
    pub events: i64,
}

/// Per bucket and type, of all tenants and sources. A bucket and type may come twice: the rows add up.
///
/// # Errors
/// PostgreSQL is away or too slow.
pub fn read(
    connection: &mut PgConnection,
    minutes: &WholeMinutes,
    width: BucketWidth,
) -> impl Stream<Item = Result<BucketCount, QueryFailure>> {
    sqlx::query_as(include_str!("event_counts.sql"))
        .bind(minutes.start)
        .bind(minutes.end)
        .bind(width.minutes())
        .bind(width.bucket_of(minutes.start))
        .bind(minutes.cut_hours.clone())
        .fetch(connection)
        .err_into()
}
