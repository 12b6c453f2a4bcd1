use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::PartitionKey;
use crate::health::Health;
use crate::telemetry::{kafka_error, kafka_log};

/// Name of Kafka's part in readiness.
pub(super) const KAFKA: &str = "kafka";

/// What a rebalance changed. Cooperative rebalances hand over a delta, often an empty one.
#[derive(Debug)]
pub(super) enum Rebalanced {
    Assigned(Vec<PartitionKey>),
    Revoked(Vec<PartitionKey>),
}

/// The Kafka client calls back on the thread that polls; what it says is kept here until that thread looks.
pub(super) struct Context {
    health: Health,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    rebalances: Vec<Rebalanced>,
    ends: HashMap<PartitionKey, i64>,
    reachable: bool,
    retired: bool,
    tell_again: bool,
}

impl Context {
    pub(super) fn new(health: Health) -> Self {
        Self { health, shared: Mutex::default() }
    }

    pub(super) fn take_rebalances(&self) -> Vec<Rebalanced> {
        std::mem::take(&mut self.shared().rebalances)
    }

    /// As if Kafka's group had said so: for tests with two workers that both believe to own the same partitions.
    pub(super) fn feign(&self, rebalanced: Rebalanced) {
        self.shared().rebalances.push(rebalanced);
    }

    /// The partition's end as a reader of committed transactions sees it, if it is known.
    pub(super) fn end_of(&self, key: &PartitionKey) -> Option<i64> {
        self.shared().ends.get(key).copied()
    }

    /// Whether a broker answered of late.
    pub(super) fn is_reachable(&self) -> bool {
        self.shared().reachable
    }

    /// Another client has taken its client's place: from now on it has nothing to say about Kafka.
    pub(super) fn retire(&self) {
        self.shared().retired = true;
    }

    /// Whether Kafka has refused an offset commit since this was last asked.
    pub(super) fn takes_telling_again(&self) -> bool {
        std::mem::take(&mut self.shared().tell_again)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        if self.shared().retired {
            return;
        }
        // With nothing to fetch, the one open connection may be that of the bootstrap address.
        let reachable = statistics.brokers.values().any(|broker| broker.state == "UP");
        if reachable {
            self.health.clear(KAFKA);
        } else {
            self.health.hold(KAFKA, "no broker answers");
        }
        let mut shared = self.shared();
        shared.reachable = reachable;
        shared.ends.clear();
        for topic in statistics.topics.into_values() {
            let name: Arc<str> = Arc::from(topic.topic);
            let known = topic.partitions.into_values().filter(|partition| partition.partition >= 0);
            for partition in known {
                let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                if end >= 0 {
                    let key = PartitionKey { topic: Arc::clone(&name), partition: partition.partition };
                    shared.ends.insert(key, end);
                }
            }
        }
    }

    fn log(&self, level: RDKafkaLogLevel, kind: &str, line: &str) {
        kafka_log(level, kind, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if self.shared().retired {
            return;
        }
        match error.rdkafka_error_code() {
            // An event of every day, and a missing topic: the consumer says so in its own words.
            Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::UnknownTopicOrPartition) => {}
            _ => kafka_error(&error, reason),
        }
    }
}

impl ConsumerContext for Context {
    /// Nothing is fetched yet on assignment: a partition is assigned for real, at the offset that PostgreSQL knows, once
    /// it has been claimed. So this thread never waits for the database.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let keys: Vec<PartitionKey> = list
            .elements()
            .iter()
            .map(|element| PartitionKey { topic: Arc::from(element.topic()), partition: element.partition() })
            .collect();
        match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                report(consumer.incremental_assign(&TopicPartitionList::new()), "assign");
                self.shared().rebalances.push(Rebalanced::Assigned(keys));
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                report(consumer.incremental_unassign(&really_assigned(consumer, &keys)), "unassign");
                self.shared().rebalances.push(Rebalanced::Revoked(keys));
            }
            other => tracing::warn!(error = ?other, "rebalance failed"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        // PostgreSQL is the authority; Kafka's own offsets only serve lag tools, and are told again next time.
        if let Err(error) = result {
            tracing::debug!(%error, "offsets not told to kafka");
            self.shared().tell_again = true;
        }
    }
}

/// Only what was assigned can be unassigned; the others were still waiting for their claim.
fn really_assigned(consumer: &BaseConsumer<Context>, keys: &[PartitionKey]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    let Ok(assignment) = consumer.assignment() else { return list };
    let assigned: HashSet<(String, i32)> = assignment
        .elements()
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect();
    for key in keys.iter().filter(|key| assigned.contains(&(key.topic.to_string(), key.partition))) {
        list.add_partition(&key.topic, key.partition);
    }
    list
}

pub(super) fn report(result: KafkaResult<()>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, what, "kafka client refused");
    }
}
