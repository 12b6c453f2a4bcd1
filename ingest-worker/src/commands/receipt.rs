use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::analytics::AnalyticsEvent;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

/// What an event takes besides its payload, in bytes.
const EVENT_OVERHEAD: usize = 500;

/// An event that a client wants recorded, and where the answer goes.
#[derive(Debug)]
pub struct RecordEvent {
    /// The event, its id made on receipt where the client gave none.
    pub event: AnalyticsEvent,
    /// SHA-256 of the request's body.
    pub request_hash: [u8; 32],
    /// Taken once, after the commit.
    pub reply: oneshot::Sender<Result<Receipt, CommandFailure>>,
    /// Its part of the memory for waiting commands, given back with it.
    _room: OwnedSemaphorePermit,
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
    /// In bytes.
    room: Arc<Semaphore>,
}

impl CommandSender {
    /// `commit_timeout`: how long a client waits for its commit. `waiting_bytes`: memory of all events that wait.
    #[must_use]
    pub fn new(lane: mpsc::Sender<RecordEvent>, commit_timeout: Duration, waiting_bytes: u32) -> Self {
        let room = Arc::new(Semaphore::new(usize::try_from(waiting_bytes).unwrap_or(Semaphore::MAX_PERMITS)));
        Self { lane, commit_timeout, room }
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
        let bytes = u32::try_from(EVENT_OVERHEAD + event.payload().as_str().len()).unwrap_or(u32::MAX);
        let room =
            Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| CommandFailure::NotAccepted)?;
        let command = RecordEvent { event, request_hash, reply, _room: room };
        self.lane.try_send(command).map_err(|_| CommandFailure::NotAccepted)?;
        match tokio::time::timeout(self.commit_timeout, answer).await {
            Ok(Ok(result)) => result,
            // The lane stopped with the command in hand, or the clock ran out.
            Ok(Err(_)) | Err(_) => Err(CommandFailure::NotCommitted),
        }
    }
}
