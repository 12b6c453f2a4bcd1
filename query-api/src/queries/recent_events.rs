//! What happened last.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::projections::database::Database;
use crate::projections::events::{self, EventRow, StoredPayload};
use crate::projections::failure::QueryFailure;
use crate::projections::payloads::{self, Wanted};

/// For how long no text is tried after one that PostgreSQL could not make: the same events are asked for again.
const WARY_FOR: Duration = Duration::from_secs(600);

/// The newest events.
#[derive(Debug, Clone, Copy)]
pub struct RecentEventsQuery {
    /// How many at most.
    pub limit: u16,
}

/// Answers [`RecentEventsQuery`].
pub struct RecentEventsHandler {
    database: Arc<Database>,
    payload_max_bytes: u64,
    wary_since: Mutex<Option<Instant>>,
}

impl RecentEventsHandler {
    /// Reads from this database; no longer payload is read.
    #[must_use]
    pub fn new(database: Arc<Database>, payload_max_bytes: u64) -> Self {
        Self { database, payload_max_bytes, wary_since: Mutex::default() }
    }

    /// Newest first, of one instant the highest id first. Payloads that are long come by [`Self::payloads`].
    ///
    /// # Errors
    /// PostgreSQL is away, busy or too slow.
    pub async fn handle(&self, query: RecentEventsQuery) -> Result<Vec<EventRow>, QueryFailure> {
        if !self.is_wary() {
            match self.newest(query.limit, false).await {
                Err(failure) if failure.may_be_length() => {
                    tracing::warn!(
                        "PostgreSQL could not write payloads out, so each is measured first: {failure}"
                    );
                    *self.wary_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                outcome => return outcome,
            }
        }
        let mut rows = self.newest(query.limit, true).await?;
        let mut unknown: Vec<_> =
            rows.iter_mut().filter(|row| row.payload == StoredPayload::Unknown).collect();
        let wanted: Vec<_> = unknown.iter().map(|row| wanted(row, 0)).collect();
        for (row, bytes) in unknown.iter_mut().zip(self.measure(&wanted).await?) {
            row.payload = match bytes.unwrap_or(0) {
                // Too near to tell by an estimate.
                bytes if (self.payload_max_bytes..=2 * self.payload_max_bytes).contains(&bytes) => {
                    StoredPayload::Unknown
                }
                bytes => StoredPayload::Long(bytes),
            };
        }
        Ok(rows)
    }

    async fn newest(&self, limit: u16, wary: bool) -> Result<Vec<EventRow>, QueryFailure> {
        let newest =
            self.database.statement(|connection| Box::pin(events::read_newest(connection, limit, wary)));
        self.database.answer(newest).await
    }

    fn is_wary(&self) -> bool {
        let since = *self.wary_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < WARY_FOR)
    }

    /// As [`payloads::read`]. What PostgreSQL cannot make in time or at all is measured instead.
    ///
    /// # Errors
    /// PostgreSQL is away, busy or too slow.
    pub async fn payloads(&self, wanted: &[Wanted]) -> Result<Vec<Option<StoredPayload>>, QueryFailure> {
        let texts = self.database.long_statement(|connection| {
            let wanted = wanted.to_vec();
            Box::pin(async move { payloads::read(connection, &wanted).await })
        });
        let failure = match texts.await {
            Err(failure) if failure.may_be_length() => failure,
            outcome => return outcome,
        };
        let measured = self.measure(wanted).await?;
        let is_too_long =
            |(bytes, wanted): (&Option<u64>, &Wanted)| bytes.is_some_and(|bytes| bytes > wanted.allowed);
        // Were none of them too long, they would be asked for again and again.
        if !measured.iter().zip(wanted).any(is_too_long) {
            return Err(failure);
        }
        Ok(measured.into_iter().map(|bytes| bytes.map(StoredPayload::Long)).collect())
    }

    async fn measure(&self, wanted: &[Wanted]) -> Result<Vec<Option<u64>>, QueryFailure> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let measured = self.database.long_statement(|connection| {
            let wanted = wanted.to_vec();
            Box::pin(async move { payloads::measure(connection, &wanted).await })
        });
        measured.await
    }
}

/// The key of an event, and how long its payload may be.
#[must_use]
pub fn wanted(row: &EventRow, allowed: u64) -> Wanted {
    Wanted { occurred_at: row.occurred_at, id: row.id, allowed }
}
