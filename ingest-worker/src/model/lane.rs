use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;

use super::kafka::Kafka;
use super::postgres::Postgres;
use super::{LANES, Session};
use crate::batch::{Batch, BatchSettings, Fate, Lane, LaneInput, LaneLoad};
use crate::commands::WriterReport;
use crate::consume::{KafkaRecord, ToConsumer};
use crate::decode::{Rejection, RejectionClass};
use crate::write::Backend;

/// A real lane, and a writer that does what the real one would.
pub struct SimulatedLane {
    lane: Lane,
    pub load: Arc<LaneLoad>,
    pub inputs: VecDeque<LaneInput>,
    reports: VecDeque<WriterReport>,
    /// The lane's session, as claims see it.
    pub backend: Option<Session>,
    writer: Option<Session>,
    connections: u64,
    batch: Option<(u64, Batch)>,
    under_way: bool,
}

impl SimulatedLane {
    pub fn new(number: usize) -> Self {
        let settings = BatchSettings {
            lanes: LANES,
            max_events: 4,
            backlog_max_events: 8,
            max_bytes: 1 << 20,
            linger: Duration::from_millis(20),
            memory_budget: 1 << 20,
        };
        let load = Arc::new(LaneLoad::default());
        Self {
            lane: Lane::new(number, settings, Arc::clone(&load)),
            load,
            inputs: VecDeque::new(),
            reports: VecDeque::new(),
            backend: None,
            writer: None,
            connections: 0,
            batch: None,
            under_way: false,
        }
    }

    /// What the lane's task does when it wakes.
    pub fn step(&mut self, now: Instant, told: &mut Vec<ToConsumer>, rng: &mut fastrand::Rng) {
        if let Some(report) = self.reports.pop_front() {
            match &report {
                WriterReport::Connected(_, backend) => self.backend = Some(session_of(backend)),
                WriterReport::Disconnected => self.backend = None,
                WriterReport::Recorded(_) => {}
            }
            self.lane.hear(report, told);
        } else if self.lane.takes_more()
            && rng.u8(0..4) != 0
            && let Some(input) = self.inputs.pop_front()
        {
            self.lane.take(input, now, fate, told);
        }
        if let Some(batch) = self.lane.next_batch(now) {
            assert!(self.batch.replace(batch).is_none(), "one batch at a time");
        }
    }

    /// What the writer does: connect, begin, commit, or meet a fault on the way.
    pub fn step_writer(
        &mut self,
        (kafka, postgres): (&Kafka, &mut Postgres),
        faults: bool,
        rng: &mut fastrand::Rng,
    ) {
        let Some(session) = self.writer else {
            let session = postgres.connect();
            self.connections += 1;
            self.writer = Some(session);
            return self.reports.push_back(WriterReport::Connected(self.connections, backend_of(session)));
        };
        let fault = faults && rng.u8(0..24) == 0;
        if postgres.dead.contains(&session) || (fault && !self.under_way) {
            return self.disconnect();
        }
        if self.under_way {
            if fault {
                // The outcome is unknown: committed, or rolled back, or open for a while and then either.
                match rng.u8(0..3) {
                    0 => drop(postgres.commit(session, kafka)),
                    1 => postgres.end(session),
                    _ => {}
                }
                return self.disconnect();
            }
            if rng.bool() {
                let recorded = postgres.commit(session, kafka).expect("its transaction is open");
                self.under_way = false;
                self.reports.push_back(WriterReport::Recorded(recorded));
            }
        } else if let Some((connection, batch)) = self.batch.take()
            && connection == self.connections
        {
            match postgres.begin(session, batch) {
                None => self.under_way = true,
                Some(batch) => self.batch = Some((connection, batch)),
            }
        }
    }

    fn disconnect(&mut self) {
        self.writer = None;
        self.under_way = false;
        // What was handed to the lost connection is not written by the next.
        self.reports.push_back(WriterReport::Disconnected);
    }

    pub fn held_bytes(&self) -> usize {
        self.load.bytes()
    }

    /// The process is gone; what its sessions had begun may stay for a while.
    pub fn session(&self) -> Option<Session> {
        self.writer
    }
}

/// Every record is kept whole, so that the books can be checked record by record.
fn fate(_: &KafkaRecord) -> Fate {
    Fate::Rejected(Rejection::new(RejectionClass::Empty, ""))
}

fn backend_of(session: Session) -> Backend {
    Backend { pid: session, start: DateTime::UNIX_EPOCH }
}

fn session_of(backend: &Backend) -> Session {
    backend.pid
}
