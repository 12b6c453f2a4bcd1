//! A lane without its connection: what comes in from Kafka and from the writer, and the batches that go out. Pure: no I/O,
//! no clock; `model` drives it through millions of steps.

use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::vec;

use super::settings::BatchSettings;
use super::{Batch, Claim, Cursor, Fate, LastRecord, Step};
use crate::commands::{Recorded, WriterReport};
use crate::consume::{KafkaRecord, PartitionKey, ToConsumer};

/// What the Kafka thread gives a lane, in order.
#[derive(Debug)]
pub enum LaneInput {
    /// The partition is ours; its records under this claim follow.
    Claimed(PartitionKey, Claim),
    /// Records of any of the lane's partitions, each partition's in order.
    Records(Vec<KafkaRecord>),
    /// The client stands at `position`, beyond the last record: what lies between is not for us.
    End {
        /// Of this partition.
        key: PartitionKey,
        /// Under this claim.
        epoch: i64,
        /// The next offset to come.
        position: i64,
    },
    /// Kafka took the partition away.
    Revoked(PartitionKey),
}

/// Bytes that a lane holds between fetch and commit; the Kafka thread stops fetching for a lane that is full.
#[derive(Debug, Default)]
pub struct LaneLoad(AtomicUsize);

impl LaneLoad {
    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// More is on its way to the lane.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Records below which a batch is not made smaller, however often PostgreSQL is lost over it.
const SMALLEST_BATCH: usize = 500;

/// The writer's connection; the number tells one from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Away,
    Idle(u64),
    Busy(u64),
}

/// Turns records into batches, one of which is being written while the next is gathered. A partition keeps its lane, so its
/// order holds.
pub struct Lane {
    number: usize,
    settings: BatchSettings,
    load: Arc<LaneLoad>,
    writer: Writer,
    cursors: HashMap<PartitionKey, Cursor>,
    batch: Batch,
    /// A new claim of a partition of which the batch still holds records under the former one.
    waiting: Option<(PartitionKey, Claim)>,
    opened: Option<Instant>,
    held: usize,
    held_by_writer: usize,
    /// Most records of a batch at present.
    most_records: usize,
    draining: bool,
}

impl Lane {
    /// Lane `number`; `load` is what it holds, as the Kafka thread sees it.
    #[must_use]
    pub fn new(number: usize, settings: BatchSettings, load: Arc<LaneLoad>) -> Self {
        Self {
            number,
            most_records: settings.backlog_max_events,
            settings,
            load,
            writer: Writer::Away,
            cursors: HashMap::new(),
            batch: Batch::default(),
            waiting: None,
            opened: None,
            held: 0,
            held_by_writer: 0,
            draining: false,
        }
    }

    /// Whether the next input may be taken now.
    #[must_use]
    pub fn takes_more(&self) -> bool {
        let full = self.batch.records() >= self.most_records || self.is_large();
        self.writer != Writer::Away && !full && self.waiting.is_none()
    }

    /// Takes an input. `fate` decides what becomes of a record; what the Kafka thread is to know is added to `told`.
    pub fn take(
        &mut self,
        input: LaneInput,
        now: Instant,
        fate: impl FnMut(&KafkaRecord) -> Fate,
        told: &mut Vec<ToConsumer>,
    ) {
        match input {
            // What was read under the former claim comes again under this one, unless it is written before.
            LaneInput::Claimed(key, claim) if self.batch.holds(&key) => self.waiting = Some((key, claim)),
            LaneInput::Claimed(key, claim) => {
                self.cursors.insert(key, Cursor::new(claim));
            }
            LaneInput::Records(records) => self.take_records(records, now, fate, told),
            LaneInput::End { key, epoch, position } => {
                let Some(cursor) = self.cursors.get_mut(&key) else { return };
                if let Some(from) = cursor.reach(epoch, position) {
                    self.batch.reach(&key, cursor.claim(), from, position);
                    self.opened.get_or_insert(now);
                }
            }
            LaneInput::Revoked(key) => {
                self.cursors.remove(&key);
            }
        }
    }

    fn take_records(
        &mut self,
        records: Vec<KafkaRecord>,
        now: Instant,
        mut fate: impl FnMut(&KafkaRecord) -> Fate,
        told: &mut Vec<ToConsumer>,
    ) {
        let mut records = records.into_iter().peekable();
        while let Some(first) = records.peek() {
            let key = first.partition_key();
            self.take_run(&key, &mut records, now, &mut fate, told);
        }
    }

    /// Takes the records of this partition that come next; those of one that is not ours are dropped.
    fn take_run(
        &mut self,
        key: &PartitionKey,
        records: &mut Peekable<vec::IntoIter<KafkaRecord>>,
        now: Instant,
        mut fate: impl FnMut(&KafkaRecord) -> Fate,
        told: &mut Vec<ToConsumer>,
    ) {
        let mut cursor = self.cursors.get_mut(key);
        let mut range = None;
        while let Some(record) = records.next_if(|next| next.is_of(key)) {
            let memory = record.memory();
            let Some(cursor) = &mut cursor else {
                self.load.release(memory);
                continue;
            };
            let gap = match cursor.step(&record) {
                Step::Take { gap } => gap,
                Step::Discard => {
                    self.load.release(memory);
                    continue;
                }
                Step::Recreated => {
                    self.load.release(memory);
                    return self.give_up_recreated(key, told);
                }
            };
            // The last of each run is enough to find the last of the batch.
            let run_ends = records.peek().is_none_or(|next| !next.is_of(key));
            let last = run_ends.then(|| LastRecord::of(&record));
            let fate = fate(&record);
            let from = gap.unwrap_or(record.offset);
            let range = *range.get_or_insert_with(|| self.batch.range(key, cursor.claim(), from));
            self.batch.push(range, record, fate);
            if let Some(last) = last {
                self.batch.note_last(range, last);
            }
            self.held += memory;
            self.opened.get_or_insert(now);
        }
    }

    /// Another topic of the same name: nothing of it may be taken for the continuation of what is stored.
    fn give_up_recreated(&mut self, key: &PartitionKey, told: &mut Vec<ToConsumer>) {
        if let Some(cursor) = self.cursors.remove(key) {
            told.push(ToConsumer::Recreated { key: key.clone(), epoch: cursor.claim().epoch });
        }
    }

    /// Takes what the writer says.
    pub fn hear(&mut self, report: WriterReport, told: &mut Vec<ToConsumer>) {
        match report {
            WriterReport::Recorded(recorded) => {
                if let Writer::Busy(connection) = self.writer {
                    self.writer = Writer::Idle(connection);
                }
                self.load.release(std::mem::take(&mut self.held_by_writer));
                self.most_records = (self.most_records * 2).min(self.settings.backlog_max_events);
                self.settle(recorded, told);
            }
            WriterReport::Disconnected => {
                if let Writer::Busy(_) = self.writer {
                    // Perhaps it was too much for one transaction's time: the same again would be so for ever.
                    self.most_records = (self.most_records / 2).max(SMALLEST_BATCH);
                }
                self.writer = Writer::Away;
                self.forget_everything();
                told.push(ToConsumer::LaneLost(self.number));
            }
            WriterReport::Connected(connection, _) => self.writer = Writer::Idle(connection),
        }
    }

    /// Whether the commit of the batch in hand succeeded is not known, so no cursor is right any more: each partition is
    /// claimed again, whose answer settles it, and read again from there.
    fn forget_everything(&mut self) {
        self.load.release(std::mem::take(&mut self.held_by_writer) + std::mem::take(&mut self.held));
        self.batch = Batch::default();
        self.opened = None;
        self.waiting = None;
        self.cursors.clear();
    }

    fn settle(&mut self, recorded: Recorded, told: &mut Vec<ToConsumer>) {
        for (key, epoch) in recorded.lost {
            if self.cursors.get(&key).is_some_and(|cursor| cursor.claim().epoch == epoch) {
                self.cursors.remove(&key);
                told.push(ToConsumer::Taken { key, epoch });
            }
        }
        told.extend(recorded.advanced.into_iter().map(ToConsumer::Committed));
    }

    /// The batch that is to be written now, with the number of the connection it is made for.
    pub fn next_batch(&mut self, now: Instant) -> Option<(u64, Batch)> {
        let Writer::Idle(connection) = self.writer else { return None };
        if !self.is_due(now) {
            return None;
        }
        self.writer = Writer::Busy(connection);
        self.opened = None;
        self.held_by_writer = std::mem::take(&mut self.held);
        let batch = self.batch.hand_over();
        if let Some((key, claim)) = self.waiting.take() {
            self.cursors.insert(key, Cursor::new(claim));
        }
        Some((connection, batch))
    }

    fn is_due(&self, now: Instant) -> bool {
        let full = self.batch.records() >= self.settings.max_events.min(self.most_records) || self.is_large();
        let ripe = self.opened.is_some_and(|opened| now.duration_since(opened) >= self.settings.linger);
        !self.batch.is_empty() && (full || ripe || self.waiting.is_some() || self.draining)
    }

    /// The lane's own bound too: beyond it nothing more would come, and the batch would wait for its time.
    fn is_large(&self) -> bool {
        self.held >= self.settings.max_bytes.min(self.settings.lane_bytes())
    }

    /// When the batch is to be written even if nothing more comes; none while there is none or it could not be written.
    #[must_use]
    pub fn ripens_at(&self) -> Option<Instant> {
        let idle = matches!(self.writer, Writer::Idle(_));
        self.opened.filter(|_| idle).map(|opened| opened + self.settings.linger)
    }

    /// From now on only what is in hand is written.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether there is anything that must be written or is being written.
    #[must_use]
    pub fn has_work(&self) -> bool {
        match self.writer {
            Writer::Away => false,
            Writer::Idle(_) => !self.batch.is_empty(),
            Writer::Busy(_) => true,
        }
    }
}
