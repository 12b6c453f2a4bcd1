//! The read-only transaction in which everything that an answer says is true at the same time.

use sqlx::{Executor as _, PgConnection};

use super::failure::QueryFailure;
use super::pool::Lent;

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
