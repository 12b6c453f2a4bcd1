//! What PostgreSQL itself notes of every step of an offset, in a schema that the service does not know.

use anyhow::Result;
use sqlx::postgres::PgPool;

/// Puts the triggers on.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn install(pool: &PgPool) -> Result<()> {
    sqlx::raw_sql(include_str!("audit.sql")).execute(pool).await?;
    Ok(())
}

/// Every step that is not allowed, as sentences: an offset that went back, a step that does not begin where the one
/// before ended, a claim older than the one before it.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn faults(pool: &PgPool) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(include_str!("audit_faults.sql")).fetch_all(pool).await?)
}

/// How many steps there were.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn steps(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM audit.steps").fetch_one(pool).await?)
}
