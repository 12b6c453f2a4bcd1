//! What happened last.

use std::sync::Arc;

use crate::projections::database::Database;
use crate::projections::events::{self, EventRow};
use crate::projections::failure::QueryFailure;

/// The newest events.
#[derive(Debug, Clone, Copy)]
pub struct RecentEventsQuery {
    /// How many at most.
    pub limit: u16,
}

/// Answers [`RecentEventsQuery`].
pub struct RecentEventsHandler {
    database: Arc<Database>,
}

impl RecentEventsHandler {
    /// Reads from this database.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// Newest first, of one instant the highest id first.
    ///
    /// # Errors
    /// PostgreSQL is away, busy or too slow.
    pub async fn handle(&self, query: RecentEventsQuery) -> Result<Vec<EventRow>, QueryFailure> {
        let newest =
            self.database.statement(|connection| Box::pin(events::read_newest(connection, query.limit)));
        self.database.answer(newest).await
    }
}
