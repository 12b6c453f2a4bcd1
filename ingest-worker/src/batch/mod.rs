//! Events and rejections come in, a batch goes out to be written in one transaction: per partition the range of offsets
//! that it accounts for, what became of each, and the events. Pure: no I/O, no clock.

mod settings;
mod series;
mod cursor;
mod refusals;
mod lane;
mod lane_task;
mod command_lane;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use shared::analytics::AnalyticsEvent;
use uuid::Uuid;

use crate::consume::{Fingerprint, KafkaRecord, PartitionKey};
use crate::decode::Rejection;

pub use command_lane::{CommandLane, HTTP_TOPIC};
pub use cursor::{Cursor, Step};
pub use lane::{Lane, LaneInput, LaneLoad};
pub use lane_task::{Decoder, LaneTask};
pub use series::{Series, SeriesList};
pub use settings::{BatchArgs, BatchSettings};

/// A worker's right to write a partition: only the latest epoch may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Grows with every claim of this partition and is never the same twice.
    pub epoch: i64,
    /// Counts how often the topic was recreated or truncated.
    pub incarnation: i32,
    /// Where reading of this incarnation began.
    pub start_offset: i64,
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

impl LastRecord {
    /// What is kept of this record, should nothing come after it.
    #[must_use]
    pub fn of(record: &KafkaRecord) -> Self {
        let timestamp = record.timestamp.map(|timestamp| timestamp.at);
        Self { offset: record.offset, fingerprint: record.fingerprint(), timestamp }
    }
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
    /// Index of its series in the batch.
    pub series: usize,
    /// What brought it.
    pub origin: Origin,
}

/// What brought an event.
#[derive(Debug)]
pub enum Origin {
    /// This record, which becomes a dead letter should PostgreSQL refuse the row.
    Record(KafkaRecord),
    /// An HTTP command.
    Command {
        /// Counts the commands of the batch from 0.
        number: usize,
        /// Hash of the request.
        request_hash: [u8; 32],
    },
}

/// A record that becomes a dead letter.
#[derive(Debug)]
pub struct Refused {
    /// Index of its partition in the batch.
    pub partition: usize,
    /// The record, whole.
    pub record: KafkaRecord,
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
    /// All but events, duplicates and expired, which PostgreSQL decides.
    pub totals: Totals,
    /// Where the last hole ends, if there is one: offsets that held no record for us.
    pub hole_end: Option<i64>,
    /// The last record of the range; none if it is all gap.
    pub last: Option<LastRecord>,
}

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    partitions: Vec<PartitionRange>,
    by_key: HashMap<PartitionKey, usize>,
    events: Vec<BatchEvent>,
    /// Events whose id another one of the batch has, by position.
    repeats: Vec<BatchEvent>,
    refused: Vec<Refused>,
    series: SeriesList,
    /// Places of the series that PostgreSQL refused: they have no events any more.
    refused_series: Vec<usize>,
    ids: HashSet<Uuid, foldhash::fast::RandomState>,
    records: usize,
    bytes: usize,
}

impl Batch {
    /// The range of this partition, which begins at `from` if the batch has none yet.
    pub fn range(&mut self, key: &PartitionKey, claim: &Claim, from: i64) -> usize {
        if let Some(index) = self.by_key.get(key) {
            return *index;
        }
        let index = self.partitions.len();
        self.by_key.insert(key.clone(), index);
        self.partitions.push(PartitionRange {
            key: key.clone(),
            claim: claim.clone(),
            from,
            next: from,
            totals: Totals::default(),
            hole_end: None,
            last: None,
        });
        index
    }

    /// Leaves an empty one with room for as many events: under a backlog they come, and it is not copied as it grows.
    /// Without a backlog the room is given up with the next batch.
    #[must_use]
    pub fn hand_over(&mut self) -> Self {
        let mut next = Self { events: Vec::with_capacity(self.events.len()), ..Self::default() };
        next.ids.reserve(self.ids.len());
        std::mem::replace(self, next)
    }

    /// Takes a record of the range `index` with its fate.
    pub fn push(&mut self, index: usize, record: KafkaRecord, fate: Fate) {
        self.records += 1;
        self.bytes += record.bytes();
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
            Fate::Event(event) => self.push_event(index, event, Origin::Record(record)),
            Fate::Rejected(rejection) => {
                self.refused.push(Refused { partition: index, record, rejection });
            }
            Fate::Tombstone => {}
        }
    }

    /// Remembers the last record of a range; once per run of records is enough.
    pub fn note_last(&mut self, index: usize, last: LastRecord) {
        if let Some(range) = self.partitions.get_mut(index) {
            range.last = Some(last);
        }
    }

    /// The end of the partition is known to be at `position`, beyond its last record: markers of transactions.
    pub fn reach(&mut self, key: &PartitionKey, claim: &Claim, from: i64, position: i64) {
        let index = self.range(key, claim, from);
        if let Some(range) = self.partitions.get_mut(index) {
            range.skip_to(position);
        }
    }

    /// Takes an HTTP command as the next position of the lane's own row; `from` is where the batch begins.
    pub fn push_command(
        &mut self,
        key: &PartitionKey,
        claim: &Claim,
        from: i64,
        event: AnalyticsEvent,
        request_hash: [u8; 32],
    ) {
        let number = self.records;
        self.records += 1;
        self.bytes += event.payload().as_str().len();
        let index = self.range(key, claim, from);
        if let Some(range) = self.partitions.get_mut(index) {
            range.next += 1;
        }
        self.push_event(index, event, Origin::Command { number, request_hash });
    }

    fn push_event(&mut self, partition: usize, event: AnalyticsEvent, origin: Origin) {
        let is_first = self.ids.insert(event.id().uuid());
        let events = if is_first { &mut self.events } else { &mut self.repeats };
        let series = self.series.place(&event);
        events.push(BatchEvent { event, partition, series, origin });
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

    /// Events that stand behind one of [`Batch::events`] with the same id: duplicates, unless that one is not written.
    #[must_use]
    pub fn repeats(&self) -> &[BatchEvent] {
        &self.repeats
    }

    /// Both, whatever becomes of them.
    pub fn all_events(&self) -> impl Iterator<Item = &BatchEvent> + Clone {
        self.events.iter().chain(&self.repeats)
    }

    /// What its events are counted by.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        self.series.as_slice()
    }

    /// Places of those of them that are not to be asked for.
    #[must_use]
    pub fn refused_series(&self) -> &[usize] {
        &self.refused_series
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
            self.hole_end = Some(offset);
            self.next = offset;
        }
    }
}

impl BatchEvent {
    /// The event's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.event.id().uuid()
    }

    /// The number of the HTTP command that brought it.
    #[must_use]
    pub fn command(&self) -> Option<usize> {
        match self.origin {
            Origin::Command { number, .. } => Some(number),
            Origin::Record(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
