//! A connection for one answer, and the read-only transaction in which everything that an answer says is true at the same
//! time.

use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, PgConnection, Postgres};

use super::failure::QueryFailure;

/// A connection for one answer. Dropped without [`Lent::give_back`] (a failure, a deadline, a client that went away) it is
/// closed: returned to the pool, one that hangs would be lost to others.
pub struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    /// From the pool.
    #[must_use]
    pub fn new(connection: PoolConnection<Postgres>) -> Self {
        Self(Some(connection))
    }

    /// For the projections.
    ///
    /// # Errors
    /// Never: it is there until it is given back.
    pub fn connection(&mut self) -> Result<&mut PgConnection, QueryFailure> {
        self.0.as_deref_mut().ok_or(QueryFailure::Defect(sqlx::Error::WorkerCrashed))
    }

    /// For the next one.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// A connection inside `REPEATABLE READ READ ONLY`.
pub struct Snapshot(Lent);

impl Snapshot {
    /// Begins.
    ///
    /// # Errors
    /// PostgreSQL went away meanwhile.
    pub async fn begin(mut lent: Lent) -> Result<Self, QueryFailure> {
        lent.connection()?.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(Self(lent))
    }

    /// For the projections.
    ///
    /// # Errors
    /// Never: it is there until `finish`.
    pub fn connection(&mut self) -> Result<&mut PgConnection, QueryFailure> {
        self.0.connection()
    }

    /// Ends and gives the connection back.
    ///
    /// # Errors
    /// PostgreSQL went away meanwhile.
    pub async fn finish(mut self) -> Result<(), QueryFailure> {
        self.connection()?.execute("COMMIT").await?;
        self.0.give_back();
        Ok(())
    }
}
