//! Events and rejections come in, a batch goes out to be written in one transaction: per partition the range of offsets
//! that it accounts for, what became of each, and the events. Pure: no I/O, no clock.

mod settings;
mod cursor;
mod lane;
mod command_lane;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use shared::analytics::AnalyticsEvent;
use uuid::Uuid;

use crate::consume::{Fingerprint, KafkaRecord, PartitionKey};
use crate::decode::Rejection;

pub use command_lane::CommandLane;
pub use cursor::{Cursor, Step};
pub use lane::{Lane, LaneInput, LaneLoad};
pub use settings::{BatchArgs, BatchSettings};

/// A worker's right to write a partition: only the latest epoch may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Counts the claims of this partition.
    pub epoch: i64,
    /// Counts how often the topic was recreated or truncated.
    pub incarnation: i32,
    /// The first offset not yet accounted for; also where this claim's ledger row begins.
    pub next_offset: i64,
    /// The last record that was read.
    pub last: Option<LastRecord>,
}

/// The last record of a partition, or of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// Its offset.
    pub offset: i64,
    /// Tells it from another record at the same place.
    pub fingerprint: Fingerprint,
    /// Its timestamp.
    pub timestamp: Option<DateTime<Utc>>,
}

/// What became of the offsets of a range. They add up to its length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// New events.
    pub events: i64,
    /// Events that were there already.
    pub duplicates: i64,
    /// Records that could not become an event.
    pub dead_letters: i64,
    /// Records without a value.
    pub tombstones: i64,
    /// Offsets without a record.
    pub gaps: i64,
    /// Events before the retention horizon.
    pub expired: i64,
}

/// What became of one record.
#[derive(Debug)]
pub enum Fate {
    /// It is an event.
    Event(AnalyticsEvent),
    /// It can never be one.
    Rejected(Rejection),
    /// It has no value.
    Tombstone,
}

/// An event of a batch and where it came from.
#[derive(Debug)]
pub struct BatchEvent {
    /// The event.
    pub event: AnalyticsEvent,
    /// Index of its partition in the batch.
    pub partition: usize,
    /// The record, should PostgreSQL refuse the row; none for HTTP.
    pub record: Option<Box<KafkaRecord>>,
    /// Hash of the request; none for Kafka.
    pub request_hash: Option<[u8; 32]>,
}

/// A record that becomes a dead letter.
#[derive(Debug)]
pub struct Refused {
    /// Index of its partition in the batch.
    pub partition: usize,
    /// The record, whole.
    pub record: Box<KafkaRecord>,
    /// Why.
    pub rejection: Rejection,
}

/// The part of a batch that comes from one partition: `from` to `next`, without a hole.
#[derive(Debug)]
pub struct PartitionRange {
    /// Which partition.
    pub key: PartitionKey,
    /// Under which claim its records were fetched.
    pub claim: Claim,
    /// First offset.
    pub from: i64,
    /// First offset after the range.
    pub next: i64,
    /// All but events and expired, which PostgreSQL decides.
    pub totals: Totals,
    /// Offsets `[from, to)` that held no record for us.
    pub gaps: Vec<(i64, i64)>,
    /// The last record of the range; none if it is all gap.
    pub last: Option<LastRecord>,
}

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    partitions: Vec<PartitionRange>,
    by_key: HashMap<PartitionKey, usize>,
    events: Vec<BatchEvent>,
    refused: Vec<Refused>,
    ids: HashSet<Uuid>,
    records: usize,
    bytes: usize,
}

impl Batch {
    /// Takes a record with its fate. `gap` tells where the hole before it begins, if there is one.
    pub fn push(&mut self, claim: &Claim, gap: Option<i64>, record: KafkaRecord, fate: Fate) {
        self.records += 1;
        self.bytes += record.bytes();
        let index = self.range(record.partition_key(), claim, gap.unwrap_or(record.offset));
        if let Some(range) = self.partitions.get_mut(index) {
            range.skip_to(record.offset);
            range.next = record.offset + 1;
            match &fate {
                Fate::Event(_) => {}
                Fate::Rejected(_) => range.totals.dead_letters += 1,
                Fate::Tombstone => range.totals.tombstones += 1,
            }
        }
        match fate {
            Fate::Event(event) => self.push_event(index, event, Some(Box::new(record)), None),
            Fate::Rejected(rejection) => {
                self.refused.push(Refused { partition: index, record: Box::new(record), rejection });
            }
            Fate::Tombstone => {}
        }
    }

    /// Remembers the last record of a partition; once per run of records is enough.
    pub fn note_last(&mut self, key: &PartitionKey, last: LastRecord) {
        let range = self.by_key.get(key).and_then(|index| self.partitions.get_mut(*index));
        if let Some(range) = range {
            range.last = Some(last);
        }
    }

    /// The end of the partition is known to be at `position`, beyond its last record: markers of transactions.
    pub fn reach(&mut self, key: PartitionKey, claim: &Claim, from: i64, position: i64) {
        let index = self.range(key, claim, from);
        if let Some(range) = self.partitions.get_mut(index) {
            range.skip_to(position);
        }
    }

    /// Takes an HTTP command as the next position of the lane's own row; `from` is where the batch begins.
    pub fn push_command(
        &mut self,
        key: PartitionKey,
        claim: &Claim,
        from: i64,
        event: AnalyticsEvent,
        request_hash: [u8; 32],
    ) {
        self.records += 1;
        self.bytes += event.payload().as_str().len();
        let index = self.range(key, claim, from);
        if let Some(range) = self.partitions.get_mut(index) {
            range.next += 1;
        }
        self.push_event(index, event, None, Some(request_hash));
    }

    fn push_event(
        &mut self,
        partition: usize,
        event: AnalyticsEvent,
        record: Option<Box<KafkaRecord>>,
        request_hash: Option<[u8; 32]>,
    ) {
        // The first by position wins; whoever holds the later ones learns that they are duplicates.
        if self.ids.insert(event.id().uuid()) {
            self.events.push(BatchEvent { event, partition, record, request_hash });
        } else if let Some(range) = self.partitions.get_mut(partition) {
            range.totals.duplicates += 1;
        }
    }

    fn range(&mut self, key: PartitionKey, claim: &Claim, from: i64) -> usize {
        if let Some(index) = self.by_key.get(&key) {
            return *index;
        }
        let index = self.partitions.len();
        self.by_key.insert(key.clone(), index);
        let (totals, gaps) = (Totals::default(), Vec::new());
        self.partitions.push(PartitionRange {
            key,
            claim: claim.clone(),
            from,
            next: from,
            totals,
            gaps,
            last: None,
        });
        index
    }

    /// PostgreSQL refused this event's row: it becomes a dead letter, or for HTTP is left out and handed back.
    pub fn refuse(&mut self, id: Uuid, rejection: Rejection) -> Option<BatchEvent> {
        let index = self.events.iter().position(|candidate| candidate.event.id().uuid() == id)?;
        let mut refused = self.events.swap_remove(index);
        let range = self.partitions.get_mut(refused.partition);
        match refused.record.take() {
            Some(record) => {
                if let Some(range) = range {
                    range.totals.dead_letters += 1;
                }
                self.refused.push(Refused { partition: refused.partition, record, rejection });
                None
            }
            None => {
                if let Some(range) = range {
                    range.next -= 1;
                }
                Some(refused)
            }
        }
    }

    /// The ranges of offsets that it accounts for.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionRange] {
        &self.partitions
    }

    /// Unique by id.
    #[must_use]
    pub fn events(&self) -> &[BatchEvent] {
        &self.events
    }

    /// Dead letters to be.
    #[must_use]
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Records taken, whatever became of them.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes of the records taken, as they travelled.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has records or gaps of this partition.
    #[must_use]
    pub fn holds(&self, key: &PartitionKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

impl PartitionRange {
    /// Books what lies between as a gap.
    fn skip_to(&mut self, offset: i64) {
        if offset > self.next {
            self.totals.gaps += offset - self.next;
            self.gaps.push((self.next, offset));
            self.next = offset;
        }
    }
}
