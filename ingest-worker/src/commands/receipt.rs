use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::analytics::AnalyticsEvent;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// An event that a client wants recorded, and where the answer goes.
#[derive(Debug)]
pub struct RecordEvent {
    /// The event, its id made on receipt where the client gave none.
    pub event: AnalyticsEvent,
    /// SHA-256 of the request's body.
    pub request_hash: [u8; 32],
    /// Taken once, after the commit.
    pub reply: oneshot::Sender<Result<Receipt, CommandFailure>>,
}

/// What is stored, after the commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// The event was there already: this is the first result.
    pub repeated: bool,
    /// Its id.
    pub id: Uuid,
    /// As stored.
    pub event_type: String,
    /// As stored.
    pub source: String,
    /// As stored.
    pub occurred_at: DateTime<Utc>,
    /// When the transaction began that stored it.
    pub ingested_at: DateTime<Utc>,
    /// As stored.
    pub tenant_id: Option<String>,
}

/// Why there is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandFailure {
    /// PostgreSQL refused this very event (422); never a dead letter, the client is told.
    #[error("{0}")]
    Refused(String),
    /// The event lies before the retention horizon (422).
    #[error("occurredAt lies before the retention horizon {horizon}")]
    Expired {
        /// Events before it are not kept.
        horizon: String,
    },
    /// No commit in time (503): the event may still be stored.
    #[error("not committed in time")]
    NotCommitted,
    /// More commands wait than memory is set aside for, or the process is about to stop (503): certainly not stored.
    #[error("not accepted")]
    NotAccepted,
}

/// The HTTP door's end of the command lane.
#[derive(Debug, Clone)]
pub struct CommandSender {
    lane: mpsc::Sender<RecordEvent>,
    commit_timeout: Duration,
}

impl CommandSender {
    /// `commit_timeout`: how long a client waits for its commit.
    #[must_use]
    pub fn new(lane: mpsc::Sender<RecordEvent>, commit_timeout: Duration) -> Self {
        Self { lane, commit_timeout }
    }

    /// Returns after the commit.
    ///
    /// # Errors
    /// As [`CommandFailure`] says.
    pub async fn record(
        &self,
        event: AnalyticsEvent,
        request_hash: [u8; 32],
    ) -> Result<Receipt, CommandFailure> {
        let (reply, answer) = oneshot::channel();
        let command = RecordEvent { event, request_hash, reply };
        self.lane.try_send(command).map_err(|_| CommandFailure::NotAccepted)?;
        match tokio::time::timeout(self.commit_timeout, answer).await {
            Ok(Ok(result)) => result,
            // The lane stopped with the command in hand, or the clock ran out.
            Ok(Err(_)) | Err(_) => Err(CommandFailure::NotCommitted),
        }
    }
}
