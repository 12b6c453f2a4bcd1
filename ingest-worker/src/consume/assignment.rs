//! Everything that Kafka has assigned to this worker, and what is to be done when something happens to it. Pure: no I/O, no
//! clock; `model` drives it through millions of steps.
//!
//! Each assigned partition is in one of two states, and none has a way out of them but revocation: it is being claimed, by a
//! task that does not give up, or it is being read. So no partition is ever left lying.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PartitionKey;
use crate::batch::{Claim, LaneInput};
use crate::commands::Advanced;

/// Pause before a partition is claimed again that another worker has taken, doubled each time: two workers that both
/// believe in their assignment do not fight.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest is 32 s.
const MOST_DOUBLINGS: u32 = 7;
/// Pause after the Kafka client would not fetch a partition.
const NOT_FETCHED_PAUSE: Duration = Duration::from_secs(1);

/// How a partition that Kafka has assigned to this worker stands.
#[derive(Debug)]
enum Standing {
    /// Is being claimed, this is the n-th claim that was ordered; answers to earlier ones mean nothing any more.
    Claiming(u64),
    /// Is being read under a claim.
    Reading(Reading),
}

/// Under which claim a partition is read, and how far.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The claim.
    pub epoch: i64,
    /// First offset that has not been given to the lane.
    pub passed: i64,
}

/// How far a partition's commits have come, as far as this worker knows.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// First offset not yet committed in PostgreSQL; none before the first claim.
    pub committed: Option<i64>,
    /// Told to Kafka.
    pub told: Option<i64>,
    /// Timestamp of the last committed record, milliseconds of the Unix epoch.
    pub last_timestamp: Option<i64>,
    /// When nothing was left to read.
    pub caught_up_at: Option<Instant>,
}

/// An assigned partition.
#[derive(Debug)]
struct Partition {
    standing: Standing,
    lane: usize,
    progress: Progress,
    /// How often in a row it was lost to another worker.
    losses: u32,
}

/// A claim that is to be made, for as long as it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimOrder {
    /// Of this partition.
    pub key: PartitionKey,
    /// To be given back with the answer.
    pub attempt: u64,
    /// The lane that will write it.
    pub lane: usize,
    /// Why, and so on which terms.
    pub terms: Terms,
    /// To be waited for first.
    pub delay: Duration,
}

/// On which terms a partition is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terms {
    /// Kafka has assigned it: whoever holds it.
    Assigned,
    /// It was ours under this epoch: only if nobody has claimed it since.
    Held(i64),
    /// It was ours under this epoch, and another record lay where the last stored one was: likewise, and it is read from
    /// its beginning then.
    Recreated(i64),
    /// Another worker has claimed it although Kafka assigns it to us: only once Kafka's group coordinator says so too.
    Proven,
}

/// What the answer to a [`ClaimOrder`] says.
#[derive(Debug)]
pub enum Answer {
    /// The partition is ours, and is to be read from `offset`. `current`: the lane still writes through the session for
    /// which it was claimed.
    Ours {
        /// The claim.
        claim: Claim,
        /// Where fetching begins.
        offset: i64,
        /// Whether the lane still has that session.
        current: bool,
    },
    /// Another worker has claimed it since.
    Taken,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Claim it, and answer. Earlier orders for the same partition are void.
    Claim(ClaimOrder),
    /// No answer is awaited any more.
    Forget(PartitionKey),
    /// Fetch it from there, after whatever was fetched of it before.
    Fetch(PartitionKey, i64),
    /// Fetch it no more.
    StopFetching(PartitionKey),
    /// Give this to a lane.
    Lane(usize, LaneInput),
}

/// Everything that Kafka has assigned to this worker.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// Looked into for every record.
    topics: HashMap<Arc<str>, BTreeMap<i32, Partition>, foldhash::fast::RandomState>,
    lanes: usize,
    attempts: u64,
}

impl Assignment {
    /// Nothing yet, for so many lanes.
    pub(crate) fn new(lanes: usize) -> Self {
        Self { topics: HashMap::default(), lanes, attempts: 0 }
    }

    /// Kafka gives a partition.
    pub(crate) fn assigned(&mut self, key: PartitionKey, orders: &mut Vec<Order>) {
        // Should it be ours already, only the claim is new.
        if self.reading(&key.topic, key.partition).is_some() {
            orders.push(Order::StopFetching(key.clone()));
        }
        let lane = lane_of(&key, self.lanes);
        let standing = Standing::Claiming(0);
        let partition = Partition { standing, lane, progress: Progress::default(), losses: 0 };
        self.topics.entry(Arc::clone(&key.topic)).or_default().insert(key.partition, partition);
        self.claim(key, Terms::Assigned, Duration::ZERO, orders);
    }

    /// Kafka takes a partition; its client has stopped fetching it.
    pub(crate) fn revoked(&mut self, key: &PartitionKey, orders: &mut Vec<Order>) {
        let partitions = self.topics.get_mut(&key.topic);
        let Some(partition) = partitions.and_then(|partitions| partitions.remove(&key.partition)) else {
            return;
        };
        orders.push(Order::Forget(key.clone()));
        if matches!(partition.standing, Standing::Reading(_)) {
            orders.push(Order::Lane(partition.lane, LaneInput::Revoked(key.clone())));
        }
    }

    /// The answer to the n-th claim that was ordered.
    pub(crate) fn answered(
        &mut self,
        key: PartitionKey,
        attempt: u64,
        answer: Answer,
        orders: &mut Vec<Order>,
    ) {
        if !self.awaits(&key, attempt) {
            return;
        }
        let (claim, offset) = match answer {
            Answer::Ours { claim, offset, current: true } => (claim, offset),
            // A successor would look for a session that is no more.
            Answer::Ours { claim, current: false, .. } => {
                return self.claim(key, Terms::Held(claim.epoch), Duration::ZERO, orders);
            }
            Answer::Taken => return self.lose(key, orders),
        };
        let Some(partition) = self.partition(&key.topic, key.partition) else { return };
        partition.standing = Standing::Reading(Reading { epoch: claim.epoch, passed: offset });
        partition.progress.committed = Some(claim.next_offset);
        partition.progress.last_timestamp =
            claim.last.and_then(|last| last.timestamp).map(|at| at.timestamp_millis());
        let lane = partition.lane;
        orders.push(Order::Lane(lane, LaneInput::Claimed(key.clone(), claim)));
        orders.push(Order::Fetch(key, offset));
    }

    /// Whether this is the claim whose answer counts.
    pub(crate) fn awaits(&mut self, key: &PartitionKey, attempt: u64) -> bool {
        self.partition(&key.topic, key.partition).is_some_and(
            |partition| matches!(partition.standing, Standing::Claiming(latest) if latest == attempt),
        )
    }

    /// A lane has lost its connection, and with it all that it knew: whose commit succeeded shows when claimed again.
    pub(crate) fn lane_lost(&mut self, lane: usize, orders: &mut Vec<Order>) {
        self.claim_all_anew(|of| of == lane, orders);
    }

    /// A batch was written without this partition: its row is not as this claim left it.
    pub(crate) fn taken(&mut self, key: PartitionKey, epoch: i64, orders: &mut Vec<Order>) -> bool {
        let ours = self.reads_under(&key, epoch);
        if ours {
            orders.push(Order::StopFetching(key.clone()));
            self.lose(key, orders);
        }
        ours
    }

    /// The lane met another record where the last stored one was.
    pub(crate) fn recreated(&mut self, key: PartitionKey, epoch: i64, orders: &mut Vec<Order>) {
        if self.reads_under(&key, epoch) {
            self.claim_anew(key, Terms::Recreated(epoch), orders);
        }
    }

    /// Some partition's offset is not in its topic any more; the Kafka client does not say which, and reads it no further.
    /// Where the topics end now does not tell either: one that was recreated may have grown past the offset meanwhile. So
    /// all are claimed anew, and each compares its last stored record.
    pub(crate) fn out_of_range(&mut self, orders: &mut Vec<Order>) {
        self.claim_all_anew(|_| true, orders);
    }

    /// The Kafka client would not fetch it.
    pub(crate) fn not_fetched(&mut self, key: PartitionKey, orders: &mut Vec<Order>) {
        if let Some(epoch) = self.reading(&key.topic, key.partition).map(|reading| reading.epoch) {
            self.claim(key, Terms::Held(epoch), NOT_FETCHED_PAUSE, orders);
        }
    }

    /// Committed in PostgreSQL.
    pub(crate) fn committed(&mut self, advanced: &Advanced) {
        let Advanced { key, epoch, next_offset, last_timestamp } = advanced;
        if !self.reads_under(key, *epoch) {
            return;
        }
        if let Some(partition) = self.partition(&key.topic, key.partition) {
            partition.losses = 0;
            let progress = &mut partition.progress;
            progress.committed = Some(*next_offset);
            progress.last_timestamp =
                last_timestamp.map(|at| at.timestamp_millis()).or(progress.last_timestamp);
        }
    }

    /// All that are read, of these lanes.
    fn claim_all_anew(&mut self, of_lane: impl Fn(usize) -> bool, orders: &mut Vec<Order>) {
        let reading = self.all_reading().filter(|(_, _, lane)| of_lane(*lane));
        let reading: Vec<_> = reading.map(|(key, reading, _)| (key, reading.epoch)).collect();
        for (key, epoch) in reading {
            self.claim_anew(key, Terms::Held(epoch), orders);
        }
    }

    fn claim_anew(&mut self, key: PartitionKey, terms: Terms, orders: &mut Vec<Order>) {
        orders.push(Order::StopFetching(key.clone()));
        self.claim(key, terms, Duration::ZERO, orders);
    }

    fn lose(&mut self, key: PartitionKey, orders: &mut Vec<Order>) {
        let Some(partition) = self.partition(&key.topic, key.partition) else { return };
        let pause = FIRST_PAUSE * 2_u32.pow(partition.losses.min(MOST_DOUBLINGS));
        partition.losses += 1;
        self.claim(key, Terms::Proven, pause, orders);
    }

    fn claim(&mut self, key: PartitionKey, terms: Terms, delay: Duration, orders: &mut Vec<Order>) {
        self.attempts += 1;
        let attempt = self.attempts;
        if let Some(partition) = self.partition(&key.topic, key.partition) {
            partition.standing = Standing::Claiming(attempt);
            let lane = partition.lane;
            orders.push(Order::Claim(ClaimOrder { key, attempt, lane, terms, delay }));
        }
    }

    fn reads_under(&mut self, key: &PartitionKey, epoch: i64) -> bool {
        self.reading(&key.topic, key.partition).is_some_and(|reading| reading.epoch == epoch)
    }

    fn partition(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.get_mut(&partition)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (PartitionKey, &mut Partition)> {
        self.topics.iter_mut().flat_map(|(topic, partitions)| {
            partitions.iter_mut().map(move |(number, partition)| {
                (PartitionKey { topic: Arc::clone(topic), partition: *number }, partition)
            })
        })
    }

    /// All partitions.
    pub(crate) fn keys(&mut self) -> Vec<PartitionKey> {
        self.iter_mut().map(|(key, _)| key).collect()
    }

    /// First offset of a partition not yet committed in PostgreSQL, as far as this worker knows.
    pub(crate) fn committed_of(&mut self, key: &PartitionKey) -> Option<i64> {
        self.partition(&key.topic, key.partition)?.progress.committed
    }

    /// The shared copy of a topic's name.
    pub(crate) fn name(&self, topic: &str) -> Option<Arc<str>> {
        self.topics.get_key_value(topic).map(|(name, _)| Arc::clone(name))
    }

    /// Under which claim a partition is read, if it is, and by which lane it is written.
    pub(crate) fn reading_and_lane(&mut self, topic: &str, partition: i32) -> Option<(&mut Reading, usize)> {
        let partition = self.partition(topic, partition)?;
        match &mut partition.standing {
            Standing::Reading(reading) => Some((reading, partition.lane)),
            Standing::Claiming(_) => None,
        }
    }

    /// Under which claim a partition is read, if it is.
    pub(crate) fn reading(&mut self, topic: &str, partition: i32) -> Option<&mut Reading> {
        self.reading_and_lane(topic, partition).map(|(reading, _)| reading)
    }

    /// All partitions that are being read, with their lanes.
    pub(crate) fn all_reading(&mut self) -> impl Iterator<Item = (PartitionKey, &mut Reading, usize)> {
        self.iter_mut().filter_map(|(key, partition)| match &mut partition.standing {
            Standing::Reading(reading) => Some((key, reading, partition.lane)),
            Standing::Claiming(_) => None,
        })
    }

    /// How far each partition's commits have come, whether it is read at present or not.
    pub(crate) fn progress(&mut self) -> impl Iterator<Item = (PartitionKey, &mut Progress)> {
        self.iter_mut().map(|(key, partition)| (key, &mut partition.progress))
    }
}

/// A partition keeps its lane, so its order holds. The partitions of a topic take turns: they tend to hold as much as each
/// other, topics do not.
fn lane_of(key: &PartitionKey, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.topic.hash(&mut hasher);
    let turn = hasher.finish().wrapping_add(u64::from(key.partition.unsigned_abs()));
    usize::try_from(turn % (lanes.max(1) as u64)).unwrap_or(0)
}
