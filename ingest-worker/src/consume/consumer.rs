use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assignment::{Assignment, Order};
use super::claiming::Claimant;
use super::context::{Context, KAFKA, Rebalanced};
use super::inbox::ToConsumer;
use super::lane_door::LaneDoor;
use super::stall::Stalls;
use super::{KafkaRecord, KafkaSettings, PartitionKey, StartAt};
use crate::batch::LaneInput;
use crate::fail_point::{self, FailPoint};
use crate::health::Health;
use crate::telemetry::{Throttle, kafka_error};
use crate::write::Claims;

/// How long one poll waits for a record; also how late an answer from PostgreSQL may be noticed.
const POLL: Duration = Duration::from_millis(20);
/// Before a full lane is looked at again: short beside the tenths of a second that its batch takes to be written.
const MOMENT: Duration = Duration::from_millis(5);
/// Records of one round, over all lanes.
const ROUND: usize = 1_000;
/// Bytes after which a round ends early, so that large records cannot fill the memory in one.
const ROUND_BYTES: usize = 1 << 20;
/// A topic that does not exist is worth a line this often.
const MISSING_TOPICS_INTERVAL: Duration = Duration::from_secs(60);

/// How long Kafka may take to list its topics, while the poll thread waits.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// Name of missing rights in readiness.
const RIGHTS: &str = "kafka rights";

/// Reads Kafka on a thread of its own, which never waits for PostgreSQL.
pub struct Consumer {
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) settings: KafkaSettings,
    pub(super) lanes: Vec<LaneDoor>,
    pub(super) lane_bytes: usize,
    pub(super) inbox: mpsc::Receiver<ToConsumer>,
    pub(super) health: Health,
    pub(super) assignment: Assignment,
    pub(super) orders: Vec<Order>,
    pub(super) claimant: Arc<Claimant>,
    pub(super) stalls: Stalls,
    pub(super) claims_under_way: HashMap<PartitionKey, CancellationToken>,
    /// Kafka has refused something for want of rights, and nothing has come since.
    pub(super) denied: bool,
    pub(super) missing_topics_line: Throttle,
    pub(super) told_at: Instant,
    pub(super) stop: CancellationToken,
}

impl Consumer {
    /// Subscribes. Kafka being away is no error: the client goes on trying, and readiness says so.
    ///
    /// # Errors
    /// A property that the client does not take.
    #[expect(clippy::too_many_arguments, reason = "the pieces that `run` has wired up, once")]
    pub fn new(
        settings: KafkaSettings,
        lanes: Vec<LaneDoor>,
        lane_bytes: usize,
        (answers, inbox): (mpsc::Sender<ToConsumer>, mpsc::Receiver<ToConsumer>),
        claims: Arc<Claims>,
        tasks: TaskTracker,
        runtime: tokio::runtime::Handle,
        health: Health,
        stop: CancellationToken,
    ) -> KafkaResult<Self> {
        health.hold_quietly(KAFKA, "connecting");
        let consumer = Arc::new(subscribe(&settings, &health)?);
        let claimant = Claimant {
            claims,
            consumer: Arc::clone(&consumer),
            start_at: settings.start_at,
            backends: lanes.iter().map(|door| door.backend.clone()).collect(),
            answers,
            tasks,
            runtime,
            stop: stop.clone(),
            beginning: tokio::sync::Mutex::default(),
            topics_at_start: OnceLock::new(),
        };
        Ok(Self {
            consumer,
            settings,
            assignment: Assignment::new(lanes.len()),
            lanes,
            lane_bytes,
            inbox,
            health,
            orders: Vec::new(),
            claimant: Arc::new(claimant),
            stalls: Stalls::default(),
            claims_under_way: HashMap::new(),
            denied: false,
            missing_topics_line: Throttle::new(MISSING_TOPICS_INTERVAL),
            told_at: Instant::now(),
            stop,
        })
    }

    /// Runs until `stop`, then on without fetching until the lanes have ended, so that what they commit can still be told
    /// to Kafka. The group is left by [`Consumer::close`].
    ///
    /// # Errors
    /// A defect: the process must stop.
    pub fn run(&mut self) -> anyhow::Result<()> {
        while !self.stop.is_cancelled() {
            self.note_topics_at_start();
            self.read_inbox()?;
            self.lanes.iter_mut().for_each(LaneDoor::push_on);
            self.pause_and_resume();
            if self.lanes.iter().any(LaneDoor::is_waited_for) {
                std::thread::sleep(MOMENT);
            } else {
                self.poll_round();
            }
            self.follow_rebalances();
            self.tell()?;
        }
        self.pause_all();
        while self.lanes.iter().any(|lane| !lane.inputs.is_closed()) {
            self.read_inbox()?;
            // Serves the group; what is still delivered is read again by the next worker.
            drop(self.consumer.poll(POLL));
            self.follow_rebalances();
        }
        self.read_inbox()?;
        if self.consumer.context().is_reachable() {
            self.tell_now(CommitMode::Sync);
        }
        Ok(())
    }

    /// Leaves the group and closes the client, and waits for former ones to be closed.
    pub fn close(self) {
        let Self { consumer, claimant, stalls, .. } = self;
        drop(claimant);
        close(consumer);
        for former in stalls.formers {
            drop(former.join()); // Had it panicked, that would have been told.
        }
    }

    fn poll_round(&mut self) {
        let mut chunks: Vec<Vec<KafkaRecord>> = self.lanes.iter().map(|_| Vec::new()).collect();
        let mut ends = HashSet::new();
        let mut wait = POLL;
        let mut bytes = 0;
        for _ in 0..ROUND {
            let polled = self.consumer.poll(wait);
            wait = Duration::ZERO;
            match polled {
                None => {
                    self.stalls.ran_dry = true;
                    break;
                }
                Some(Ok(message)) => {
                    if std::mem::take(&mut self.denied) {
                        self.health.clear(RIGHTS);
                    }
                    let taken = take(&mut self.assignment, &mut self.lanes, &message);
                    if let Some((lane, record)) = taken
                        && let Some(chunk) = chunks.get_mut(lane)
                    {
                        bytes += record.bytes();
                        chunk.push(record);
                    }
                    if bytes >= ROUND_BYTES {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.insert(partition);
                }
                Some(Err(error)) => {
                    let error = error.to_owned();
                    self.on_error(&error);
                    break;
                }
            }
        }
        for (door, chunk) in self.lanes.iter_mut().zip(chunks) {
            if !chunk.is_empty() {
                FailPoint::AfterPoll.pass_on_thread();
                door.load.add(chunk.iter().map(KafkaRecord::memory).sum());
                door.send(LaneInput::Records(chunk));
            }
        }
        if !ends.is_empty() {
            self.pass_ends(&ends);
        }
    }

    /// The client stands at the end of some partition with such a number (it does not say of which topic): where it has
    /// passed markers after the last record, the lane learns how far.
    fn pass_ends(&mut self, numbers: &HashSet<i32>) {
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements().iter().filter(|element| numbers.contains(&element.partition())) {
            let Offset::Offset(position) = element.offset() else { continue };
            let reading = self.assignment.reading_and_lane(element.topic(), element.partition());
            let Some((reading, lane)) = reading else { continue };
            if reading.passed < position {
                reading.passed = position;
                let epoch = reading.epoch;
                let key = PartitionKey { topic: Arc::from(element.topic()), partition: element.partition() };
                if let Some(door) = self.lanes.get_mut(lane) {
                    door.send(LaneInput::End { key, epoch, position });
                }
            }
        }
    }

    fn on_error(&mut self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.assignment.out_of_range(&mut self.orders);
                self.carry_out();
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                if let Some(repeats) = self.missing_topics_line.pass() {
                    tracing::warn!(
                        repeats,
                        topics = ?self.missing_topics(),
                        "topics do not exist yet, or none matches; they are read from their beginning once they do"
                    );
                }
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
                self.denied = true;
                self.health.hold(RIGHTS, error.to_string());
            }
            _ => kafka_error(error, "consumer"),
        }
    }

    /// Topics that are to be read and that Kafka does not have; all of them if it does not answer.
    fn missing_topics(&self) -> Vec<&str> {
        let mut missing = self.settings.topics.subscription();
        if let Ok(metadata) = self.consumer.fetch_metadata(None, METADATA_TIMEOUT) {
            let known: HashSet<&str> =
                metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name).collect();
            missing.retain(|topic| !known.contains(topic));
        }
        missing
    }

    fn follow_rebalances(&mut self) {
        for rebalanced in self.consumer.context().take_rebalances() {
            match rebalanced {
                Rebalanced::Assigned(mut keys) => {
                    keys.retain(|key| self.settings.topics.admits(&key.topic));
                    tracing::info!(partitions = keys.len(), "assigned");
                    keys.into_iter().for_each(|key| self.assignment.assigned(key, &mut self.orders));
                }
                Rebalanced::Revoked(keys) => {
                    tracing::info!(partitions = keys.len(), "revoked");
                    keys.iter().for_each(|key| self.assignment.revoked(key, &mut self.orders));
                }
            }
        }
        self.carry_out();
    }

    /// Asks once what topics there are; until Kafka answers, again each time.
    fn note_topics_at_start(&self) {
        let noted = &self.claimant.topics_at_start;
        if self.settings.start_at == StartAt::Latest
            && noted.get().is_none()
            && let Ok(metadata) = self.consumer.fetch_metadata(None, METADATA_TIMEOUT)
        {
            let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
            // Nobody else sets it.
            drop(noted.set(names.collect()));
        }
    }
}

/// Leaves the group and closes the client, once nobody asks it anything any more. That may take long: not on a thread of
/// the runtime.
pub(super) fn close(consumer: Arc<BaseConsumer<Context>>) {
    while Arc::strong_count(&consumer) > 1 {
        std::thread::sleep(POLL);
    }
}

/// A client that is a member of the group, or soon will be.
pub(super) fn subscribe(settings: &KafkaSettings, health: &Health) -> KafkaResult<BaseConsumer<Context>> {
    let consumer: BaseConsumer<Context> =
        settings.client_config().create_with_context(Context::new(health.clone()))?;
    match fail_point::feigned_assignment() {
        None => consumer.subscribe(&settings.topics.subscription())?,
        Some(keys) => consumer.context().feign(Rebalanced::Assigned(keys)),
    }
    Ok(consumer)
}

/// The record with its claim, and its lane; none if the partition was just taken away.
fn take(
    assignment: &mut Assignment,
    lanes: &mut [LaneDoor],
    message: &BorrowedMessage<'_>,
) -> Option<(usize, KafkaRecord)> {
    let topic = assignment.name(message.topic())?;
    let (reading, lane) = assignment.reading_and_lane(&topic, message.partition())?;
    reading.passed = message.offset() + 1;
    Some((lane, lanes.get_mut(lane)?.copier.copy(message, topic, reading.epoch)))
}
