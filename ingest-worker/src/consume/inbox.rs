use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::watch;

use super::assignment::{Reading, Standing, lane_of};
use super::consumer::Consumer;
use super::context::report;
use super::position::{self, Position};
use super::{PartitionKey, StartAt};
use crate::batch::{Claim, LaneInput};
use crate::commands::{Advanced, Backoff};
use crate::health::Health;
use crate::metrics::{self, RetryCause};
use crate::telemetry::Throttle;
use crate::write::{Backend, Claimed, Claims, WriteFailure};

/// Pause before Kafka is asked again for a partition's offsets.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A claim that fails is worth a line this often.
static CLAIMS_LINE: Throttle = Throttle::new(Duration::from_secs(30));

/// What lanes and claims tell the Kafka thread.
#[derive(Debug)]
pub enum ToConsumer {
    /// A partition's claim was made in the n-th attempt, or the partition has no row yet.
    Claimed(PartitionKey, u64, Claimed),
    /// The lane has renewed its claim after a reconnect: fetching starts anew.
    Reclaimed {
        /// Of this partition.
        key: PartitionKey,
        /// The new claim.
        claim: Claim,
    },
    /// Another worker has claimed the partition.
    Lost {
        /// The partition.
        key: PartitionKey,
        /// The claim that is no longer ours.
        epoch: i64,
    },
    /// What the topic holds is not what was stored.
    Stopped {
        /// The partition.
        key: PartitionKey,
        /// The claim under which it was seen.
        epoch: i64,
        /// For readiness.
        reason: String,
    },
    /// Committed in PostgreSQL.
    Committed(Advanced),
    /// PostgreSQL cannot be written for a reason of our own: the process must stop.
    Defect(String),
}

impl Consumer {
    /// Claims for as long as it takes, while Kafka assigns the partition to us. `starts` are written down before: where
    /// partitions of the topic begin of which nothing is stored.
    pub(super) fn start_claim(&mut self, key: PartitionKey, delay: Duration, starts: Vec<(i32, i64)>) {
        let cancel = self.stop.child_token();
        self.attempts += 1;
        let attempt = self.attempts;
        self.assignment.insert(key.clone(), Standing::Claiming(attempt, cancel.clone()));
        let Some(door) = self.lanes.get(lane_of(&key, self.lanes.len())) else { return };
        let (claims, backend, health) = (Arc::clone(&self.claims), door.backend.clone(), self.health.clone());
        let answers = self.answers.clone();
        let claim = async move {
            tokio::time::sleep(delay).await;
            let answer = match claim_patiently(&claims, &key, &starts, backend, &health).await {
                Ok(answer) => ToConsumer::Claimed(key, attempt, answer),
                Err(defect) => ToConsumer::Defect(defect),
            };
            // The thread has ended: so will the process.
            drop(answers.send(answer).await);
        };
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = claim => {}
                }
            },
            &self.runtime,
        );
    }

    pub(super) fn read_inbox(&mut self) -> anyhow::Result<()> {
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                ToConsumer::Claimed(key, attempt, answer) => {
                    // An earlier attempt's answer may come after Kafka has taken the partition away, or given it again.
                    let standing = self.assignment.get_mut(&key.topic, key.partition);
                    if matches!(standing, Some(Standing::Claiming(latest, _)) if *latest == attempt) {
                        match answer {
                            Claimed::Ours(claim) => self.read(key, &claim, true),
                            Claimed::Unknown { topic_is_known } => self.begin(key, topic_is_known),
                            // Only a claim of what was held before is refused.
                            Claimed::Taken => self.assignment.lose(&key),
                        }
                    }
                }
                ToConsumer::Reclaimed { key, claim } => {
                    let reading = self.assignment.reading(&key.topic, key.partition);
                    // A newer claim of ours may have come first.
                    if reading.is_some_and(|reading| reading.epoch < claim.epoch) {
                        self.unassign(&key);
                        self.read(key, &claim, false);
                    }
                }
                ToConsumer::Lost { key, epoch } => {
                    if self.is_reading(&key, epoch) {
                        self.unassign(&key);
                        self.assignment.lose(&key);
                        self.health.hold(about(&key), "another worker has claimed the partition");
                    }
                }
                ToConsumer::Stopped { key, epoch, reason } => {
                    if self.is_reading(&key, epoch) {
                        self.stop_partition(key, reason);
                    }
                }
                ToConsumer::Committed(Advanced { key, epoch, next_offset, last_timestamp }) => {
                    let reading = self.assignment.reading(&key.topic, key.partition);
                    if let Some(reading) = reading.filter(|reading| reading.epoch == epoch) {
                        reading.committed = next_offset;
                        reading.last_timestamp =
                            last_timestamp.map(|at| at.timestamp_millis()).or(reading.last_timestamp);
                        self.assignment.keeps(&key);
                    }
                }
                ToConsumer::Defect(reason) => anyhow::bail!("claims: {reason}"),
            }
        }
        Ok(())
    }

    fn is_reading(&mut self, key: &PartitionKey, epoch: i64) -> bool {
        self.assignment.reading(&key.topic, key.partition).is_some_and(|reading| reading.epoch == epoch)
    }

    /// Nothing is stored of this partition: writes down where it begins, and claims it then.
    fn begin(&mut self, key: PartitionKey, topic_is_known: bool) {
        let Some(appeared_later) = self.appeared_later(&key.topic) else {
            return self.start_claim(key, ASK_AGAIN, Vec::new());
        };
        let starts = if topic_is_known || appeared_later {
            position::watermarks(&self.consumer, &key).map(|(low, _)| vec![(key.partition, low)])
        } else {
            position::starts_of_topic(&self.consumer, &key.topic, self.settings.start_at)
        };
        match starts {
            Ok(starts) => self.start_claim(key, Duration::ZERO, starts),
            Err(error) => {
                tracing::debug!(%error, partition = %key, "offsets not known yet");
                self.start_claim(key, ASK_AGAIN, Vec::new());
            }
        }
    }

    /// With `latest`, only what was there when this worker started is left unread; none while Kafka has not said yet what
    /// was there.
    fn appeared_later(&self, topic: &str) -> Option<bool> {
        match self.settings.start_at {
            StartAt::Earliest => Some(false),
            StartAt::Latest => Some(!self.topics_at_start.as_ref()?.contains(topic)),
        }
    }

    /// Asks once what topics there are; until Kafka answers, again each time.
    pub(super) fn note_topics_at_start(&mut self) {
        if self.settings.start_at == StartAt::Latest && self.topics_at_start.is_none() {
            let metadata = self.consumer.fetch_metadata(None, ASK_AGAIN).ok();
            let names = |metadata: rdkafka::metadata::Metadata| {
                metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
            };
            self.topics_at_start = metadata.map(names);
        }
    }

    /// Starts fetching under a claim. `tell_lane`: the lane does not know the claim yet.
    fn read(&mut self, key: PartitionKey, claim: &Claim, tell_lane: bool) {
        let position = match position::watermarks(&self.consumer, &key) {
            Ok((low, high)) => position::of(claim, low, high),
            Err(error) => {
                tracing::debug!(%error, partition = %key, "offsets not known yet");
                return self.start_claim(key, ASK_AGAIN, Vec::new());
            }
        };
        let offset = match position {
            Position::At(offset) => offset,
            Position::Broken(reason) => return self.stop_partition(key, reason),
        };
        let lane = lane_of(&key, self.lanes.len());
        let Some(door) = self.lanes.get_mut(lane) else { return };
        if tell_lane {
            door.send(LaneInput::Claimed(key.clone(), claim.clone()));
        }
        let list = list_of(&key, Some(offset));
        report(self.consumer.incremental_assign(&list), "assign");
        // A flag of an earlier assignment stays with the partition.
        let flag = if door.paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        report(flag, "pause or resume");
        self.health.clear(&about(&key));
        let reading = Reading {
            epoch: claim.epoch,
            lane,
            passed: offset,
            committed: claim.next_offset,
            told: -1,
            last_timestamp: claim.last.and_then(|last| last.timestamp).map(|at| at.timestamp_millis()),
            caught_up_at: None,
        };
        tracing::debug!(partition = %key, epoch = claim.epoch, offset, "reading");
        self.assignment.insert(key, Standing::Reading(reading));
    }

    /// Stands still rather than skip anything.
    pub(super) fn stop_partition(&mut self, key: PartitionKey, reason: String) {
        tracing::error!(
            kafka.topic = &*key.topic,
            kafka.partition = key.partition,
            reason,
            "partition stopped"
        );
        self.unassign(&key);
        self.health.hold(about(&key), reason);
        if let Some(Standing::Reading(reading)) = self.assignment.remove(&key)
            && let Some(door) = self.lanes.get_mut(reading.lane)
        {
            door.send(LaneInput::Revoked(key.clone()));
        }
        self.assignment.insert(key, Standing::Stopped);
    }

    pub(super) fn unassign(&mut self, key: &PartitionKey) {
        if self.assignment.reading(&key.topic, key.partition).is_some() {
            report(self.consumer.incremental_unassign(&list_of(key, None)), "unassign");
        }
    }

    /// A partition that another worker claimed although Kafka assigns it to us is claimed again: the proof that it is ours
    /// is an offset commit that the group's coordinator accepts.
    pub(super) fn claim_what_was_lost(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .assignment
            .iter_mut()
            .filter_map(|(key, standing)| {
                matches!(standing, Standing::Lost { again_at } if *again_at <= now).then_some(key)
            })
            .collect();
        for key in due {
            let proof = self.consumer.committed_offsets(list_of(&key, None), ASK_AGAIN).and_then(|offsets| {
                let told = offsets.find_partition(&key.topic, key.partition).map(|element| element.offset());
                let offset = match told {
                    Some(Offset::Offset(offset)) => offset,
                    _ => 0,
                };
                self.consumer.commit(&list_of(&key, Some(offset)), CommitMode::Sync)
            });
            if proof.is_ok() {
                self.start_claim(key, Duration::ZERO, Vec::new());
            } else {
                self.assignment.lose(&key);
            }
        }
    }
}

/// Tries until PostgreSQL answers; whoever holds the row is named in readiness.
async fn claim_patiently(
    claims: &Claims,
    key: &PartitionKey,
    starts: &[(i32, i64)],
    mut backend: watch::Receiver<Option<Backend>>,
    health: &Health,
) -> Result<Claimed, String> {
    let mut backoff = Backoff::default();
    loop {
        let lane = match backend.wait_for(Option::is_some).await.map(|backend| backend.clone()) {
            Ok(Some(lane)) => lane,
            // The lane has ended, and the process with it: what is to come is the cancellation.
            Ok(None) | Err(_) => std::future::pending().await,
        };
        let claimed = async {
            if !starts.is_empty() {
                claims.begin(&key.topic, starts).await?;
            }
            claims.claim(key, &lane, None).await
        };
        match claimed.await {
            Ok(claim) => return Ok(claim),
            Err(WriteFailure::Defect(message)) => return Err(format!("{key}: {message}")),
            Err(WriteFailure::PredecessorAlive) => {
                metrics::retry(RetryCause::Claim);
                health.hold(about(key), "not claimed yet: another session holds its row in ingest_offsets");
            }
            Err(failure) => {
                metrics::retry(RetryCause::Claim);
                // All partitions suffer from the same: one line is enough.
                health.hold_quietly(about(key), format!("not claimed yet: {failure}"));
                if let Some(suppressed) = CLAIMS_LINE.pass() {
                    tracing::warn!(reason = %failure, suppressed, "partitions cannot be claimed yet");
                }
            }
        }
        backoff.wait().await;
    }
}

/// A partition's name in readiness.
pub(super) fn about(key: &PartitionKey) -> String {
    format!("partition {key}")
}

fn list_of(key: &PartitionKey, offset: Option<i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(&key.topic, key.partition);
    if let Some(offset) = offset {
        // Refused only for numbers that are no offset.
        drop(element.set_offset(Offset::Offset(offset)));
    }
    list
}
