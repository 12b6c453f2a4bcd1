use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::Session;
use super::kafka::{Kafka, Log};
use crate::batch::{Batch, Claim, LastRecord, PartitionRange};
use crate::commands::{Advanced, Recorded};
use crate::consume::PartitionKey;

/// A row of `ingest_offsets`.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub incarnation: i32,
    pub epoch: i64,
    pub start: i64,
    pub next: i64,
    pub last: Option<LastRecord>,
    pub session: Session,
}

/// A transaction that holds its rows.
#[derive(Debug)]
pub struct Transaction {
    pub session: Session,
    batch: Batch,
    owned: HashSet<usize>,
}

/// Simulated PostgreSQL: the offsets, and which records are stored.
#[derive(Debug, Default)]
pub struct Postgres {
    pub rows: BTreeMap<usize, Row>,
    pub stored: HashSet<u64>,
    /// In no order; each holds its rows until it ends.
    pub open: Vec<Transaction>,
    /// Sessions that have ended and whose client may not know it yet.
    pub dead: HashSet<Session>,
    sessions: Session,
    /// Goes on whatever is restored, and is never the same twice.
    time: i64,
    backup: Option<(BTreeMap<usize, Row>, HashSet<u64>)>,
}

/// A row is locked by another session's transaction.
pub struct Locked;

impl Postgres {
    pub fn connect(&mut self) -> Session {
        self.sessions += 1;
        self.sessions
    }

    fn is_locked(&self, partition: usize) -> bool {
        let holds = |transaction: &Transaction| {
            transaction.ranges().any(|range| usize::try_from(range.key.partition).unwrap() == partition)
        };
        self.open.iter().any(holds)
    }

    /// As `claim.sql`: the answer waits for whoever holds the row.
    pub fn claim(
        &mut self,
        partition: usize,
        session: Session,
        held: Option<i64>,
    ) -> Result<Option<Claim>, Locked> {
        if self.is_locked(partition) {
            return Err(Locked);
        }
        let Some(row) = self.rows.get_mut(&partition) else { return Ok(None) };
        if held.is_some_and(|epoch| epoch != row.epoch) {
            return Ok(None);
        }
        self.time += 1;
        row.epoch = self.time;
        row.session = session;
        Ok(Some(row.claim()))
    }

    /// As the two statements for topics that have changed: only under the claim. `anew`: as another incarnation.
    pub fn go_on_at(
        &mut self,
        partition: usize,
        claim: &Claim,
        low: i64,
        anew: bool,
    ) -> Result<Option<Claim>, Locked> {
        if self.is_locked(partition) {
            return Err(Locked);
        }
        let row = self.rows.get_mut(&partition).unwrap();
        if row.epoch != claim.epoch {
            return Ok(None);
        }
        assert!(anew || low > row.next, "retention goes forward");
        self.time += 1;
        row.epoch = self.time;
        row.next = low;
        if anew {
            row.incarnation += 1;
            row.start = low;
            row.last = None;
        }
        Ok(Some(row.claim()))
    }

    /// Lock and compare. The batch comes back if somebody else holds one of the rows: later again.
    pub fn begin(&mut self, session: Session, batch: Batch) -> Option<Batch> {
        let locked = |range: &PartitionRange| self.is_locked(usize::try_from(range.key.partition).unwrap());
        if batch.partitions().iter().any(locked) {
            return Some(batch);
        }
        let fits = |range: &PartitionRange| {
            let row = self.rows.get(&usize::try_from(range.key.partition).unwrap());
            row.is_some_and(|row| row.epoch == range.claim.epoch && row.next == range.from)
        };
        let ranges = batch.partitions().iter().enumerate();
        let owned = ranges.filter(|(_, range)| fits(range)).map(|(index, _)| index).collect();
        self.open.push(Transaction { session, batch, owned });
        None
    }

    /// All of it or nothing. The books are checked as the table's constraint and more would.
    pub fn commit(&mut self, session: Session, kafka: &Kafka) -> Option<Recorded> {
        let index = self.open.iter().position(|transaction| transaction.session == session)?;
        let Transaction { batch, owned, .. } = self.open.swap_remove(index);
        let mut recorded = Recorded::default();
        for (index, range) in batch.partitions().iter().enumerate() {
            if owned.contains(&index) {
                self.store(&batch, index, range, kafka);
                recorded.advanced.push(Advanced {
                    key: range.key.clone(),
                    epoch: range.claim.epoch,
                    next_offset: range.next,
                    last_timestamp: None,
                });
            } else {
                recorded.lost.push((range.key.clone(), range.claim.epoch));
            }
        }
        Some(recorded)
    }

    fn store(&mut self, batch: &Batch, index: usize, range: &PartitionRange, kafka: &Kafka) {
        let partition = usize::try_from(range.key.partition).unwrap();
        let row = self.rows.get_mut(&partition).unwrap();
        assert_eq!((row.epoch, row.next), (range.claim.epoch, range.from), "the lock kept it");
        let records = batch.refused().iter().filter(|refused| refused.partition == index);
        let (mut at, mut gaps) = (range.from, 0);
        for record in records.map(|refused| &refused.record) {
            assert!(record.offset >= at, "none comes twice, and their order is kept");
            assert_eq!(record.epoch, range.claim.epoch, "each was fetched under this claim");
            let (number, generation) = read(record.value.as_deref().unwrap());
            self.stored.insert(number);
            check_gap(at..record.offset, &kafka.logs[partition], generation);
            gaps += record.offset - at;
            at = record.offset + 1;
        }
        assert!(range.next >= at);
        assert_eq!(gaps + range.next - at, range.totals.gaps, "what was no record is a gap");
        row.next = range.next;
        row.last = range.last.or(row.last);
    }

    /// What was frozen, or lost its client, holds its rows no more.
    pub fn end(&mut self, session: Session) {
        self.open.retain(|transaction| transaction.session != session);
        self.dead.insert(session);
    }

    pub fn holder(&self, partition: usize) -> Option<Session> {
        let holds = |transaction: &&Transaction| {
            transaction.ranges().any(|range| usize::try_from(range.key.partition).unwrap() == partition)
        };
        self.open.iter().find(holds).map(|transaction| transaction.session)
    }

    pub fn back_up(&mut self) {
        self.backup = Some((self.rows.clone(), self.stored.clone()));
    }

    /// Goes back to the older copy; every session ends.
    pub fn restore(&mut self) {
        if let Some((rows, stored)) = self.backup.clone() {
            (self.rows, self.stored) = (rows, stored);
            self.open.clear();
            self.dead.extend(1..=self.sessions);
        }
    }
}

impl Transaction {
    fn ranges(&self) -> impl Iterator<Item = &PartitionRange> {
        let ranges = self.batch.partitions().iter().enumerate();
        ranges.filter(|(index, _)| self.owned.contains(index)).map(|(_, range)| range)
    }
}

impl Row {
    fn claim(&self) -> Claim {
        Claim {
            epoch: self.epoch,
            incarnation: self.incarnation,
            start_offset: self.start,
            next_offset: self.next,
            last: self.last,
        }
    }
}

/// A hole that is booked must be one, as far as the log is still what was read.
fn check_gap(mut gap: Range<i64>, log: &Log, generation: u64) {
    let record = gap.find(|offset| log.at(*offset).is_some());
    assert!(record.is_none() || log.generation != generation, "a record is booked as a gap");
}

/// A record's number and the generation of its log, as its value has them.
fn read(value: &[u8]) -> (u64, u64) {
    let part =
        |range: std::ops::Range<usize>| u64::from_be_bytes(value.get(range).unwrap().try_into().unwrap());
    (part(0..8), part(8..16))
}

/// See [`read`].
pub fn value(number: u64, generation: u64) -> Vec<u8> {
    [number.to_be_bytes(), generation.to_be_bytes()].concat()
}

/// The name of a partition of the model's one topic.
pub fn key(topic: &std::sync::Arc<str>, partition: usize) -> PartitionKey {
    PartitionKey { topic: std::sync::Arc::clone(topic), partition: i32::try_from(partition).unwrap() }
}
