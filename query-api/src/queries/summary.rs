//! How many events of which type, and when.

use std::sync::Arc;

use super::aggregation::{EventAggregationService, Summary};
use super::range::Window;
use crate::budget::Budget;
use crate::projections::database::Database;
use crate::projections::failure::QueryFailure;

/// A summary of a window.
#[derive(Debug, Clone, Copy)]
pub struct SummaryQuery {
    /// What is counted.
    pub window: Window,
}

/// Answers [`SummaryQuery`].
pub struct SummaryHandler {
    database: Arc<Database>,
    budget: Arc<Budget>,
}

impl SummaryHandler {
    /// Reads from this database; many types take their memory from the budget.
    #[must_use]
    pub fn new(database: Arc<Database>, budget: Arc<Budget>) -> Self {
        Self { database, budget }
    }

    /// Exact at any table size.
    ///
    /// # Errors
    /// PostgreSQL is away, busy or too slow.
    pub async fn handle(&self, query: SummaryQuery) -> Result<Summary, QueryFailure> {
        let work = async {
            let mut snapshot = self.database.snapshot().await?;
            let connection = snapshot.connection()?;
            let summary = EventAggregationService::summarize(connection, query.window, &self.budget).await?;
            snapshot.finish().await?;
            Ok(summary)
        };
        self.database.answer(work).await
    }
}
