use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::settings::BatchSettings;
use super::{Batch, Claim, Cursor, Fate, LastRecord, Step};
use crate::clock;
use crate::commands::{Backoff, Recorded, WriterReport};
use crate::consume::{KafkaRecord, PartitionKey, ToConsumer};
use crate::decode::{Decoded, Limits, decode};
use crate::fail_point::FailPoint;
use crate::metrics::{self, Stage};
use crate::normalize::Normalizer;
use crate::write::{Backend, Claims, WriteFailure};

/// What the Kafka thread gives a lane, in order.
#[derive(Debug)]
pub enum LaneInput {
    /// The partition is ours; its records under this claim follow.
    Claimed(PartitionKey, Claim),
    /// Records of any of the lane's partitions, each partition's in order.
    Records(Vec<KafkaRecord>),
    /// The client stands at `position`, beyond the last record: what lies between is not for us.
    End {
        /// Of this partition.
        key: PartitionKey,
        /// Under this claim.
        epoch: i64,
        /// The next offset to come.
        position: i64,
    },
    /// Kafka took the partition away.
    Revoked(PartitionKey),
}

/// Bytes that a lane holds between fetch and commit; the Kafka thread stops fetching for a lane that is full.
#[derive(Debug, Default)]
pub struct LaneLoad(AtomicUsize);

impl LaneLoad {
    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// More is on its way to the lane.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Records below which a batch is not made smaller, however often PostgreSQL is lost over it.
const SMALLEST_BATCH: usize = 500;

/// Turns records into batches while the batch before is being written. A partition keeps its lane, so its order holds.
pub struct Lane {
    /// From the Kafka thread.
    pub inputs: mpsc::Receiver<LaneInput>,
    /// To the writer: one batch at a time, with the number of the connection it is made for.
    pub batches: mpsc::Sender<(u64, Batch)>,
    /// From the writer.
    pub reports: mpsc::Receiver<WriterReport>,
    /// Back to the Kafka thread.
    pub consumer: mpsc::Sender<ToConsumer>,
    /// Renews claims after a reconnect.
    pub claims: Arc<Claims>,
    /// Tells claims which backend is the lane's.
    pub backend: watch::Sender<Option<Backend>>,
    /// What is held.
    pub load: Arc<LaneLoad>,
    /// Records to events.
    pub normalizer: Arc<Normalizer>,
    /// Limits of a record.
    pub limits: Limits,
    /// Limits of a batch.
    pub settings: BatchSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Away,
    Idle(u64),
    Busy(u64),
}

struct State {
    writer: Writer,
    cursors: HashMap<PartitionKey, Cursor>,
    batch: Batch,
    opened: Option<Instant>,
    held: usize,
    held_by_writer: usize,
    /// Most records of a batch at present.
    most_records: usize,
}

impl Lane {
    /// Runs until `stop`, then lets the batch in hand and the one begun be written.
    ///
    /// # Errors
    /// A defect: the process must stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut state = State {
            writer: Writer::Away,
            cursors: HashMap::new(),
            batch: Batch::default(),
            opened: None,
            held: 0,
            held_by_writer: 0,
            most_records: self.settings.backlog_max_events,
        };
        while !stop.is_cancelled() {
            let linger_ends = state.opened.map(|opened| opened + self.settings.linger);
            let wait = tokio::time::sleep_until(linger_ends.unwrap_or_else(Instant::now).into());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                report = self.reports.recv() => match report {
                    Some(report) => self.on_report(&mut state, report, &stop).await?,
                    None => return Ok(()),
                },
                input = self.inputs.recv(), if self.takes_more(&state) => match input {
                    Some(input) => self.on_input(&mut state, input).await?,
                    None => break,
                },
                () = wait, if linger_ends.is_some() && matches!(state.writer, Writer::Idle(_)) => {}
            }
            if self.is_due(&state) {
                self.write(&mut state).await;
            }
        }
        self.drain(state).await
    }

    fn takes_more(&self, state: &State) -> bool {
        let full =
            state.batch.records() >= state.most_records || state.batch.bytes() >= self.settings.max_bytes;
        state.writer != Writer::Away && !full
    }

    fn is_due(&self, state: &State) -> bool {
        let idle = matches!(state.writer, Writer::Idle(_));
        let full = state.batch.records() >= self.settings.max_events.min(state.most_records)
            || state.batch.bytes() >= self.settings.max_bytes;
        idle && state.opened.is_some_and(|opened| full || opened.elapsed() >= self.settings.linger)
    }

    async fn on_input(&mut self, state: &mut State, input: LaneInput) -> anyhow::Result<()> {
        match input {
            LaneInput::Claimed(key, claim) => {
                // What was read under the former claim comes again under this one.
                if state.batch.holds(&key) {
                    self.flush(state).await?;
                }
                state.cursors.insert(key, Cursor::new(claim));
            }
            LaneInput::Records(records) => self.take_records(state, records).await,
            LaneInput::End { key, epoch, position } => {
                let Some(cursor) = state.cursors.get_mut(&key) else { return Ok(()) };
                if let Some(from) = cursor.reach(epoch, position) {
                    state.batch.reach(key, cursor.claim(), from, position);
                    state.opened.get_or_insert_with(Instant::now);
                }
            }
            LaneInput::Revoked(key) => {
                state.cursors.remove(&key);
            }
        }
        Ok(())
    }

    async fn take_records(&mut self, state: &mut State, records: Vec<KafkaRecord>) {
        let started = Instant::now();
        let now = clock::now();
        let mut last: HashMap<PartitionKey, LastRecord> = HashMap::new();
        let mut records = records.into_iter().peekable();
        while let Some(record) = records.next() {
            let memory = record.memory();
            let key = record.partition_key();
            let step = state.cursors.get_mut(&key).map(|cursor| cursor.step(&record));
            let (Some(Step::Take { gap }), Some(cursor)) = (step, state.cursors.get(&key)) else {
                self.load.release(memory);
                if step == Some(Step::Recreated) {
                    self.stop_partition(state, key).await;
                }
                continue;
            };
            // The last of each run of one partition is enough to find the last of the batch.
            let run_ends =
                records.peek().is_none_or(|next| next.topic != key.topic || next.partition != key.partition);
            if run_ends {
                let timestamp = record.timestamp.map(|timestamp| timestamp.at);
                last.insert(
                    key,
                    LastRecord { offset: record.offset, fingerprint: record.fingerprint(), timestamp },
                );
            }
            let fate = self.fate(&record, now);
            state.batch.push(cursor.claim(), gap, record, fate);
            state.held += memory;
            state.opened.get_or_insert_with(Instant::now);
        }
        last.iter().for_each(|(key, last)| state.batch.note_last(key, *last));
        drop(FailPoint::AfterDecode.pass().await); // It freezes or ends us; there is nothing to fail.
        metrics::stage(Stage::Decode, started.elapsed());
    }

    fn fate(&self, record: &KafkaRecord, now: chrono::DateTime<chrono::Utc>) -> Fate {
        match decode(record, &self.limits) {
            Decoded::Tombstone => Fate::Tombstone,
            Decoded::Refused(rejection) => Fate::Rejected(rejection),
            Decoded::Envelope(envelope) => match self.normalizer.normalize(&envelope, now) {
                Ok(event) => Fate::Event(event),
                Err(rejection) => Fate::Rejected(rejection),
            },
        }
    }

    /// Another topic of the same name: nothing of it may be taken for the continuation of what is stored.
    async fn stop_partition(&mut self, state: &mut State, key: PartitionKey) {
        if let Some(cursor) = state.cursors.remove(&key) {
            let reason =
                "another record lies at the stored offset: the topic was recreated or truncated".to_owned();
            let epoch = cursor.claim().epoch;
            // The thread is gone only when the process stops.
            drop(self.consumer.send(ToConsumer::Stopped { key, epoch, reason }).await);
        }
    }

    async fn write(&mut self, state: &mut State) {
        let Writer::Idle(connection) = state.writer else { return };
        let batch = std::mem::take(&mut state.batch);
        state.opened = None;
        state.held_by_writer = std::mem::take(&mut state.held);
        state.writer = Writer::Busy(connection);
        // A writer that is gone reports nothing more, and the lane ends by that.
        drop(self.batches.send((connection, batch)).await);
    }

    async fn on_report(
        &mut self,
        state: &mut State,
        report: WriterReport,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        match report {
            WriterReport::Recorded(recorded) => {
                if let Writer::Busy(connection) = state.writer {
                    state.writer = Writer::Idle(connection);
                }
                self.load.release(std::mem::take(&mut state.held_by_writer));
                state.most_records = (state.most_records * 2).min(self.settings.backlog_max_events);
                self.on_recorded(state, recorded).await;
            }
            WriterReport::Disconnected => {
                if let Writer::Busy(_) = state.writer {
                    // Perhaps it was too much for one transaction's time: the same again would be so for ever.
                    state.most_records = (state.most_records / 2).max(SMALLEST_BATCH);
                }
                state.writer = Writer::Away;
                self.backend.send_replace(None);
                // All of it is read again under the next claims.
                self.load
                    .release(std::mem::take(&mut state.held_by_writer) + std::mem::take(&mut state.held));
                state.batch = Batch::default();
                state.opened = None;
            }
            WriterReport::Connected(connection, backend) => {
                state.writer = Writer::Idle(connection);
                self.backend.send_replace(Some(backend.clone()));
                self.renew_claims(state, &backend, stop).await?;
            }
        }
        Ok(())
    }

    async fn on_recorded(&mut self, state: &mut State, recorded: Recorded) {
        for (key, epoch) in recorded.lost {
            if state.cursors.get(&key).is_some_and(|cursor| cursor.claim().epoch == epoch) {
                state.cursors.remove(&key);
                metrics::fenced(1);
                drop(self.consumer.send(ToConsumer::Lost { key, epoch }).await);
            }
        }
        for advanced in recorded.advanced {
            drop(self.consumer.send(ToConsumer::Committed(advanced)).await);
        }
    }

    /// After a reconnect: the same statement as a claim, under the own epoch. It waits for a transaction of ours that may
    /// still be open, so the offset that it returns says whether the last batch is in.
    async fn renew_claims(
        &mut self,
        state: &mut State,
        backend: &Backend,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let held: Vec<_> =
            state.cursors.iter().map(|(key, cursor)| (key.clone(), cursor.claim().epoch)).collect();
        for (key, epoch) in held {
            let mut backoff = Backoff::default();
            let renewed = loop {
                match self.claims.reclaim(&key, backend, epoch).await {
                    Ok(renewed) => break renewed,
                    Err(WriteFailure::Defect(message)) => anyhow::bail!("claim of {key}: {message}"),
                    Err(_) if stop.is_cancelled() => return Ok(()),
                    Err(_) => backoff.wait().await,
                }
            };
            let message = if let Some(claim) = renewed {
                state.cursors.insert(key.clone(), Cursor::new(claim.clone()));
                ToConsumer::Reclaimed { key, claim }
            } else {
                state.cursors.remove(&key);
                ToConsumer::Lost { key, epoch }
            };
            drop(self.consumer.send(message).await);
        }
        Ok(())
    }

    /// Writes what is there before anything else is taken.
    async fn flush(&mut self, state: &mut State) -> anyhow::Result<()> {
        let never = CancellationToken::new();
        while matches!(state.writer, Writer::Busy(_)) {
            let Some(report) = self.reports.recv().await else { return Ok(()) };
            self.on_report(state, report, &never).await?;
        }
        if !state.batch.is_empty() {
            self.write(state).await;
        }
        Ok(())
    }

    /// The batch in hand ends, the one begun is written; what still waits is read again by the next worker.
    async fn drain(mut self, mut state: State) -> anyhow::Result<()> {
        self.inputs.close();
        self.flush(&mut state).await?;
        if matches!(state.writer, Writer::Busy(_))
            && let Some(WriterReport::Recorded(recorded)) = self.reports.recv().await
        {
            self.on_recorded(&mut state, recorded).await;
        }
        Ok(())
    }
}
