use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Batch, Fate, Lane, LaneInput};
use crate::clock;
use crate::commands::WriterReport;
use crate::consume::{KafkaRecord, ToConsumer};
use crate::decode::{Decoded, Limits, decode};
use crate::fail_point::FailPoint;
use crate::metrics::{self, Stage};
use crate::normalize::Normalizer;
use crate::write::Backend;

/// Runs a [`Lane`]: decodes what comes in while the batch before is being written.
pub struct LaneTask {
    /// What it does.
    pub lane: Lane,
    /// From the Kafka thread.
    pub inputs: mpsc::Receiver<LaneInput>,
    /// To the writer: one batch at a time, with the number of the connection it is made for.
    pub batches: mpsc::Sender<(u64, Batch)>,
    /// From the writer.
    pub reports: mpsc::Receiver<WriterReport>,
    /// Back to the Kafka thread.
    pub consumer: mpsc::Sender<ToConsumer>,
    /// Tells claims which backend is the lane's.
    pub backend: watch::Sender<Option<Backend>>,
    /// How records become events.
    pub decoder: Decoder,
}

/// How records become events.
pub struct Decoder {
    /// Records to events.
    pub normalizer: Arc<Normalizer>,
    /// Limits of a record.
    pub limits: Limits,
}

impl LaneTask {
    /// Runs until `stop`, then lets the batch in hand and the one begun be written; what still waits is read again by the
    /// next worker.
    ///
    /// # Errors
    /// None; a task of the process has this shape.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            let ripens_at = self.lane.ripens_at();
            let ripe = tokio::time::sleep_until(ripens_at.unwrap_or_else(Instant::now).into());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                report = self.reports.recv() => match report {
                    Some(report) => self.hear(report).await,
                    None => return Ok(()),
                },
                input = self.inputs.recv(), if self.lane.takes_more() => match input {
                    Some(input) => self.take(input).await,
                    None => break,
                },
                () = ripe, if ripens_at.is_some() => {}
            }
            self.write().await;
        }
        self.inputs.close();
        self.lane.drain();
        self.write().await;
        while self.lane.has_work() {
            let Some(report) = self.reports.recv().await else { break };
            self.hear(report).await;
            self.write().await;
        }
        Ok(())
    }

    async fn take(&mut self, input: LaneInput) {
        let (started, now) = (Instant::now(), clock::now());
        let has_records = matches!(input, LaneInput::Records(_));
        let mut told = Vec::new();
        self.lane.take(input, started, |record| self.decoder.fate(record, now), &mut told);
        if has_records {
            drop(FailPoint::AfterDecode.pass().await); // It freezes or ends us; there is nothing to fail.
            metrics::stage(Stage::Decode, started.elapsed());
        }
        self.tell(told).await;
    }

    async fn hear(&mut self, report: WriterReport) {
        // Before the Kafka thread hears of it: a claim made for the former backend is then known as such.
        match &report {
            WriterReport::Connected(_, backend) => drop(self.backend.send_replace(Some(backend.clone()))),
            WriterReport::Disconnected => drop(self.backend.send_replace(None)),
            WriterReport::Recorded(_) => {}
        }
        let mut told = Vec::new();
        self.lane.hear(report, &mut told);
        self.tell(told).await;
    }

    async fn tell(&self, told: Vec<ToConsumer>) {
        for message in told {
            // The thread is gone only when the process stops.
            drop(self.consumer.send(message).await);
        }
    }

    async fn write(&mut self) {
        if let Some(batch) = self.lane.next_batch(Instant::now()) {
            // A writer that is gone reports nothing more, and the lane ends by that.
            drop(self.batches.send(batch).await);
        }
    }
}

impl Decoder {
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
}
