//! Payloads that are too long to come with their events.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::events::StoredPayload;
use super::failure::QueryFailure;

/// The key of an event, and how long its payload may be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// With `id`, the key.
    pub occurred_at: DateTime<Utc>,
    /// Unique.
    pub id: Uuid,
    /// Bytes of the text.
    pub allowed: u64,
}

impl Wanted {
    /// Within these PostgreSQL looks for partitions, already when it plans.
    fn times(wanted: &[Self]) -> RangeInclusive<DateTime<Utc>> {
        let times = || wanted.iter().map(|wanted| wanted.occurred_at);
        times().min().unwrap_or_default()..=times().max().unwrap_or_default()
    }
}

/// In the order of `wanted`: the text, its length where it is longer than allowed, or nothing where the event is gone
/// (beyond retention since).
///
/// # Errors
/// PostgreSQL is away or too slow, or a text is beyond what it can make.
pub async fn read(
    connection: &mut PgConnection,
    wanted: &[Wanted],
) -> Result<Vec<Option<StoredPayload>>, QueryFailure> {
    let times = Wanted::times(wanted);
    let rows: Vec<(i32, i64, Option<String>)> = sqlx::query_as(include_str!("payloads.sql"))
        .bind(wanted.iter().map(|wanted| wanted.occurred_at).collect::<Vec<_>>())
        .bind(wanted.iter().map(|wanted| wanted.id).collect::<Vec<_>>())
        .bind(
            wanted.iter().map(|wanted| i64::try_from(wanted.allowed).unwrap_or(i64::MAX)).collect::<Vec<_>>(),
        )
        .bind(times.start())
        .bind(times.end())
        .fetch_all(&mut *connection)
        .await?;
    connection.shrink_buffers(); // It would keep room for the longest text that it ever read.
    let rows = rows.into_iter().map(|(place, bytes, text)| {
        (
            place,
            text.map_or_else(|| StoredPayload::Long(u64::try_from(bytes).unwrap_or(0)), StoredPayload::Text),
        )
    });
    Ok(in_order(rows, wanted.len()))
}

/// In the order of `wanted`: about how long the texts would be. Takes longer the more numbers there are, and makes none.
///
/// # Errors
/// PostgreSQL is away or too slow.
pub async fn measure(
    connection: &mut PgConnection,
    wanted: &[Wanted],
) -> Result<Vec<Option<u64>>, QueryFailure> {
    let times = Wanted::times(wanted);
    let rows: Vec<(i32, i64)> = sqlx::query_as(include_str!("payload_sizes.sql"))
        .bind(wanted.iter().map(|wanted| wanted.occurred_at).collect::<Vec<_>>())
        .bind(wanted.iter().map(|wanted| wanted.id).collect::<Vec<_>>())
        .bind(times.start())
        .bind(times.end())
        .fetch_all(connection)
        .await?;
    Ok(in_order(
        rows.into_iter().map(|(place, bytes)| (place, u64::try_from(bytes).unwrap_or(0))),
        wanted.len(),
    ))
}

/// PostgreSQL counts places from 1.
fn in_order<T>(rows: impl Iterator<Item = (i32, T)>, length: usize) -> Vec<Option<T>> {
    let mut all: Vec<_> = std::iter::repeat_with(|| None).take(length).collect();
    for (place, value) in rows {
        let slot = usize::try_from(place).ok().and_then(|place| all.get_mut(place.checked_sub(1)?));
        if let Some(slot) = slot {
            *slot = Some(value);
        }
    }
    all
}
