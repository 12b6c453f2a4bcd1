//! Which part of a batch is written, and what its commit did. No I/O.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::batch::{Batch, BatchEvent, PartitionRange, Refused, Totals};
use crate::consume::PartitionKey;
use crate::metrics;
use crate::write::event_ids::ExternalId;
use crate::write::offsets;

/// What a commit did.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Partitions left out, since another worker holds them, with the epoch that was ours.
    pub lost: Vec<(PartitionKey, i64)>,
    /// Partitions written.
    pub advanced: Vec<Advanced>,
    /// When the transaction began: `ingested_at` of its events.
    pub at: DateTime<Utc>,
    /// Ids of the events that are new.
    pub new: HashSet<Uuid>,
    /// Before it, events were not stored.
    pub horizon: Option<DateTime<Utc>>,
    /// Rows that PostgreSQL refused and that have no record to keep: HTTP commands.
    pub refused: Vec<(Uuid, String)>,
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

/// Events of partitions that are ours and not expired, in key order: the order of every lane.
pub(super) fn writable<'b>(batch: &'b Batch, locked: &offsets::Locked) -> Vec<&'b BatchEvent> {
    let kept = |event: &&BatchEvent| {
        locked.owned.contains(&event.partition)
            && locked.horizon.is_none_or(|horizon| event.event.occurred_at() >= horizon)
    };
    let mut events: Vec<_> = batch.events().iter().filter(kept).collect();
    events.sort_unstable_by_key(|event| (event.event.occurred_at(), event.event.id().uuid()));
    events
}

/// Ids of these events that came from outside.
pub(super) fn external_ids<'b>(events: &[&'b BatchEvent]) -> Vec<ExternalId<'b>> {
    let external = events.iter().filter(|event| event.event.id().is_external());
    external
        .map(|event| ExternalId {
            id: event.event.id().uuid(),
            occurred_at: event.event.occurred_at(),
            request_hash: event.request_hash.as_ref(),
            millisecond: event.event.id().millisecond(),
        })
        .collect()
}

/// Dead letters of the owned partitions, with the incarnation of each.
pub(super) fn letters<'b>(batch: &'b Batch, locked: &offsets::Locked) -> Vec<(&'b Refused, i32)> {
    let owned = batch.refused().iter().filter(|refused| locked.owned.contains(&refused.partition));
    owned
        .filter_map(|refused| Some((refused, batch.partitions().get(refused.partition)?.claim.incarnation)))
        .collect()
}

/// The owned ranges with their final totals: what PostgreSQL decided, added to what the batch knew.
pub(super) fn owned_ranges<'b>(
    batch: &'b Batch,
    locked: &offsets::Locked,
    candidates: &[&BatchEvent],
    new: &[&BatchEvent],
) -> Vec<(&'b PartitionRange, Totals)> {
    let mut totals: Vec<Totals> = batch.partitions().iter().map(|range| range.totals).collect();
    let mut add = |partition: usize, to: fn(&mut Totals)| totals.get_mut(partition).map(to);
    batch.events().iter().for_each(|event| {
        add(event.partition, |totals| totals.expired += 1);
    });
    for event in candidates {
        add(event.partition, |totals| {
            totals.expired -= 1;
            totals.duplicates += 1;
        });
    }
    for event in new {
        add(event.partition, |totals| {
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
    locked: &offsets::Locked,
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
        new: new.iter().map(|event| event.event.id().uuid()).collect(),
        horizon: locked.horizon,
        refused: Vec::new(),
    }
}

/// For the metrics, after the commit.
pub(super) fn count_outcomes(batch: &Batch, ranges: &[(&PartitionRange, Totals)], locked: &offsets::Locked) {
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
