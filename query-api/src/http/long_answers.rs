//! Answers of any length: sent in pieces while they are read, within a budget of memory that all requests share, and cut
//! off, never ended short, when they cannot be finished.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use poem::{Body, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::connections::{Addresses, Connections};
use crate::budget::{Budget, Held};
use crate::faults::{Faults, duration};
use crate::metrics;
use crate::projections::failure::QueryFailure;
use crate::settings::{Setting, Values};
use crate::units;

const PAYLOAD_MAX_BYTES: Setting = Setting::new("ANALYTICS_PAYLOAD_MAX_BYTES", "SIZE", "8MiB").help(
    "In the place of a longer payload stands a marker; the writer refuses such since it knows this setting",
);
const ANSWER_MEMORY: Setting = Setting::new("ANALYTICS_ANSWER_MEMORY", "SIZE", "64MiB")
    .help("Memory for long answers, of all requests together");
const CLIENT_TIMEOUT: Setting = Setting::new("ANALYTICS_CLIENT_TIMEOUT", "DURATION", "30s")
    .help("A client that takes nothing of its answer for so long is cut off");

/// What this service reads.
pub const SETTINGS: [Setting; 3] = [PAYLOAD_MAX_BYTES, ANSWER_MEMORY, CLIENT_TIMEOUT];

/// A shorter answer is made in one piece and sent with its length, outside the budget.
pub const IN_ONE_PIECE: usize = 128 << 10;
/// About how long a piece of a longer one is.
pub const PIECE: usize = 1 << 20;
/// How long answers there may be at a time: each keeps a list of what is still to come.
const AT_A_TIME: usize = 64;
/// How long one waits before its first byte, until it is refused.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the HTTP library gets at a time.
const FRAME: usize = 64 << 10;
/// A client that is slower than this may lose its answer: bytes a second.
const SLOWEST: u64 = 64 << 10;

/// Limits of long answers.
#[derive(Debug, Clone, Copy)]
pub struct LongAnswersConfig {
    /// Bytes of the longest payload that is shown.
    pub payload_max_bytes: u64,
    /// Bytes for all of them.
    pub memory: u64,
    /// Without any progress.
    pub client_timeout: Duration,
}

impl LongAnswersConfig {
    /// Checks the settings.
    pub fn check(values: &Values, faults: &mut Faults) -> Option<Self> {
        let payload_max_bytes =
            faults.take(values, &PAYLOAD_MAX_BYTES, |text| units::size(text, 64 << 10..=512 << 20));
        let memory = faults.take(values, &ANSWER_MEMORY, |text| units::size(text, 4 << 20..=1 << 40));
        let client_timeout = faults.take(values, &CLIENT_TIMEOUT, duration);
        let config = Self {
            payload_max_bytes: payload_max_bytes? as u64,
            memory: memory? as u64,
            client_timeout: client_timeout?,
        };
        if config.memory < 4 * config.payload_max_bytes {
            faults.add(format!(
                "{} is less than four times {}; allowed is that at least: one payload is there three times while it is read",
                ANSWER_MEMORY.variable, PAYLOAD_MAX_BYTES.variable
            ));
        }
        Some(config)
    }
}

/// Part of an answer, and the share of the budget that it takes.
pub struct Piece {
    /// As they are sent.
    pub bytes: Vec<u8>,
    /// Given back when they are.
    pub held: Option<Held>,
}

/// Where an answer comes from, piece by piece.
pub trait Source: Send + 'static {
    /// The next piece; none at the end. `patience` is for what others hold.
    fn next(
        &mut self,
        patience: Duration,
    ) -> impl Future<Output = Result<Option<Piece>, QueryFailure>> + Send;

    /// Whether nothing comes any more.
    fn is_done(&self) -> bool;
}

/// Why an answer ended before its end.
enum Cut {
    /// PostgreSQL, or no memory in time.
    Failed(QueryFailure),
    /// The client took too little for too long.
    Stalled,
    /// The client is gone, or asked for the head alone.
    Gone,
}

/// What all long answers share.
pub struct LongAnswers {
    /// Their limits.
    pub config: LongAnswersConfig,
    /// Their memory.
    pub budget: Arc<Budget>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    connections: Arc<Connections>,
}

impl LongAnswers {
    /// Each is a task on this tracker, sent by one of these connections.
    #[must_use]
    pub fn new(config: LongAnswersConfig, tasks: TaskTracker, connections: Arc<Connections>) -> Self {
        let budget = Arc::new(Budget::new(config.memory));
        Self { config, budget, places: Arc::new(Semaphore::new(AT_A_TIME)), tasks, connections }
    }

    /// In one piece if it is short, else piece by piece as the client takes them.
    ///
    /// # Errors
    /// What comes before the first byte; whatever comes later cuts the connection.
    pub async fn send(&self, request: &Request, mut source: impl Source) -> Result<Body, QueryFailure> {
        let Some(first) = source.next(PATIENCE).await? else { return Ok(Body::empty()) };
        if source.is_done() && first.bytes.len() <= IN_ONE_PIECE {
            return Ok(Body::from_vec(first.bytes));
        }
        let place = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(QueryFailure::NoRoom) };
        let (sender, receiver) = mpsc::channel(1);
        let sending = send(first, source, sender, self.config.client_timeout, place);
        self.tasks.spawn(sending.in_current_span());
        let connection = (Arc::clone(&self.connections), Connections::of(request));
        Ok(Body::from_bytes_stream(frames(receiver, connection)))
    }
}

/// As they come; what ends without its end breaks the connection off.
fn frames(
    receiver: mpsc::Receiver<Frame>,
    (connections, addresses): (Arc<Connections>, Addresses),
) -> impl Stream<Item = std::io::Result<Vec<u8>>> {
    stream::unfold(Some((receiver, connections, addresses)), |state| async {
        let (mut receiver, connections, addresses) = state?;
        match receiver.recv().await {
            Some(Frame::Bytes(bytes)) => Some((Ok(bytes), Some((receiver, connections, addresses)))),
            Some(Frame::End) => None,
            None => {
                connections.break_off(&addresses);
                Some((Err(std::io::Error::other("the answer was cut off")), None))
            }
        }
    })
}

/// The end is said: a sender that is dropped before is a broken answer, which must not look like a whole one.
enum Frame {
    Bytes(Vec<u8>),
    End,
}

async fn send(
    first: Piece,
    mut source: impl Source,
    sender: mpsc::Sender<Frame>,
    client_timeout: Duration,
    _place: OwnedSemaphorePermit,
) {
    let mut sent = 0;
    let work = async {
        let mut piece = Some(first);
        while let Some(current) = piece {
            sent += push(current, &sender, client_timeout).await?;
            piece = source.next(client_timeout).await.map_err(Cut::Failed)?;
        }
        timeout(client_timeout, sender.send(Frame::End)).await.map_or(Err(Cut::Stalled), |_| Ok(()))
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = sender.closed() => Err(Cut::Gone),
    };
    match outcome {
        Ok(()) => tracing::debug!("all {sent} bytes of a long answer are sent"),
        Err(Cut::Gone) => tracing::debug!("the client left after {sent} bytes of a long answer"),
        Err(Cut::Stalled) => {
            metrics::answer_cut("client_stalled");
            tracing::warn!("an answer is cut off after {sent} bytes: the client takes too little of it");
        }
        Err(Cut::Failed(QueryFailure::Defect(fault))) => {
            metrics::answer_cut("failed");
            tracing::error!("an answer is cut off after {sent} bytes by our own fault: {fault}");
        }
        Err(Cut::Failed(failure)) => {
            metrics::answer_cut("failed");
            tracing::warn!("an answer is cut off after {sent} bytes: {failure}");
        }
    }
}

/// The piece's share of the budget is free again when the client has taken it, or too long for it.
async fn push(piece: Piece, sender: &mpsc::Sender<Frame>, client_timeout: Duration) -> Result<usize, Cut> {
    let at_this_rate = Duration::from_millis(piece.bytes.len() as u64 * 1_000 / SLOWEST);
    let deadline = Instant::now() + client_timeout + at_this_rate;
    for frame in piece.bytes.chunks(FRAME) {
        match timeout_at(deadline, sender.send(Frame::Bytes(frame.to_vec()))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Cut::Gone),
            Err(_) => return Err(Cut::Stalled),
        }
    }
    Ok(piece.bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_too_little_for_too_long_loses_its_answer() {
        let piece = || Piece { bytes: vec![b'x'; 2 * FRAME], held: None };
        let (sender, mut receiver) = mpsc::channel(1);
        let begun = Instant::now();
        // It takes one of two and no more.
        let pushed = push(piece(), &sender, Duration::from_millis(50)).await;
        assert!(matches!(pushed, Err(Cut::Stalled)) && begun.elapsed() >= Duration::from_secs(2));
        assert!(matches!(receiver.recv().await, Some(Frame::Bytes(bytes)) if bytes.len() == FRAME));
        drop(receiver);
        assert!(matches!(push(piece(), &sender, Duration::from_secs(9)).await, Err(Cut::Gone)));
    }
}
