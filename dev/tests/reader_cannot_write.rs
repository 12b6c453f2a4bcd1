//! The reader's login may look and nothing else.

use anyhow::{Result, bail, ensure};
use dev::database::Database;
use dev::stack::{Login, Stack};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

#[tokio::test]
async fn every_write_is_refused() -> Result<()> {
    let stack = Stack::find()?;
    let database = Database::fresh(&stack, &format!("analytics_test_{}_reader", std::process::id())).await?;
    database.migrate_from_files().await?;
    // A partition is a table too.
    sqlx::query("SELECT create_event_partition('2025-11-16Z')").execute(&database.pool).await?;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT ON (c.table_name) c.table_name::text, c.column_name::text
         FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND c.is_identity = 'NO' ORDER BY c.table_name",
    )
    .fetch_all(&database.pool)
    .await?;
    ensure!(columns.len() >= 9, "only these tables: {columns:?}");

    let mut reader = PgConnection::connect(&database.url(Login::Reader)).await?;
    for (table, column) in &columns {
        refused(&mut reader, format!("INSERT INTO {table} DEFAULT VALUES")).await?;
        refused(&mut reader, format!("UPDATE {table} SET {column} = {column}")).await?;
        refused(&mut reader, format!("DELETE FROM {table}")).await?;
        refused(&mut reader, format!("TRUNCATE {table}")).await?;
        // A partition is read through its parent.
        if !table.starts_with("analytics_events_") && !table.starts_with('_') {
            sqlx::raw_sql(AssertSqlSafe(format!("SELECT * FROM {table} LIMIT 1")))
                .execute(&mut reader)
                .await?;
        }
    }
    refused(&mut reader, "SELECT create_event_partition(now())".to_owned()).await?;
    refused(&mut reader, "SELECT drop_event_partitions(now())".to_owned()).await?;
    refused(&mut reader, "SELECT grant_analytics_privileges()".to_owned()).await?;
    refused(&mut reader, "SET ROLE analytics_writer".to_owned()).await?;
    reader.close().await?;
    database.remove().await
}

/// Refused for want of a privilege, for no other reason.
async fn refused(reader: &mut PgConnection, statement: String) -> Result<()> {
    match sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(reader).await {
        Ok(_) => bail!("allowed: {statement}"),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => Ok(()),
        Err(error) => bail!("{statement}: {error}"),
    }
}
