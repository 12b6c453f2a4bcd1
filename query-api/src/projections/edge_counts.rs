//! The ragged ends of a window: the part of a minute before its first whole one and after its last.

use futures_util::{Stream, TryStreamExt as _};
use sqlx::PgConnection;

use super::failure::QueryFailure;
use crate::queries::range::Window;

/// Events of one type.
#[derive(Debug, sqlx::FromRow)]
pub struct EdgeCount {
    /// What happened.
    pub event_type: String,
    /// How often.
    pub events: i64,
}

/// Per type, of all tenants and sources.
///
/// # Errors
/// PostgreSQL is away or too slow.
pub fn read(
    connection: &mut PgConnection,
    edge: Window,
) -> impl Stream<Item = Result<EdgeCount, QueryFailure>> {
    let rows = sqlx::query_as(include_str!("edge_counts.sql")).bind(edge.start()).bind(edge.end());
    rows.fetch(connection).err_into()
}
