use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assignment::{ClaimOrder, Terms};
use super::context::Context;
use super::inbox::ToConsumer;
use super::list::list_of;
use super::position::{self, Position};
use super::stall::FIRST_PATIENCE;
use super::{PartitionKey, StartAt};
use crate::batch::Claim;
use crate::commands::Backoff;
use crate::metrics::{self, Discontinuity, RetryCause};
use crate::telemetry::Throttle;
use crate::write::{Backend, Claimed, Claims, WriteFailure};

/// Pause before Kafka is asked again for a partition's offsets.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Longest pause before Kafka is asked again whether a partition is ours.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);
/// How long an assignment is believed: a claim that comes later, of a process that was frozen or waited for PostgreSQL, may
/// come after the group has given the partition to another.
const BELIEVED: Duration = Duration::from_secs(5);
/// A claim that takes longer is told to readiness.
const SLOW: Duration = Duration::from_secs(2);
/// A claim that fails is worth a line this often.
static CLAIMS_LINE: Throttle = Throttle::new(Duration::from_secs(30));

/// Claims partitions, each in a task of its own that ends with an answer or by being cancelled, and asks Kafka what the
/// thread that polls must not wait for.
pub(super) struct Claimant {
    pub claims: Arc<Claims>,
    pub consumer: Arc<BaseConsumer<Context>>,
    pub start_at: StartAt,
    /// Which PostgreSQL session writes each lane, while there is one.
    pub backends: Vec<watch::Receiver<Option<Backend>>>,
    pub answers: mpsc::Sender<ToConsumer>,
    pub tasks: TaskTracker,
    pub runtime: tokio::runtime::Handle,
    pub stop: CancellationToken,
    /// Held by who writes down where a topic's partitions begin: one question for all of them is enough.
    pub beginning: Mutex<()>,
    /// With `latest`: what there was when this worker started.
    pub topics_at_start: OnceLock<HashSet<String>>,
}

/// A partition that is ours, and from where it is to be read.
#[derive(Debug)]
pub struct Settled {
    /// The claim.
    pub claim: Claim,
    /// Where fetching begins.
    pub offset: i64,
    /// The lane's session for which it was claimed.
    pub backend: Backend,
}

/// Why a claim ends without the partition.
enum Ended {
    /// Another worker has claimed it.
    Taken,
    /// PostgreSQL cannot be written for a reason of our own.
    Defect(String),
}

impl Claimant {
    /// Claims for as long as it takes; cancel the token when it is not wanted any more.
    pub(super) fn start(self: &Arc<Self>, order: ClaimOrder) -> CancellationToken {
        let claimant = Arc::clone(self);
        self.spawn(async move {
            let settled = match claimant.settle_audibly(&order).await {
                Ok(settled) => Some(settled),
                Err(Ended::Taken) => None,
                Err(Ended::Defect(message)) => {
                    return claimant.tell(ToConsumer::Defect(format!("{}: {message}", order.key))).await;
                }
            };
            let ClaimOrder { key, attempt, .. } = order;
            claimant.tell(ToConsumer::Claimed { key, attempt, settled }).await;
        })
    }

    /// Runs until it is cancelled or the process stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> CancellationToken {
        let cancel = self.stop.child_token();
        let cancelled = cancel.clone();
        self.tasks.spawn_on(
            async move {
                cancelled.run_until_cancelled(task).await;
            },
            &self.runtime,
        );
        cancel
    }

    /// The same for another client.
    pub(super) fn with_client(&self, consumer: Arc<BaseConsumer<Context>>) -> Self {
        Self {
            claims: Arc::clone(&self.claims),
            consumer,
            start_at: self.start_at,
            backends: self.backends.clone(),
            answers: self.answers.clone(),
            tasks: self.tasks.clone(),
            runtime: self.runtime.clone(),
            stop: self.stop.clone(),
            beginning: Mutex::default(),
            topics_at_start: self.topics_at_start.clone(),
        }
    }

    async fn settle_audibly(&self, order: &ClaimOrder) -> Result<Settled, Ended> {
        let mut settle = std::pin::pin!(self.settle(order));
        if let Ok(settled) = tokio::time::timeout(SLOW, &mut settle).await {
            return settled;
        }
        let (key, attempt) = (order.key.clone(), order.attempt);
        self.tell(ToConsumer::Slow { key, attempt }).await;
        settle.await
    }

    async fn settle(&self, order: &ClaimOrder) -> Result<Settled, Ended> {
        if order.terms == Terms::Proven {
            self.say(order, "another worker has claimed the partition", false).await;
        }
        tokio::time::sleep(order.delay).await;
        if order.terms == Terms::Proven {
            self.prove(order).await;
        }
        let (mut claim, backend) = self.claim_row(order).await?;
        if let Terms::Recreated(_) = order.terms {
            let (low, _) = self.watermarks(order).await;
            claim = self.go_on_at(order, &claim, low, Discontinuity::NewIncarnation).await?;
        }
        loop {
            let (low, high) = self.watermarks(order).await;
            match position::of(&claim, low, high) {
                Position::At(offset) => return Ok(Settled { claim, offset, backend }),
                Position::RetentionPassed { low } => {
                    claim = self.go_on_at(order, &claim, low, Discontinuity::Retention).await?;
                }
                Position::Another { .. } => {
                    // A broker that has just taken over may not know its end yet: once more before it is believed.
                    tokio::time::sleep(ASK_AGAIN).await;
                    let (low, high) = self.watermarks(order).await;
                    if let Position::Another { low } = position::of(&claim, low, high) {
                        claim = self.go_on_at(order, &claim, low, Discontinuity::NewIncarnation).await?;
                    }
                }
            }
        }
    }

    async fn claim_row(&self, order: &ClaimOrder) -> Result<(Claim, Backend), Ended> {
        let held = match order.terms {
            Terms::Held(epoch) | Terms::Recreated(epoch) => Some(epoch),
            Terms::Assigned | Terms::Proven => None,
        };
        let mut patience = Patience::with(self, order);
        let mut believed_since = Instant::now();
        loop {
            let backend = self.backend(order.lane).await;
            if held.is_none() && believed_since.elapsed() > BELIEVED {
                self.prove(order).await;
                believed_since = Instant::now();
            }
            match self.claims.claim(&order.key, &backend, held).await {
                Ok(Claimed::Ours(claim)) => return Ok((claim, backend)),
                Ok(Claimed::Taken) => return Err(Ended::Taken),
                Ok(Claimed::Unknown { .. }) => self.begin(order, &mut patience).await?,
                Err(failure) => patience.after(failure).await?,
            }
        }
    }

    /// Writes down where the topic's partitions begin of which nothing is stored.
    async fn begin(&self, order: &ClaimOrder, patience: &mut Patience<'_>) -> Result<(), Ended> {
        let _turn = self.beginning.lock().await;
        let backend = self.backend(order.lane).await;
        let known = match self.claims.claim(&order.key, &backend, Some(NO_EPOCH)).await {
            Ok(Claimed::Unknown { topic_is_known }) => topic_is_known,
            // Another partition's task has written it meanwhile.
            Ok(Claimed::Ours(_) | Claimed::Taken) => return Ok(()),
            Err(failure) => return patience.after(failure).await,
        };
        let key = order.key.clone();
        let starts = if known || self.appeared_later(order).await {
            let (low, _) = self.watermarks(order).await;
            vec![(key.partition, low)]
        } else {
            let start_at = self.start_at;
            self.ask_patiently(order, move |consumer| {
                position::starts_of_topic(consumer, &key.topic, start_at)
            })
            .await
        };
        match self.claims.begin(&order.key.topic, &starts).await {
            Ok(()) => Ok(()),
            Err(failure) => patience.after(failure).await,
        }
    }

    /// Whether the topic is read from its beginning whatever the settings say: it appeared after this worker started, or its
    /// row is gone though this worker held it, as it is when PostgreSQL was restored from an older copy.
    async fn appeared_later(&self, order: &ClaimOrder) -> bool {
        if order.terms != Terms::Assigned {
            return true;
        }
        if self.start_at == StartAt::Earliest {
            return false;
        }
        loop {
            if let Some(topics) = self.topics_at_start.get() {
                return !topics.contains(&*order.key.topic);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Writes down that what is stored ends here, and why, and that reading goes on at `low`.
    async fn go_on_at(
        &self,
        order: &ClaimOrder,
        claim: &Claim,
        low: i64,
        why: Discontinuity,
    ) -> Result<Claim, Ended> {
        let mut patience = Patience::with(self, order);
        loop {
            let claimed = match why {
                Discontinuity::NewIncarnation => self.claims.begin_incarnation(&order.key, claim, low).await,
                Discontinuity::Retention => self.claims.pass_retention(&order.key, claim, low).await,
            };
            match claimed {
                Ok(claim) => return claim.ok_or(Ended::Taken),
                Err(failure) => patience.after(failure).await?,
            }
        }
    }

    async fn backend(&self, lane: usize) -> Backend {
        if let Some(backend) = self.backends.get(lane) {
            let backend = backend.clone().wait_for(Option::is_some).await.map(|backend| backend.clone());
            if let Ok(Some(backend)) = backend {
                return backend;
            }
        }
        // The lane has ended, and the process with it: what is to come is the cancellation.
        std::future::pending().await
    }

    /// The proof that a partition is ours is an offset commit that the group's coordinator accepts: it refuses one of any
    /// generation but the present, and no two members of that have the same partition.
    async fn prove(&self, order: &ClaimOrder) {
        let mut pause = order.delay.max(ASK_AGAIN / 4);
        loop {
            let key = order.key.clone();
            match self.ask(move |consumer| tell_again(consumer, &key)).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, partition = %order.key, "not proven to be ours"),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::time::sleep(pause).await;
        }
    }

    async fn watermarks(&self, order: &ClaimOrder) -> (i64, i64) {
        let key = order.key.clone();
        self.ask_patiently(order, move |consumer| position::watermarks(consumer, &key)).await
    }

    async fn ask_patiently<T: Send + 'static>(
        &self,
        order: &ClaimOrder,
        question: impl Fn(&BaseConsumer<Context>) -> KafkaResult<T> + Clone + Send + 'static,
    ) -> T {
        let asked_at = Instant::now();
        loop {
            match self.ask(question.clone()).await {
                Ok(answer) => return answer,
                Err(error) => {
                    self.say(order, &format!("kafka does not tell its offsets: {error}"), true).await
                }
            }
            if asked_at.elapsed() >= FIRST_PATIENCE {
                let (key, attempt) = (order.key.clone(), order.attempt);
                self.tell(ToConsumer::Unanswered { key, attempt }).await;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Asks on a thread that may wait.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Context>) -> KafkaResult<T> + Send + 'static,
    ) -> KafkaResult<T> {
        let consumer = Arc::clone(&self.consumer);
        match self.runtime.spawn_blocking(move || question(&consumer)).await {
            Ok(answer) => answer,
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        }
    }

    /// Why it takes long, for readiness; the Kafka thread knows whether anybody still waits for it.
    async fn say(&self, order: &ClaimOrder, reason: &str, quietly: bool) {
        let (key, attempt, reason) = (order.key.clone(), order.attempt, reason.to_owned());
        self.tell(ToConsumer::Waiting { key, attempt, reason, quietly }).await;
    }

    pub(super) async fn tell(&self, message: ToConsumer) {
        // The thread has ended: so will the process.
        drop(self.answers.send(message).await);
    }
}

/// No claim has it: a question, not a claim.
const NO_EPOCH: i64 = -1;

/// Waits after a failure of PostgreSQL, longer each time, and says what it was.
struct Patience<'c> {
    claimant: &'c Claimant,
    order: &'c ClaimOrder,
    backoff: Backoff,
}

impl<'c> Patience<'c> {
    fn with(claimant: &'c Claimant, order: &'c ClaimOrder) -> Self {
        Self { claimant, order, backoff: Backoff::default() }
    }

    async fn after(&mut self, failure: WriteFailure) -> Result<(), Ended> {
        metrics::retry(RetryCause::Claim);
        match failure {
            WriteFailure::Defect(message) => return Err(Ended::Defect(message)),
            WriteFailure::PredecessorAlive => {
                let reason = "not claimed yet: another session holds its row in ingest_offsets";
                self.claimant.say(self.order, reason, false).await;
            }
            failure => {
                // All partitions suffer from the same: one line is enough.
                self.claimant.say(self.order, &format!("not claimed yet: {failure}"), true).await;
                if let Some(suppressed) = CLAIMS_LINE.pass() {
                    tracing::warn!(reason = %failure, suppressed, "partitions cannot be claimed yet");
                }
            }
        }
        self.backoff.wait().await;
        Ok(())
    }
}

/// Commits once more what Kafka has as the partition's offset. Blocks.
fn tell_again(consumer: &BaseConsumer<Context>, key: &PartitionKey) -> KafkaResult<()> {
    let offsets = consumer.committed_offsets(list_of(key, None), ASK_AGAIN)?;
    let told = offsets.find_partition(&key.topic, key.partition).map(|element| element.offset());
    let offset = match told {
        Some(Offset::Offset(offset)) => offset,
        _ => 0,
    };
    consumer.commit(&list_of(key, Some(offset)), CommitMode::Sync)
}
