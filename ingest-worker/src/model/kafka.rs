use std::collections::VecDeque;

use super::{PARTITIONS, Worker};

/// A partition's log: at each offset a record, told by a number that is never used again, or nothing for us.
#[derive(Debug, Default)]
pub struct Log {
    pub low: i64,
    pub records: Vec<Option<u64>>,
    /// Counts deletions and truncations.
    pub generation: u64,
    /// Where another record lies than before: nothing but records are put there, since what is not there cannot be told.
    longest: usize,
}

/// Simulated Kafka: the logs, and who reads which according to the group's coordinator.
pub struct Kafka {
    pub logs: Vec<Log>,
    pub owners: Vec<Option<Worker>>,
    /// Rebalances that a worker has not heard of yet.
    pub news: Vec<VecDeque<News>>,
    produced: u64,
    /// Partitions that were lost by a worker that has not heard of it.
    late: Vec<(Worker, usize)>,
}

/// What the client calls back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Assigned(usize),
    Revoked(usize),
}

impl Log {
    pub fn high(&self) -> i64 {
        i64::try_from(self.records.len()).unwrap()
    }

    pub fn at(&self, offset: i64) -> Option<u64> {
        let index = usize::try_from(offset).ok()?;
        self.records.get(index).copied().flatten().filter(|_| offset >= self.low)
    }
}

impl Kafka {
    pub fn new(workers: usize) -> Self {
        Self {
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            owners: vec![None; PARTITIONS],
            news: vec![VecDeque::new(); workers],
            produced: 0,
            late: Vec::new(),
        }
    }

    pub fn produce(&mut self, partition: usize, rng: &mut fastrand::Rng) {
        for _ in 0..rng.u8(1..12) {
            self.produced += 1;
            // Markers of transactions, aborted and compacted records.
            let log = &mut self.logs[partition];
            let solid = log.records.len() < log.longest;
            log.records.push((solid || rng.u8(0..6) != 0).then_some(self.produced));
        }
    }

    /// A reader that stands still is overtaken.
    pub fn pass_retention(&mut self, partition: usize, rng: &mut fastrand::Rng) {
        let log = &mut self.logs[partition];
        log.low = rng.i64(log.low..=log.high());
    }

    /// Deleted and made again, or cut short: whoever reads it is told, as Kafka does when a topic goes. What it held may
    /// already have been replaced when it is read again.
    pub fn shorten(&mut self, partition: usize, rng: &mut fastrand::Rng) {
        let log = &mut self.logs[partition];
        let kept = match rng.u8(0..3) {
            0 => 0,
            1 => rng.usize(0..=log.records.len()),
            _ => log.records.len().saturating_sub(rng.usize(0..4)),
        };
        log.longest = log.longest.max(log.records.len());
        log.records.truncate(kept);
        log.low = log.low.min(log.high());
        log.generation += 1;
        for _ in 0..rng.u8(0..4) {
            self.produce(partition, rng);
        }
        self.take_away(partition);
    }

    /// The owner is told, and whoever has it next gets it only then.
    pub fn take_away(&mut self, partition: usize) {
        if let Some(owner) = self.owners[partition].take() {
            self.news[owner].push_back(News::Revoked(partition));
        }
    }

    /// The coordinator takes it from a worker that does not hear of it yet: another may have it meanwhile.
    pub fn expire(&mut self, partition: usize) {
        if let Some(owner) = self.owners[partition].take() {
            self.late.push((owner, partition));
        }
    }

    /// One of those whose session has expired hears of it.
    pub fn tell_late(&mut self) {
        if let Some((worker, partition)) = self.late.pop() {
            self.news[worker].push_back(News::Revoked(partition));
        }
    }

    /// Gives a partition that nobody has; the former owner may not have heard yet if its session has expired.
    pub fn give(&mut self, partition: usize, worker: Worker) {
        // It would not be given back to somebody who thinks that it still has it.
        if self.owners[partition].is_none() && !self.late.contains(&(worker, partition)) {
            self.owners[partition] = Some(worker);
            self.news[worker].push_back(News::Assigned(partition));
        }
    }

    /// A worker that was killed: a new process comes in its place and knows of nothing.
    pub fn expel(&mut self, worker: Worker) {
        self.news[worker].clear();
        self.late.retain(|(late, _)| *late != worker);
        for owner in &mut self.owners {
            owner.take_if(|owner| *owner == worker);
        }
    }
}
