//! Records of which it is known what must become of them, sent while faults happen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use chrono::TimeDelta;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::expected::{Expected, Own};
use crate::load::{Load, LoadPlan, LoadRecord, Order};
use crate::produce::{Pace, Producer, Record};

/// More than any scenario sends.
const RECORDS: usize = 10_000_000;
/// Records of a thousand that cannot become an event.
const FAULTS_PER_MILLE: u32 = 10;

/// The source of records, and all that went out.
#[derive(Clone)]
pub(super) struct Traffic {
    state: Arc<Mutex<State>>,
    bootstrap: String,
    prefix: String,
    partitions: i32,
}

struct State {
    load: Load,
    strangers: Load,
    sent: Vec<LoadRecord>,
    /// What a scenario sends and expects besides.
    own: Expected,
    fleeting: Vec<LoadRecord>,
}

impl Traffic {
    pub(super) fn new(seed: u64, bootstrap: &str, prefix: &str, partitions: i32) -> Self {
        let until = clock::now();
        let plan = LoadPlan {
            seed,
            records: RECORDS,
            from: until - TimeDelta::days(3),
            until,
            order: Order::Random,
            faults_per_mille: FAULTS_PER_MILLE,
        };
        let strangers = LoadPlan { seed: !seed, faults_per_mille: 0, ..plan.clone() };
        let state = State {
            load: Load::new(plan),
            strangers: Load::new(strangers),
            sent: Vec::new(),
            own: Expected::default(),
            fleeting: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            bootstrap: bootstrap.to_owned(),
            prefix: prefix.to_owned(),
            partitions,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next(&self, number: usize) -> Vec<LoadRecord> {
        self.lock().load.by_ref().take(number).collect()
    }

    /// Each becomes an event whatever becomes of all others.
    pub(super) fn strangers(&self, number: usize, wanted: impl Fn(&LoadRecord) -> bool) -> Vec<LoadRecord> {
        let mut state = self.lock();
        let events = state.strangers.by_ref().filter(|record| record.fact().is_some());
        events.filter(wanted).take(number).collect()
    }

    pub(super) fn sent(&self) -> Vec<LoadRecord> {
        self.lock().sent.clone()
    }

    pub(super) fn number(&self) -> i64 {
        let state = self.lock();
        state.sent.len() as i64 + state.own.totals.records()
    }

    pub(super) fn expect(&self, change: impl FnOnce(&mut Expected)) {
        change(&mut self.lock().own);
    }

    pub(super) fn expected(&self) -> Expected {
        let state = self.lock();
        Expected::of(&state.sent).plus(state.own.clone())
    }

    pub(super) async fn send_own(&self, records: &[Own]) -> Result<()> {
        let mut producer = Producer::of(&self.bootstrap)?;
        for own in records {
            self.lock().own.add(own);
            let topic = format!("{}{}", self.prefix, own.record.topic);
            producer.send(&Record { topic, ..own.record.clone() }).await?;
        }
        producer.flush().await
    }

    pub(super) fn expect_records(&self, records: impl IntoIterator<Item = LoadRecord>) {
        self.lock().sent.extend(records);
    }

    pub(super) fn expect_perhaps(&self, records: impl IntoIterator<Item = LoadRecord>) {
        self.lock().fleeting.extend(records);
    }

    pub(super) fn fleeting(&self) -> Vec<LoadRecord> {
        self.lock().fleeting.clone()
    }

    pub(super) async fn send(&self, records: Vec<LoadRecord>) -> Result<()> {
        let mut producer = Producer::of(&self.bootstrap)?;
        for record in records {
            self.send_one(&mut producer, record).await?;
        }
        producer.flush().await
    }

    /// As it is: nothing is expected of it.
    pub(super) async fn hand_over(&self, records: &[LoadRecord], partition: Option<i32>) -> Result<()> {
        let mut producer = Producer::of(&self.bootstrap)?;
        for record in records {
            producer.send(&Record { partition, ..Record::of_load(&self.prefix, record) }).await?;
        }
        producer.flush().await
    }

    /// Remembered first: what may have reached Kafka must be expected.
    async fn send_one(&self, producer: &mut Producer, record: LoadRecord) -> Result<()> {
        self.lock().sent.push(record.clone());
        producer.send_load(&self.prefix, self.partitions, &record).await
    }

    pub(super) fn in_background(&self, per_second: f64) -> Background {
        let (traffic, stop) = (self.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let sending = async move {
            let mut producer = Producer::of(&traffic.bootstrap)?;
            let (mut pace, mut number) = (Pace::of(Some(per_second)), 0);
            while !stopped.is_cancelled() {
                pace.next().await;
                for record in traffic.next(1) {
                    traffic.send_one(&mut producer, record).await?;
                    number += 1;
                }
            }
            Ok((producer, number))
        };
        #[expect(clippy::disallowed_methods, reason = "ends when it is stopped or dropped")]
        let task = tokio::spawn(sending);
        Background { stop, task }
    }
}

/// Records that are being sent.
pub struct Background {
    stop: CancellationToken,
    task: JoinHandle<Result<(Producer, usize)>>,
}

impl Background {
    /// Sends no more and waits until Kafka has all; their number.
    ///
    /// # Errors
    /// Kafka did not take them.
    pub async fn stop(mut self) -> Result<usize> {
        self.stop.cancel();
        let (mut producer, number) = (&mut self.task).await??;
        producer.flush().await?;
        Ok(number)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
