//! What PostgreSQL does with the same rows when somebody only copies them.

use anyhow::Result;
use futures_util::future::try_join_all;
use sqlx::postgres::PgPool;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use super::ingest::Micros;
use super::rows::Rows;
use crate::usage;

/// What PostgreSQL does at most.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// Rows a second.
    pub rate: f64,
    /// Microseconds of processor a row, all its processes.
    pub postgres_micros: f64,
}

/// So many COPY streams side by side into the empty table, each one transaction. `url` is the writer's.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn measure(url: &str, pool: &PgPool, rows: &Rows, random: bool, streams: usize) -> Result<Floor> {
    empty(pool).await?;
    let order = rows.order(random);
    let mut connections = try_join_all((0..streams).map(|_| PgConnection::connect(url))).await?;
    let postgres = usage::postmaster(pool).await?;
    let before = usage::of_family(postgres)?;
    let started = Instant::now();
    let copies = connections.iter_mut().enumerate().map(|(stream, connection)| {
        let own = order.iter().copied().skip(stream).step_by(streams);
        rows.copy(connection, own)
    });
    try_join_all(copies).await?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), usage::of_family(postgres)? - before);
    for connection in connections {
        connection.close().await?;
    }
    let each = Micros::each(rows.number())?;
    Ok(Floor { rate: 1e6 / each.of(seconds), postgres_micros: each.of(cpu) })
}

/// Everybody begins with an empty table and nothing left to be written to disk.
async fn empty(pool: &PgPool) -> Result<()> {
    sqlx::query("TRUNCATE analytics_events").execute(pool).await?;
    settle(pool).await
}

/// Has PostgreSQL write what it still holds back, so that nobody pays for the one before.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn settle(pool: &PgPool) -> Result<()> {
    sqlx::query("CHECKPOINT").execute(pool).await?;
    Ok(())
}
