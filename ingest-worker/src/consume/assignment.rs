use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::PartitionKey;

/// How a partition that Kafka has assigned to this worker stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// Waits for its claim: the n-th attempt of this worker, cancelled when Kafka takes the partition away meanwhile.
    Claiming(u64, CancellationToken),
    /// Is being read under this claim.
    Reading(Reading),
    /// Was claimed by another worker although Kafka still assigns it to this one: to be claimed again.
    Lost { again_at: Instant },
    /// Stands still for a reason that readiness names.
    Stopped,
}

/// A partition that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    /// The claim.
    pub epoch: i64,
    /// Its lane.
    pub lane: usize,
    /// First offset that has not been given to the lane.
    pub passed: i64,
    /// First offset not yet committed in PostgreSQL.
    pub committed: i64,
    /// Told to Kafka.
    pub told: i64,
    /// Timestamp of the last committed record, milliseconds of the Unix epoch.
    pub last_timestamp: Option<i64>,
    /// When nothing was left to read.
    pub caught_up_at: Option<Instant>,
}

/// Everything that Kafka has assigned to this worker.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    topics: HashMap<Arc<str>, BTreeMap<i32, Standing>>,
    /// How often in a row a partition was lost to another worker.
    losses: HashMap<PartitionKey, u32>,
}

impl Assignment {
    pub(super) fn insert(&mut self, key: PartitionKey, standing: Standing) {
        self.topics.entry(key.topic).or_default().insert(key.partition, standing);
    }

    pub(super) fn remove(&mut self, key: &PartitionKey) -> Option<Standing> {
        self.losses.remove(key);
        self.topics.get_mut(&key.topic)?.remove(&key.partition)
    }

    /// The shared copy of a topic's name.
    pub(super) fn name(&self, topic: &str) -> Option<Arc<str>> {
        self.topics.get_key_value(topic).map(|(name, _)| Arc::clone(name))
    }

    pub(super) fn get_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Standing> {
        self.topics.get_mut(topic)?.get_mut(&partition)
    }

    pub(super) fn reading(&mut self, topic: &str, partition: i32) -> Option<&mut Reading> {
        match self.get_mut(topic, partition)? {
            Standing::Reading(reading) => Some(reading),
            _ => None,
        }
    }

    pub(super) fn all_reading(&mut self) -> impl Iterator<Item = (PartitionKey, &mut Reading)> {
        self.iter_mut().filter_map(|(key, standing)| match standing {
            Standing::Reading(reading) => Some((key, reading)),
            _ => None,
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PartitionKey, &mut Standing)> {
        self.topics.iter_mut().flat_map(|(topic, partitions)| {
            partitions.iter_mut().map(move |(partition, standing)| {
                (PartitionKey { topic: Arc::clone(topic), partition: *partition }, standing)
            })
        })
    }

    /// Another worker holds it: a longer pause each time, so that two who both believe in their assignment do not fight.
    pub(super) fn lose(&mut self, key: &PartitionKey) {
        let losses = self.losses.entry(key.clone()).or_insert(0);
        let pause = Duration::from_millis(250) * 2_u32.pow((*losses).min(7));
        *losses += 1;
        self.insert(key.clone(), Standing::Lost { again_at: Instant::now() + pause });
    }

    /// It has been written: whoever was lost before is ours again.
    pub(super) fn keeps(&mut self, key: &PartitionKey) {
        self.losses.remove(key);
    }
}

/// A partition keeps its lane, so its order holds.
pub(super) fn lane_of(key: &PartitionKey, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % (lanes.max(1) as u64)).unwrap_or(0)
}
