//! The first and the last statements of the transaction: who may write, and how far it has come.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::failure::WriteFailure;
use crate::batch::{Batch, PartitionRange, Totals};

/// What the transaction knows once it holds its rows.
#[derive(Debug)]
pub struct Locked {
    /// Indices of the batch's partitions that are still ours; the others are left out.
    pub owned: BTreeSet<usize>,
    /// When the transaction began.
    pub now: DateTime<Utc>,
    /// Events before it are not stored.
    pub horizon: Option<DateTime<Utc>>,
    /// Whether records of the batch may have become dead letters before, since they came too early.
    pub has_letters: bool,
}

#[derive(sqlx::FromRow)]
struct LockedRow {
    position: i64,
    now: DateTime<Utc>,
    horizon: Option<DateTime<Utc>>,
    has_letters: bool,
}

/// Locks the batch's rows; none if every partition was taken by another worker.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn lock(
    connection: &mut PgConnection,
    group: &str,
    batch: &Batch,
) -> Result<Option<Locked>, WriteFailure> {
    let ranges = batch.partitions();
    let rows: Vec<LockedRow> = sqlx::query_as(include_str!("offsets_lock.sql"))
        .bind(group)
        .bind(ranges.iter().map(|range| &*range.key.topic).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.key.partition).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.claim.epoch).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.from).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.next).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (now, horizon) = (first.now, first.horizon);
    let owned = rows.iter().filter_map(|row| usize::try_from(row.position - 1).ok()).collect();
    let has_letters = rows.iter().any(|row| row.has_letters);
    Ok(Some(Locked { owned, now, horizon, has_letters }))
}

/// Writes the new offsets, the totals, the ledger and the gaps: the last statements of the transaction. `ranges` are the
/// owned ones, each with its final totals.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn advance(
    connection: &mut PgConnection,
    group: &str,
    worker: &str,
    ranges: &[(&PartitionRange, Totals)],
) -> Result<(), WriteFailure> {
    record_holes(connection, group, worker, ranges).await?;
    let totals = |of: fn(&Totals) -> i64| ranges.iter().map(|(_, totals)| of(totals)).collect::<Vec<_>>();
    let last = || ranges.iter().map(|(range, _)| range.last);
    let (advanced, extended): (i64, i64) = sqlx::query_as(include_str!("offsets_advance.sql"))
        .bind(group)
        .bind(ranges.iter().map(|(range, _)| &*range.key.topic).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(range, _)| range.key.partition).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(range, _)| range.claim.epoch).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(range, _)| range.claim.incarnation).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(range, _)| range.claim.next_offset).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(range, _)| range.next).collect::<Vec<_>>())
        .bind(totals(|totals| totals.events))
        .bind(totals(|totals| totals.duplicates))
        .bind(totals(|totals| totals.dead_letters))
        .bind(totals(|totals| totals.tombstones))
        .bind(totals(|totals| totals.gaps))
        .bind(totals(|totals| totals.expired))
        .bind(last().map(|last| last.map(|last| last.offset)).collect::<Vec<_>>())
        .bind(last().map(|last| last.map(|last| last.fingerprint.to_vec())).collect::<Vec<_>>())
        .bind(last().map(|last| last.and_then(|last| last.timestamp)).collect::<Vec<_>>())
        .fetch_one(connection)
        .await?;
    let expected = i64::try_from(ranges.len()).unwrap_or(i64::MAX);
    if (advanced, extended) == (expected, expected) {
        Ok(())
    } else {
        let sentence =
            format!("{expected} partitions: {advanced} offsets and {extended} ledger rows advanced");
        Err(WriteFailure::Defect(sentence))
    }
}

/// Holes are one row per claim: a producer of small transactions leaves one behind each of its records.
async fn record_holes(
    connection: &mut PgConnection,
    group: &str,
    worker: &str,
    ranges: &[(&PartitionRange, Totals)],
) -> Result<(), WriteFailure> {
    let with_hole = ranges.iter().filter_map(|(range, totals)| Some((*range, range.hole_end?, totals.gaps)));
    let holes: Vec<_> = with_hole.collect();
    if holes.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("offsets_holes.sql"))
        .bind(group)
        .bind(worker)
        .bind(holes.iter().map(|(range, _, _)| &*range.key.topic).collect::<Vec<_>>())
        .bind(holes.iter().map(|(range, _, _)| range.key.partition).collect::<Vec<_>>())
        .bind(holes.iter().map(|(range, _, _)| range.claim.incarnation).collect::<Vec<_>>())
        .bind(holes.iter().map(|(range, _, _)| range.claim.epoch).collect::<Vec<_>>())
        .bind(holes.iter().map(|(range, _, _)| range.claim.next_offset).collect::<Vec<_>>())
        .bind(holes.iter().map(|(_, end, _)| *end).collect::<Vec<_>>())
        .bind(holes.iter().map(|(_, _, gaps)| *gaps).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
