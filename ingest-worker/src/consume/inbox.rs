use rdkafka::consumer::Consumer as _;

use super::PartitionKey;
use super::assignment::{Answer, Order};
use super::claiming::Settled;
use super::consumer::Consumer;
use super::context::report;
use super::list::list_of;
use crate::commands::Advanced;
use crate::metrics;

/// What lanes and claims tell the Kafka thread.
#[derive(Debug)]
pub enum ToConsumer {
    /// The n-th claim that was ordered has come to its end; none if another worker has the partition.
    Claimed {
        /// Of this partition.
        key: PartitionKey,
        /// The n.
        attempt: u64,
        /// What it brought.
        settled: Option<Settled>,
    },
    /// Why the n-th claim is not at its end yet.
    Waiting {
        /// Of this partition.
        key: PartitionKey,
        /// The n.
        attempt: u64,
        /// For readiness.
        reason: String,
        /// Without a line in the log.
        quietly: bool,
    },
    /// The n-th claim takes long; nobody knows why yet.
    Slow {
        /// Of this partition.
        key: PartitionKey,
        /// The n.
        attempt: u64,
    },
    /// Another worker has claimed the partition, or PostgreSQL has gone back to an older copy.
    Taken {
        /// The partition.
        key: PartitionKey,
        /// The claim that is no longer ours.
        epoch: i64,
    },
    /// Another record lies where the last stored one was.
    Recreated {
        /// In this partition.
        key: PartitionKey,
        /// The claim under which it was seen.
        epoch: i64,
    },
    /// Kafka has records of a partition beyond where its fetching has come to a halt.
    Stalled {
        /// The partition.
        key: PartitionKey,
        /// The claim under which it is read.
        epoch: i64,
        /// What would have been next.
        passed: i64,
        /// Where Kafka's records end.
        high: i64,
    },
    /// Kafka has not told the offsets that the n-th claim needs, for long.
    Unanswered {
        /// Of this partition.
        key: PartitionKey,
        /// The n.
        attempt: u64,
    },
    /// This lane's connection is lost, and what it had in hand.
    LaneLost(usize),
    /// Committed in PostgreSQL.
    Committed(Advanced),
    /// PostgreSQL cannot be written for a reason of our own: the process must stop.
    Defect(String),
}

impl Consumer {
    pub(super) fn read_inbox(&mut self) -> anyhow::Result<()> {
        while let Ok(message) = self.inbox.try_recv() {
            let (assignment, orders) = (&mut self.assignment, &mut self.orders);
            match message {
                ToConsumer::Claimed { key, attempt, settled } => {
                    let answer = settled.map_or(Answer::Taken, |settled| {
                        let Settled { claim, offset, backend } = settled;
                        let current = self.lanes.iter().any(|door| door.writes_through(&backend));
                        Answer::Ours { claim, offset, current }
                    });
                    assignment.answered(key, attempt, answer, orders);
                }
                ToConsumer::Waiting { key, attempt, reason, quietly } => {
                    if assignment.awaits(&key, attempt) {
                        if quietly {
                            self.health.hold_quietly(about(&key), reason);
                        } else {
                            self.health.hold(about(&key), reason);
                        }
                    }
                }
                ToConsumer::Slow { key, attempt } => {
                    if assignment.awaits(&key, attempt) && !self.health.is_held(&about(&key)) {
                        self.health.hold_quietly(about(&key), "not claimed yet: no answer so far");
                    }
                }
                ToConsumer::Taken { key, epoch } => {
                    if assignment.taken(key, epoch, orders) {
                        metrics::fenced(1);
                    }
                }
                ToConsumer::Recreated { key, epoch } => assignment.recreated(key, epoch, orders),
                ToConsumer::Stalled { key, epoch, passed, high } => {
                    self.stalled(&key, epoch, passed, high)?
                }
                ToConsumer::Unanswered { key, attempt } => self.unanswered(&key, attempt)?,
                ToConsumer::LaneLost(lane) => assignment.lane_lost(lane, orders),
                ToConsumer::Committed(advanced) => assignment.committed(&advanced),
                ToConsumer::Defect(reason) => anyhow::bail!("claims: {reason}"),
            }
            self.carry_out();
        }
        Ok(())
    }

    /// Does what the assignment has ordered.
    pub(super) fn carry_out(&mut self) {
        while !self.orders.is_empty() {
            for order in std::mem::take(&mut self.orders) {
                match order {
                    Order::Claim(order) => {
                        let key = order.key.clone();
                        self.end_claim(&key);
                        self.claims_under_way.insert(key, self.claimant.start(order));
                    }
                    Order::Forget(key) => {
                        self.end_claim(&key);
                        self.health.clear(&about(&key));
                        metrics::forget_partition(&key.topic, key.partition);
                    }
                    Order::Fetch(key, offset) => self.fetch(key, offset),
                    Order::StopFetching(key) => {
                        report(self.consumer.incremental_unassign(&list_of(&key, None)), "unassign");
                    }
                    Order::Lane(lane, input) => {
                        if let Some(door) = self.lanes.get_mut(lane) {
                            door.send(input);
                        }
                    }
                }
            }
        }
    }

    fn end_claim(&mut self, key: &PartitionKey) {
        if let Some(cancel) = self.claims_under_way.remove(key) {
            cancel.cancel();
        }
    }

    fn fetch(&mut self, key: PartitionKey, offset: i64) {
        let list = list_of(&key, Some(offset));
        if let Err(error) = self.consumer.incremental_assign(&list) {
            self.health.hold(about(&key), format!("the kafka client does not fetch it: {error}"));
            return self.assignment.not_fetched(key, &mut self.orders);
        }
        let reading = self.assignment.reading_and_lane(&key.topic, key.partition);
        let paused = reading.and_then(|(_, lane)| self.lanes.get(lane)).is_some_and(|door| door.paused);
        // A flag of an earlier assignment stays with the partition.
        let flag = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        report(flag, "pause or resume");
        self.end_claim(&key);
        self.health.clear(&about(&key));
        tracing::debug!(partition = %key, offset, "reading");
    }
}

/// A partition's name in readiness.
pub(super) fn about(key: &PartitionKey) -> String {
    format!("partition {key}")
}
