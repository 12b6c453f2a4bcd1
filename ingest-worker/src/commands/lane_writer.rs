use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::outcome::Recorded;
use super::record_events::{RecordFailure, Recorder};
use crate::batch::Batch;
use crate::health::Health;
use crate::metrics::{self, Door};
use crate::write::{Backend, DatabaseSettings, WriteFailure};

/// An idle lane looks this often whether its connection still lives, so that readiness tells the truth.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Writes one batch after the other on a connection that it keeps, and replaces when it is lost.
pub struct LaneWriter {
    /// Name for readiness and logs.
    pub name: String,
    /// How to connect.
    pub database: DatabaseSettings,
    /// Consumer group.
    pub group: Arc<str>,
    /// This process.
    pub worker: Arc<str>,
    /// Batches, each with the number of the connection for which it was made.
    pub batches: mpsc::Receiver<(u64, Batch)>,
    /// Back to the lane.
    pub reports: mpsc::Sender<WriterReport>,
    /// Readiness.
    pub health: Health,
}

/// What the writer tells its lane.
#[derive(Debug)]
pub enum WriterReport {
    /// Connected for the n-th time: every claim is to be renewed for this backend.
    Connected(u64, Backend),
    /// The connection is lost, and with it the batch in hand; the outcome of its commit may be unknown.
    Disconnected,
    /// The batch in hand is committed.
    Recorded(Recorded),
}

enum Served {
    LaneEnded,
    ConnectionLost(String),
}

impl LaneWriter {
    /// Runs until the lane ends.
    ///
    /// # Errors
    /// A defect: the process must stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        let mut connections = 0;
        self.health.hold_quietly(&self.name, "connecting to PostgreSQL");
        loop {
            let recorder =
                match Recorder::connect(&self.database, self.group.clone(), self.worker.clone()).await {
                    Ok(recorder) => recorder,
                    Err(WriteFailure::Defect(message)) => anyhow::bail!("{}: {message}", self.name),
                    Err(failure) => {
                        self.health.hold(&self.name, format!("PostgreSQL is away: {failure}"));
                        tokio::select! {
                            () = stop.cancelled() => return Ok(()),
                            () = backoff.wait() => continue,
                        }
                    }
                };
            connections += 1;
            self.health.clear(&self.name);
            if self
                .reports
                .send(WriterReport::Connected(connections, recorder.backend().clone()))
                .await
                .is_err()
            {
                return Ok(());
            }
            match self.serve(recorder, connections, &mut backoff).await? {
                Served::LaneEnded => return Ok(()),
                Served::ConnectionLost(reason) => {
                    self.health.hold(&self.name, format!("PostgreSQL is away: {reason}"))
                }
            }
            if self.reports.send(WriterReport::Disconnected).await.is_err() || stop.is_cancelled() {
                return Ok(());
            }
            backoff.wait().await;
        }
    }

    async fn serve(
        &mut self,
        mut recorder: Recorder,
        connection: u64,
        backoff: &mut Backoff,
    ) -> anyhow::Result<Served> {
        loop {
            let next = tokio::time::timeout(PING_INTERVAL, self.batches.recv()).await;
            let mut batch = match next {
                Ok(Some((made_for, batch))) if made_for == connection => batch,
                Ok(Some(_)) => continue,
                Ok(None) => {
                    return Ok(Served::LaneEnded);
                }
                Err(_) => match ping(&mut recorder).await {
                    Ok(()) => {
                        backoff.reset();
                        continue;
                    }
                    Err(reason) => return Ok(Served::ConnectionLost(reason)),
                },
            };
            let (events, bytes) = (batch.events().len(), batch.bytes());
            match recorder.handle(&mut batch).await {
                Ok(recorded) => {
                    backoff.reset();
                    metrics::batch(Door::Kafka, events, bytes);
                    if self.reports.send(WriterReport::Recorded(recorded)).await.is_err() {
                        return Ok(Served::LaneEnded);
                    }
                }
                Err(RecordFailure::Unavailable(reason)) => return Ok(Served::ConnectionLost(reason)),
                Err(RecordFailure::Defect(message)) => {
                    self.health.hold(&self.name, &message);
                    anyhow::bail!("{} cannot write: {message}", self.name);
                }
            }
        }
    }
}

/// Whether the connection still answers.
///
/// # Errors
/// Why it does not.
pub async fn ping(recorder: &mut Recorder) -> Result<(), String> {
    match tokio::time::timeout(PING_INTERVAL, recorder.connection().ping()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PING_INTERVAL:?}")),
    }
}
