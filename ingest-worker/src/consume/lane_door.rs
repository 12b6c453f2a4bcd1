use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::{mpsc, watch};

use super::consumer::Consumer;
use super::context::report;
use crate::batch::{LaneInput, LaneLoad};
use crate::metrics;
use crate::write::Backend;

/// Inputs waiting for a lane, after which it counts as full whatever their bytes.
const LANE_INPUTS: usize = 256;

/// The Kafka thread's end of a lane.
pub struct LaneDoor {
    pub(super) inputs: mpsc::Sender<LaneInput>,
    pub(super) load: Arc<LaneLoad>,
    pub(super) backend: watch::Receiver<Option<Backend>>,
    /// Inputs that found the channel full.
    pub(super) waiting: VecDeque<LaneInput>,
    pub(super) paused: bool,
}

impl LaneDoor {
    /// `backend` tells which PostgreSQL session writes the lane, while there is one.
    #[must_use]
    pub fn new(
        inputs: mpsc::Sender<LaneInput>,
        load: Arc<LaneLoad>,
        backend: watch::Receiver<Option<Backend>>,
    ) -> Self {
        Self { inputs, load, backend, waiting: VecDeque::new(), paused: false }
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

    pub(super) fn push_on(&mut self) {
        while let Some(input) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(input)) = self.inputs.try_send(input) {
                self.waiting.push_front(input);
                return;
            }
        }
    }
}

impl Consumer {
    /// Lanes that are full are not fetched for, lanes with room are again.
    pub(super) fn pause_and_resume(&mut self) {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let mut held = 0;
        for (index, door) in self.lanes.iter_mut().enumerate() {
            let bytes = door.load.bytes();
            held += bytes;
            let full = bytes >= self.lane_bytes || !door.waiting.is_empty();
            // Pausing throws away what was fetched ahead, so it is not done for every batch.
            let room = bytes <= self.lane_bytes / 2 && door.waiting.is_empty();
            let change = if !door.paused && full {
                &mut pause
            } else if door.paused && room {
                &mut resume
            } else {
                continue;
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
