//! How many events of which type, and when.

use std::sync::Arc;

use super::aggregation::{EventAggregationService, Summary};
use super::range::Window;
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
}

impl SummaryHandler {
    /// Reads from this database.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// Exact at any table size.
    ///
    /// # Errors
    /// PostgreSQL is away, busy or too slow.
    pub async fn handle(&self, query: SummaryQuery) -> Result<Summary, QueryFailure> {
        let work = async {
            let mut snapshot = self.database.snapshot().await?;
            let summary = EventAggregationService::summarize(snapshot.connection()?, query.window).await?;
            snapshot.finish().await?;
            Ok(summary)
        };
        self.database.answer(work).await
    }
}
