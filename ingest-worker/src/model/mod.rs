//! The pipeline without I/O, driven through millions of steps: the real assignment, lanes, cursors and batches of three
//! workers, among simulated tasks, a simulated Kafka and a simulated PostgreSQL that do their worst in an order that a seed
//! decides. No offset is skipped or written twice, order is kept, and once the faults stop everything is read to its end.

mod kafka;
mod lane;
mod postgres;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use kafka::Kafka;
use postgres::{Postgres, Row};
use worker::Process;

const PARTITIONS: usize = 4;
const LANES: usize = 2;
const WORKERS: usize = 3;
/// Turns of the whole model within which everything must be read once the faults have stopped.
const RECOVERY: usize = 2_000;

/// Index of a worker.
type Worker = usize;
/// A PostgreSQL session.
type Session = i32;

struct World {
    rng: fastrand::Rng,
    now: Instant,
    topic: Arc<str>,
    kafka: Kafka,
    postgres: Postgres,
    workers: Vec<Process>,
}

impl World {
    fn new(seed: u64) -> Self {
        let topic: Arc<str> = Arc::from("t");
        let mut postgres = Postgres::default();
        for partition in 0..PARTITIONS {
            postgres.rows.insert(partition, Row { incarnation: 1, ..Row::default() });
        }
        postgres.back_up();
        Self {
            rng: fastrand::Rng::with_seed(seed),
            now: Instant::now(),
            kafka: Kafka::new(WORKERS),
            postgres,
            workers: (0..WORKERS).map(|number| Process::new(number, &topic)).collect(),
            topic,
        }
    }

    /// One thing happens somewhere.
    fn step(&mut self, faults: bool) {
        self.now += Duration::from_millis(self.rng.u64(0..4));
        let worker = self.rng.usize(0..WORKERS);
        let partition = self.rng.usize(0..PARTITIONS);
        match self.rng.u8(0..40) {
            0..=7 => self.workers[worker].poll(&mut self.kafka, &mut self.rng),
            8..=25 => self.step_lane(worker, faults),
            26..=33 => {
                let (kafka, postgres) = (&self.kafka, &mut self.postgres);
                self.workers[worker].step_claim(kafka, postgres, faults, &mut self.rng);
            }
            34 | 35 => self.kafka.give(partition, worker),
            39 if self.rng.u8(0..8) == 0 => self.kafka.tell_late(),
            36 if faults => self.kafka.produce(partition, &mut self.rng),
            37 if faults && self.rng.u8(0..4) == 0 => self.kafka.take_away(partition),
            38 if faults && self.rng.u8(0..8) == 0 => self.happen(worker, partition),
            _ => self.end_a_transaction(),
        }
    }

    fn step_lane(&mut self, worker: Worker, faults: bool) {
        let lane = self.rng.usize(0..LANES);
        let world = (&self.kafka, &mut self.postgres);
        self.workers[worker].step_lane(lane, self.now, world, faults, &mut self.rng);
    }

    /// A fault of the rarer kind.
    fn happen(&mut self, worker: Worker, partition: usize) {
        match self.rng.u8(0..8) {
            0 | 1 => {
                self.kafka.expel(worker);
                self.workers[worker] = Process::new(worker, &self.topic);
            }
            // Its session with the group's coordinator expires, and it does not know for a while.
            2 | 3 => self.kafka.expire(partition),
            4 => self.kafka.shorten(partition, &mut self.rng),
            5 => self.kafka.pass_retention(partition, &mut self.rng),
            6 => self.postgres.back_up(),
            _ => self.postgres.restore(),
        }
    }

    /// A transaction whose client is gone comes to its end, one way or the other.
    fn end_a_transaction(&mut self) {
        let live: Vec<_> = self.workers.iter().flat_map(Process::sessions).collect();
        let orphan = self.postgres.open.iter().map(|open| open.session).find(|one| !live.contains(one));
        if let Some(session) = orphan {
            if self.rng.bool() {
                drop(self.postgres.commit(session, &self.kafka));
            }
            self.postgres.end(session);
        }
    }

    /// Goes on without faults until nothing is amiss; what still is, if that takes too long.
    fn recover(&mut self, amiss: impl Fn(&Self) -> Option<String>) -> Option<String> {
        for _ in 0..RECOVERY {
            amiss(self)?;
            for _ in 0..50 {
                self.step(false);
            }
        }
        amiss(self)
    }

    /// Every row names the session of its owner's lane: the one that a successor may have to end.
    fn misnamed(&self) -> Option<String> {
        let is_misnamed = |(partition, row): &(&usize, &Row)| {
            let owner = self.kafka.owners[**partition].map(|owner| &self.workers[owner]);
            !owner.is_some_and(|owner| owner.backends().any(|session| session == row.session))
        };
        self.postgres.rows.iter().find(is_misnamed).map(|found| format!("{found:?}"))
    }

    /// Every record that is in Kafka is stored, every row stands at its log's end, and no lane holds memory: one that did
    /// would in the end be fetched for no more.
    fn unread(&self) -> Option<String> {
        let held: usize = self.workers.iter().map(Process::held_bytes).sum();
        if held > 0 {
            return Some(format!("lanes hold {held} bytes"));
        }
        let rows = self.postgres.rows.iter().zip(&self.kafka.logs);
        for ((partition, row), log) in rows {
            if row.next != log.high() {
                return Some(format!("partition {partition}: {row:?}, the log ends at {}", log.high()));
            }
            let missing = (log.low..log.high())
                .find(|offset| log.at(*offset).is_some_and(|number| !self.postgres.stored.contains(&number)));
            if let Some(offset) = missing {
                return Some(format!("partition {partition}: {row:?}, the record at {offset} is not stored"));
            }
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_is_read_once_and_in_order(seed in any::<u64>(), steps in 0_usize..6_000) {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step(true);
        }
        prop_assert_eq!(world.recover(World::unread), None);
        // A claim that came late is noticed when there is something to write.
        for partition in 0..PARTITIONS {
            world.kafka.produce(partition, &mut world.rng);
        }
        prop_assert_eq!(world.recover(|world| world.unread().or_else(|| world.misnamed())), None);
    }
}
