//! What a lane's connection is to the others: its shard, its backend.

use sqlx::PgConnection;

use super::claims::Backend;
use super::failure::WriteFailure;

/// The first key of the advisory locks whose second key is a shard: "evct".
const SHARD_LOCKS: i32 = 0x6576_6374;

/// Takes the lowest free shard for this connection, for as long as it lives: no two lanes of any worker count in one row.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn acquire(connection: &mut PgConnection) -> Result<i16, WriteFailure> {
    let shard: Option<i16> = sqlx::query_scalar(
        "SELECT shard::smallint FROM generate_series(0, 32767) AS shard WHERE pg_try_advisory_lock($1::integer, shard) LIMIT 1",
    )
    .bind(SHARD_LOCKS)
    .fetch_optional(connection)
    .await?;
    shard.ok_or_else(|| WriteFailure::Unavailable("all shards are taken".to_owned()))
}

/// Which session this connection is.
///
/// # Errors
/// As [`WriteFailure`] says.
pub async fn backend(connection: &mut PgConnection) -> Result<Backend, WriteFailure> {
    let (pid, start) =
        sqlx::query_as("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            .fetch_one(connection)
            .await?;
    Ok(Backend { pid, start })
}
