use std::collections::BTreeMap;

use ingest_worker::batch::Totals;
use sqlx::{AssertSqlSafe, PgPool};

use crate::given::GROUP;

/// Every table that the transaction writes.
pub const WRITTEN: [&str; 6] =
    ["analytics_events", "event_ids", "event_counts", "dead_letters", "ingest_offsets", "ingest_ledger"];

/// The rows of one table, as text, in order.
pub async fn rows(pool: &PgPool, table: &str) -> Vec<String> {
    let statement = format!("SELECT t::text FROM {table} t ORDER BY 1");
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(pool).await.unwrap()
}

/// All that the transaction may write.
pub async fn everything(pool: &PgPool) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for table in WRITTEN {
        tables.insert(table, rows(pool, table).await);
    }
    tables
}

/// What a reader's answer depends on: never the bookkeeping of offsets.
pub async fn answers(pool: &PgPool) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = everything(pool).await;
    tables.retain(|table, _| !table.starts_with("ingest_"));
    tables
}

pub async fn number(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

pub async fn events(pool: &PgPool) -> i64 {
    number(pool, "SELECT count(*) FROM analytics_events").await
}

pub async fn next_offset(pool: &PgPool, partition: i32) -> i64 {
    sqlx::query_scalar(
        "SELECT next_offset FROM ingest_offsets WHERE topic <> '@http' AND partition = $1::integer",
    )
    .bind(partition)
    .fetch_one(pool)
    .await
    .unwrap()
}

/// What became of the records of a partition.
pub async fn totals(pool: &PgPool, partition: i32) -> Totals {
    let (events, duplicates, dead_letters, tombstones, gaps, expired) = sqlx::query_as(
        "SELECT events, duplicates, dead_letters, tombstones, gaps, expired
         FROM ingest_offsets WHERE consumer_group = $1::text AND partition = $2::integer",
    )
    .bind(GROUP)
    .bind(partition)
    .fetch_one(pool)
    .await
    .unwrap();
    Totals { events, duplicates, dead_letters, tombstones, gaps, expired }
}

/// The books agree with each other and with the rows: counts with a recount, totals with offsets, ledger with totals.
pub async fn check_books(pool: &PgPool) {
    for (statement, wrong) in [
        (include_str!("wrong_counts.sql"), "event_counts differ from a recount"),
        (include_str!("wrong_totals.sql"), "the ledger differs from the totals"),
        (
            "SELECT o::text FROM ingest_offsets o WHERE next_offset - start_offset
                 <> events + duplicates + dead_letters + tombstones + gaps + expired",
            "the totals do not add up to the offsets",
        ),
        (
            "SELECT l::text FROM ingest_ledger l WHERE to_offset - from_offset
                 <> events + duplicates + dead_letters + tombstones + gaps + expired AND reason <> 'not_delivered'",
            "a ledger row does not add up to its range",
        ),
        (
            "SELECT l::text FROM ingest_ledger l WHERE reason = 'not_delivered' AND NOT (gaps BETWEEN 1 AND to_offset - from_offset
                 AND events + duplicates + dead_letters + tombstones + expired = 0
                 AND EXISTS (SELECT FROM ingest_ledger c WHERE c.reason = 'consumed' AND c.gaps = l.gaps
                     AND (c.consumer_group, c.topic, c.partition, c.incarnation, c.epoch, c.from_offset)
                         = (l.consumer_group, l.topic, l.partition, l.incarnation, l.epoch, l.from_offset)
                     AND c.to_offset >= l.to_offset))",
            "the holes of a claim are not those of its row",
        ),
        (
            "SELECT i::text FROM event_ids i JOIN event_retention ON i.occurred_at >= horizon
             WHERE NOT EXISTS (SELECT FROM analytics_events e WHERE (e.occurred_at, e.id) = (i.occurred_at, i.id))",
            "an id from outside has no event",
        ),
    ] {
        let rows: Vec<String> = sqlx::query_scalar(statement).fetch_all(pool).await.unwrap();
        assert_eq!(rows, Vec::<String>::new(), "{wrong}");
    }
}
