use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::{mpsc, watch};

use super::consumer::Consumer;
use super::context::report;
use super::copy::Copier;
use crate::batch::{LaneInput, LaneLoad};
use crate::metrics;
use crate::write::Backend;

/// Inputs waiting for a lane, after which it counts as full whatever their bytes.
const LANE_INPUTS: usize = 256;
/// A lane that is full for longer is not fetched for, while one that is full for shorter is waited for: pausing throws away
/// what was fetched ahead, waiting keeps everybody else waiting too.
const PATIENCE: Duration = Duration::from_secs(1);

/// The Kafka thread's end of a lane.
pub struct LaneDoor {
    pub(super) inputs: mpsc::Sender<LaneInput>,
    pub(super) load: Arc<LaneLoad>,
    pub(super) backend: watch::Receiver<Option<Backend>>,
    /// Inputs that found the channel full.
    pub(super) waiting: VecDeque<LaneInput>,
    pub(super) paused: bool,
    pub(super) copier: Copier,
    full_since: Option<Instant>,
}

impl LaneDoor {
    /// `backend` tells which PostgreSQL session writes the lane, while there is one.
    #[must_use]
    pub fn new(
        inputs: mpsc::Sender<LaneInput>,
        load: Arc<LaneLoad>,
        backend: watch::Receiver<Option<Backend>>,
    ) -> Self {
        Self {
            inputs,
            load,
            backend,
            waiting: VecDeque::new(),
            paused: false,
            copier: Copier::default(),
            full_since: None,
        }
    }

    /// The capacity that a lane's channel should have.
    pub const CAPACITY: usize = LANE_INPUTS;

    /// Whether this PostgreSQL session is the lane's at present.
    pub(super) fn writes_through(&self, backend: &Backend) -> bool {
        self.backend.borrow().as_ref() == Some(backend)
    }

    pub(super) fn send(&mut self, input: LaneInput) {
        self.waiting.push_back(input);
        self.push_on();
    }

    /// Whether it has no room at the moment, and may soon.
    pub(super) fn is_waited_for(&self) -> bool {
        self.full_since.is_some() && !self.paused
    }

    /// Whether it is to be paused or resumed, if so.
    fn turns(&mut self, lane_bytes: usize) -> Option<Turn> {
        let bytes = self.load.bytes();
        if bytes >= lane_bytes || !self.waiting.is_empty() {
            let since = *self.full_since.get_or_insert_with(Instant::now);
            return (!self.paused && since.elapsed() >= PATIENCE).then_some(Turn::Pause);
        }
        self.full_since = None;
        // Not for every batch.
        (self.paused && bytes <= lane_bytes / 2).then_some(Turn::Resume)
    }

    pub(super) fn push_on(&mut self) {
        while let Some(input) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(input)) = self.inputs.try_send(input) {
                self.waiting.push_front(input);
                return;
            }
        }
    }
}

enum Turn {
    Pause,
    Resume,
}

impl Consumer {
    /// Lanes that stay full are not fetched for, lanes with room are again.
    pub(super) fn pause_and_resume(&mut self) {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let mut held = 0;
        for (index, door) in self.lanes.iter_mut().enumerate() {
            held += door.load.bytes();
            let change = match door.turns(self.lane_bytes) {
                Some(Turn::Pause) => &mut pause,
                Some(Turn::Resume) => &mut resume,
                None => continue,
            };
            door.paused = !door.paused;
            for (key, _, lane) in self.assignment.all_reading() {
                if lane == index {
                    change.add_partition(&key.topic, key.partition);
                }
            }
        }
        metrics::buffered_bytes(held);
        if pause.count() > 0 {
            report(self.consumer.pause(&pause), "pause");
        }
        if resume.count() > 0 {
            report(self.consumer.resume(&resume), "resume");
        }
    }

    pub(super) fn pause_all(&mut self) {
        let mut list = TopicPartitionList::new();
        self.assignment.all_reading().for_each(|(key, ..)| {
            list.add_partition(&key.topic, key.partition);
        });
        report(self.consumer.pause(&list), "pause");
    }
}
