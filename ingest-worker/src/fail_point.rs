//! Places at which a test ends, freezes or fails the process, as the variable `FAULT` says. Only with the feature
//! `fail-points`: without it a passing is nothing at all, and no variable is read.

use sqlx::{Postgres, Transaction};

#[cfg(not(feature = "fail-points"))]
use crate::consume::PartitionKey;
use crate::write::WriteFailure;

/// A place that a batch passes on its way from Kafka into PostgreSQL, and back as an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    /// Records were fetched; no lane has them.
    AfterPoll,
    /// Records were turned into events; they wait for their batch.
    AfterDecode,
    /// The transaction is open.
    AfterBegin,
    /// The offsets were compared and locked.
    AfterCompare,
    /// The rows are sent, the end of the COPY is not.
    MidCopy,
    /// The events are stored.
    AfterCopy,
    /// The read models are written, the dead letters are not.
    BetweenTables,
    /// Everything is written.
    BeforeCommit,
    /// PostgreSQL has the COMMIT; its answer is not read.
    CommitSent,
    /// The answer is read; nobody else knows.
    AfterCommit,
    /// Kafka is about to be told the offsets.
    BeforeKafkaCommit,
    /// The Kafka client has been told.
    AfterKafkaCommit,
}

#[cfg(feature = "fail-points")]
pub use armed::{arm, feigned_assignment};

/// Nothing: Kafka assigns.
#[cfg(not(feature = "fail-points"))]
#[inline]
#[must_use]
pub fn feigned_assignment() -> Option<Vec<PartitionKey>> {
    None
}

#[cfg(not(feature = "fail-points"))]
impl FailPoint {
    /// Nothing.
    ///
    /// # Errors
    /// None.
    #[inline]
    pub async fn pass(self) -> Result<(), WriteFailure> {
        Ok(())
    }

    /// Nothing.
    #[inline]
    pub fn pass_on_thread(self) {}
}

/// Commits.
///
/// # Errors
/// As PostgreSQL says.
#[cfg(not(feature = "fail-points"))]
#[inline]
pub async fn commit(transaction: Transaction<'_, Postgres>) -> Result<(), WriteFailure> {
    transaction.commit().await.map_err(WriteFailure::of_rows)
}

/// Commits, and passes [`FailPoint::CommitSent`] between the COMMIT and its answer.
///
/// # Errors
/// As PostgreSQL or the fail point says.
#[cfg(feature = "fail-points")]
pub async fn commit(transaction: Transaction<'_, Postgres>) -> Result<(), WriteFailure> {
    use std::task::Poll;
    let mut commit = std::pin::pin!(transaction.commit());
    // The first poll writes to the socket; the answer takes PostgreSQL a while.
    let first = std::future::poll_fn(|context| Poll::Ready(commit.as_mut().poll(context))).await;
    FailPoint::CommitSent.pass().await?;
    let answer = match first {
        Poll::Ready(answer) => answer,
        Poll::Pending => commit.await,
    };
    answer.map_err(WriteFailure::of_rows)
}

#[cfg(feature = "fail-points")]
mod armed;
