//! Which part of a batch is written, and what its commit did.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::conflicts::Conflict;
use crate::batch::{Batch, BatchEvent, Origin, PartitionRange, Refused, Totals};
use crate::consume::PartitionKey;
use crate::decode::{Rejection, RejectionClass};
use crate::metrics;
use crate::write::offsets::{self, Locked};
use crate::write::{WriteFailure, dead_letters};

/// What a commit did.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Partitions left out, since another worker holds them, with the epoch that was ours.
    pub lost: Vec<(PartitionKey, i64)>,
    /// Partitions written.
    pub advanced: Vec<Advanced>,
    /// When the transaction began: `ingested_at` of its events.
    pub at: DateTime<Utc>,
    /// Events that are new.
    pub new: usize,
    /// Numbers of the HTTP commands that brought one of them.
    pub new_commands: HashSet<usize>,
    /// Before it, events were not stored.
    pub horizon: Option<DateTime<Utc>>,
    /// Whether events were looked for and found.
    pub met_again: bool,
    /// Duplicates that say something else than the first with their id.
    pub conflicts: Vec<Conflict>,
    /// HTTP commands whose row PostgreSQL refused, by number: they have no record to keep.
    pub refused: HashMap<usize, String>,
}

/// How far a partition has come.
#[derive(Debug)]
pub struct Advanced {
    /// The partition.
    pub key: PartitionKey,
    /// Under this claim.
    pub epoch: i64,
    /// First offset not yet committed.
    pub next_offset: i64,
    /// Timestamp of the last record before it, if the batch had one.
    pub last_timestamp: Option<DateTime<Utc>>,
}

/// Takes the locks of the transaction, and lets a repeat stand in for an event that is left out.
pub(super) async fn lock(
    connection: &mut PgConnection,
    group: &str,
    batch: &mut Batch,
) -> Result<Option<Locked>, WriteFailure> {
    let locked = offsets::lock(connection, group, batch).await?;
    if let Some(locked) = &locked {
        if locked.has_letters {
            let letters = dead_letters::standing(connection, batch.partitions()).await?;
            batch.keep_refused(|event| stands(event, &letters));
        }
        batch.settle(|event| is_kept(event, locked));
    }
    Ok(locked)
}

/// A letter stays a letter, however late its record is read again: it was refused by a clock that has moved on since. What
/// it says of an event that had happened by then is judged anew.
fn stands(event: &BatchEvent, letters: &[dead_letters::Standing]) -> Option<Rejection> {
    let Origin::Record(record) = &event.origin else { return None };
    let mut early = letters.iter().filter(|letter| event.event.occurred_at() > letter.refused_at).peekable();
    early.peek()?;
    let digest = record.digest();
    let letter = early.find(|letter| letter.digest == digest)?;
    Some(Rejection::new(RejectionClass::TimeOutOfRange, letter.sentence.as_str()))
}

/// Of a partition that is ours, and not expired.
pub(super) fn is_kept(event: &BatchEvent, locked: &Locked) -> bool {
    locked.owned.contains(&event.partition) && !is_expired(event, locked)
}

fn is_expired(event: &BatchEvent, locked: &Locked) -> bool {
    locked.horizon.is_some_and(|horizon| event.event.occurred_at() < horizon)
}

/// Events that are kept, in key order: the order of every lane.
pub(super) fn writable<'b>(batch: &'b Batch, locked: &Locked) -> Vec<&'b BatchEvent> {
    let mut events: Vec<_> = batch.events().iter().filter(|event| is_kept(event, locked)).collect();
    // Cached: in order of time they lie anywhere in memory.
    events.sort_by_cached_key(|event| (event.event.occurred_at(), event.id()));
    events
}

/// Dead letters of the owned partitions, with the incarnation of each.
pub(super) fn letters<'b>(batch: &'b Batch, locked: &Locked) -> Vec<(&'b Refused, i32)> {
    let owned = batch.refused().iter().filter(|refused| locked.owned.contains(&refused.partition));
    owned
        .filter_map(|refused| Some((refused, batch.partitions().get(refused.partition)?.claim.incarnation)))
        .collect()
}

/// The owned ranges with their final totals: what PostgreSQL decided, added to what the batch knew.
pub(super) fn owned_ranges<'b>(
    batch: &'b Batch,
    locked: &Locked,
    new: &[&BatchEvent],
) -> Vec<(&'b PartitionRange, Totals)> {
    let mut totals: Vec<Totals> = batch.partitions().iter().map(|range| range.totals).collect();
    let mut add = |event: &BatchEvent, to: fn(&mut Totals)| totals.get_mut(event.partition).map(to);
    for event in batch.all_events() {
        if is_expired(event, locked) {
            add(event, |totals| totals.expired += 1);
        } else {
            add(event, |totals| totals.duplicates += 1);
        }
    }
    for event in new {
        add(event, |totals| {
            totals.duplicates -= 1;
            totals.events += 1;
        });
    }
    let ranges = batch.partitions().iter().zip(totals).enumerate();
    ranges.filter(|(index, _)| locked.owned.contains(index)).map(|(_, range)| range).collect()
}

/// Every partition was taken.
pub(super) fn all_lost(batch: &Batch) -> Vec<(PartitionKey, i64)> {
    batch.partitions().iter().map(|range| (range.key.clone(), range.claim.epoch)).collect()
}

/// What the commit did.
pub(super) fn recorded(
    batch: &Batch,
    locked: &Locked,
    ranges: &[(&PartitionRange, Totals)],
    new: &[&BatchEvent],
) -> Recorded {
    let lost = batch.partitions().iter().enumerate().filter(|(index, _)| !locked.owned.contains(index));
    Recorded {
        lost: lost.map(|(_, range)| (range.key.clone(), range.claim.epoch)).collect(),
        advanced: ranges
            .iter()
            .map(|(range, _)| Advanced {
                key: range.key.clone(),
                epoch: range.claim.epoch,
                next_offset: range.next,
                last_timestamp: range.last.and_then(|last| last.timestamp),
            })
            .collect(),
        at: locked.now,
        new: new.len(),
        new_commands: new.iter().filter_map(|event| event.command()).collect(),
        horizon: locked.horizon,
        met_again: false,
        conflicts: Vec::new(),
        refused: HashMap::new(),
    }
}

/// For the metrics, after the commit.
pub(super) fn count_outcomes(batch: &Batch, ranges: &[(&PartitionRange, Totals)], locked: &Locked) {
    use crate::metrics::RecordOutcome::{DeadLetter, Duplicate, Event, Expired, Gap, Tombstone};
    for (_, totals) in ranges {
        let outcomes = [
            (Event, totals.events),
            (Duplicate, totals.duplicates),
            (DeadLetter, totals.dead_letters),
            (Tombstone, totals.tombstones),
            (Gap, totals.gaps),
            (Expired, totals.expired),
        ];
        for (outcome, count) in outcomes {
            metrics::records(outcome, count.unsigned_abs());
        }
    }
    for refused in batch.refused().iter().filter(|refused| locked.owned.contains(&refused.partition)) {
        metrics::dead_letter(refused.rejection.class(), 1);
    }
}
