//! One read-only transaction in which everything that an answer says is true at the same time.

use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, PgConnection, Postgres};

use super::failure::QueryFailure;

/// A connection inside `REPEATABLE READ READ ONLY`. Dropped without [`Snapshot::finish`] (a failure, a deadline, a
/// client that went away) it closes its connection: returned to the pool, one that hangs would be lost to others.
pub struct Snapshot {
    connection: Option<PoolConnection<Postgres>>,
}

impl Snapshot {
    /// Begins.
    ///
    /// # Errors
    /// PostgreSQL went away meanwhile.
    pub async fn begin(connection: PoolConnection<Postgres>) -> Result<Self, QueryFailure> {
        let mut snapshot = Self { connection: Some(connection) };
        snapshot.connection()?.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(snapshot)
    }

    /// For the projections.
    ///
    /// # Errors
    /// Never: it is there until `finish`.
    pub fn connection(&mut self) -> Result<&mut PgConnection, QueryFailure> {
        self.connection.as_deref_mut().ok_or(QueryFailure::Defect(sqlx::Error::WorkerCrashed))
    }

    /// Ends and gives the connection back.
    ///
    /// # Errors
    /// PostgreSQL went away meanwhile.
    pub async fn finish(mut self) -> Result<(), QueryFailure> {
        self.connection()?.execute("COMMIT").await?;
        drop(self.connection.take());
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}
