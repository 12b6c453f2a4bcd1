//! What librdkafka does not get out of by itself, and a new client, which knows nothing better, does: a partition that is
//! not fetched although Kafka has records of it, since a broker that came back with an older copy of its data is taken for
//! outdated; and a client without a broker, since one that was stopping named nobody, not even itself (its issue 5301).

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::claiming::Claimant;
use super::consumer::{Consumer, close, subscribe};
use super::{PartitionKey, ToConsumer, position};

/// How long a partition may stand still, or no broker answer, before there is a new client for it; doubled each time, since
/// a slow network or a broker that is away looks the same.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);
/// Former clients that may still be closing when another one joins them.
const FORMERS: usize = 3;

/// Where each partition that is read stands, and since when.
pub(super) struct Stalls {
    seen: HashMap<PartitionKey, Still>,
    looked_at: Instant,
    /// Whether the client once had nothing to give since `looked_at`. In a backlog it has, and some partitions come long
    /// after others: it fills its queue from the first ones again and again.
    pub(super) ran_dry: bool,
    patience: Duration,
    renewed_at: Option<Instant>,
    isolation: Isolation,
    pub(super) formers: Vec<JoinHandle<()>>,
}

/// A partition that stands still.
#[derive(Clone, Copy)]
struct Still {
    passed: i64,
    since: Instant,
    /// How long of it the client had nothing else to give.
    idle: Duration,
}

/// How long no broker has answered, and how long that may go on.
struct Isolation {
    since: Option<Instant>,
    patience: Duration,
}

impl Default for Stalls {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            looked_at: Instant::now(),
            ran_dry: false,
            patience: FIRST_PATIENCE,
            renewed_at: None,
            isolation: Isolation::default(),
            formers: Vec::new(),
        }
    }
}

impl Default for Isolation {
    fn default() -> Self {
        Self { since: None, patience: FIRST_PATIENCE }
    }
}

impl Stalls {
    fn wait_longer(&mut self) {
        self.patience = longer(self.patience);
    }
}

fn longer(patience: Duration) -> Duration {
    (patience * 2).min(LONGEST_PATIENCE)
}

impl Isolation {
    /// Whether it is time for a new client.
    fn is_due(&mut self, is_reachable: bool, now: Instant) -> bool {
        if is_reachable {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let is_due = now.duration_since(since) >= self.patience;
        if is_due {
            *self = Self { since: Some(now), patience: longer(self.patience) };
        }
        is_due
    }
}

impl Consumer {
    /// Has Kafka asked about partitions that have not moved for long; most of them have nothing to read.
    pub(super) fn watch_for_stalls(&mut self) {
        let (lanes, stalls) = (&self.lanes, &mut self.stalls);
        let now = Instant::now();
        let elapsed = now.duration_since(std::mem::replace(&mut stalls.looked_at, now));
        let idle = if std::mem::take(&mut stalls.ran_dry) { elapsed } else { Duration::ZERO };
        let mut seen = HashMap::new();
        for (key, reading, lane) in self.assignment.all_reading() {
            if lanes.get(lane).is_none_or(|door| door.paused) {
                continue;
            }
            let new = Still { passed: reading.passed, since: now, idle: Duration::ZERO };
            let former = stalls.seen.get(&key).filter(|still| still.passed == reading.passed);
            let mut still = former.map_or(new, |still| Still { idle: still.idle + idle, ..*still });
            if still.idle >= stalls.patience || now.duration_since(still.since) >= LONGEST_PATIENCE {
                self.claimant.ask_whether_stalled(key.clone(), reading.epoch, reading.passed);
                still = new;
            }
            seen.insert(key, still);
        }
        stalls.seen = seen;
    }

    /// Has a new client made when no broker has answered the present one for long.
    pub(super) fn watch_for_isolation(&mut self) -> anyhow::Result<()> {
        if !self.stalls.isolation.is_due(self.consumer.context().is_reachable(), Instant::now()) {
            return Ok(());
        }
        self.stalls.formers.retain(|former| !former.is_finished());
        if self.stalls.formers.len() >= FORMERS {
            tracing::warn!("no broker has answered for long, and former kafka clients are not closed yet");
            return Ok(());
        }
        tracing::warn!("no broker has answered for long: making a new kafka client");
        self.renew_client()
    }

    /// Kafka had records from `passed` up to `high` when it was asked. One that is read again only to be compared, and is
    /// gone, is none to wait for.
    pub(super) fn stalled(
        &mut self,
        key: &PartitionKey,
        epoch: i64,
        passed: i64,
        high: i64,
    ) -> anyhow::Result<()> {
        let reading = self.assignment.reading(&key.topic, key.partition);
        let stands = reading.is_some_and(|reading| (reading.epoch, reading.passed) == (epoch, passed));
        let is_behind = self.assignment.committed_of(key).is_none_or(|committed| committed < high);
        if stands && is_behind {
            tracing::warn!(
                kafka.topic = &*key.topic,
                kafka.partition = key.partition,
                passed,
                "kafka has records that its client does not fetch: making a new client"
            );
            self.stalls.wait_longer();
            self.renew_client()?;
        }
        Ok(())
    }

    /// Kafka answers, but has not told a partition's offsets for long.
    pub(super) fn unanswered(&mut self, key: &PartitionKey, attempt: u64) -> anyhow::Result<()> {
        let patience = self.stalls.patience;
        let is_due = self.stalls.renewed_at.is_none_or(|at| at.elapsed() >= patience);
        if is_due && self.assignment.awaits(key, attempt) && self.consumer.context().is_reachable() {
            tracing::warn!(
                kafka.topic = &*key.topic,
                kafka.partition = key.partition,
                "kafka does not tell the offsets: making a new client"
            );
            self.stalls.wait_longer();
            self.renew_client()?;
        }
        Ok(())
    }

    /// Gives everything back and joins the group anew.
    fn renew_client(&mut self) -> anyhow::Result<()> {
        for key in self.assignment.keys() {
            self.assignment.revoked(&key, &mut self.orders);
        }
        self.carry_out();
        self.stalls.seen.clear();
        self.stalls.renewed_at = Some(Instant::now());
        let consumer = Arc::new(subscribe(&self.settings, &self.health)?);
        self.claimant = Arc::new(self.claimant.with_client(Arc::clone(&consumer)));
        let former = std::mem::replace(&mut self.consumer, consumer);
        former.context().retire();
        // One that reaches nobody may take its time.
        let closing = thread::Builder::new().name("former kafka".to_owned()).spawn(move || close(former))?;
        self.stalls.formers.push(closing);
        Ok(())
    }
}

impl Claimant {
    fn ask_whether_stalled(self: &Arc<Self>, key: PartitionKey, epoch: i64, passed: i64) {
        let claimant = Arc::clone(self);
        self.spawn(async move {
            let asked = key.clone();
            let answer = claimant.ask(move |consumer| position::watermarks(consumer, &asked)).await;
            if let Ok((low, high)) = answer
                && high > passed.max(low)
            {
                claimant.tell(ToConsumer::Stalled { key, epoch, passed, high }).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_broker_is_given_up_later_each_time_until_one_answers() {
        let mut isolation = Isolation::default();
        let start = Instant::now();
        let mut due_at = Vec::new();
        for second in 0..2_500 {
            if isolation.is_due(false, start + Duration::from_secs(second)) {
                due_at.push(second);
            }
        }
        assert_eq!(due_at, [30, 90, 210, 450, 930, 1_530, 2_130]);
        assert!(!isolation.is_due(true, start + Duration::from_secs(2_500)));
        let again =
            |isolation: &mut Isolation, second| isolation.is_due(false, start + Duration::from_secs(second));
        assert!(
            !again(&mut isolation, 2_501) && !again(&mut isolation, 2_530) && again(&mut isolation, 2_531)
        );
    }
}
