//! What the tables hold, as values that can be compared.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

/// A row of `analytics_events`; the payload as PostgreSQL writes it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct EventRow {
    /// Its id.
    pub id: Uuid,
    /// What happened.
    pub event_type: String,
    /// Who says so.
    pub source: String,
    /// When.
    pub occurred_at: DateTime<Utc>,
    /// Whose.
    pub tenant_id: Option<String>,
    /// By whom.
    pub actor_id: Option<String>,
    /// `jsonb`'s own text: equal payloads have equal texts, every digit told.
    pub payload: String,
}

/// All events, in the key's order.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn events(pool: &PgPool) -> Result<Vec<EventRow>> {
    let rows = sqlx::query_as(
        "SELECT id, event_type, source, occurred_at, tenant_id, actor_id, payload::text AS payload
         FROM analytics_events ORDER BY occurred_at, id",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// A row of `dead_letters`.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DeadLetterRow {
    /// Whole name.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub record_offset: i64,
    /// The key's bytes.
    pub record_key: Option<Vec<u8>>,
    /// The value's bytes.
    pub record_value: Option<Vec<u8>>,
    /// `[[name, base64], …]`.
    pub record_headers: serde_json::Value,
    /// The record's time.
    pub record_timestamp: Option<DateTime<Utc>>,
    /// Of a closed list.
    pub class: String,
    /// For people.
    pub sentence: String,
}

/// All dead letters, by position.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn dead_letters(pool: &PgPool) -> Result<Vec<DeadLetterRow>> {
    let rows = sqlx::query_as(
        "SELECT topic, partition, record_offset, record_key, record_value, record_headers, record_timestamp, class,
                sentence
         FROM dead_letters ORDER BY topic, partition, record_offset",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// What became of records, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromRow)]
pub struct Totals {
    /// Became events.
    pub events: i64,
    /// Their event was there.
    pub duplicates: i64,
    /// Could not.
    pub dead_letters: i64,
    /// Had no value.
    pub tombstones: i64,
    /// Were no records.
    pub gaps: i64,
    /// Too old.
    pub expired: i64,
}

impl Totals {
    /// All records.
    #[must_use]
    pub fn records(&self) -> i64 {
        self.events + self.duplicates + self.dead_letters + self.tombstones + self.expired
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            duplicates: self.duplicates + other.duplicates,
            dead_letters: self.dead_letters + other.dead_letters,
            tombstones: self.tombstones + other.tombstones,
            gaps: self.gaps + other.gaps,
            expired: self.expired + other.expired,
        }
    }
}

/// The totals of a group over all its topics and all their incarnations, HTTP left out.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn totals(pool: &PgPool, group: &str) -> Result<Totals> {
    // The running totals are those of the present incarnation; the ledger keeps the others'.
    let row = sqlx::query_as(
        "SELECT coalesce(sum(events), 0)::bigint AS events, coalesce(sum(duplicates), 0)::bigint AS duplicates,
                coalesce(sum(dead_letters), 0)::bigint AS dead_letters,
                coalesce(sum(tombstones), 0)::bigint AS tombstones, coalesce(sum(gaps), 0)::bigint AS gaps,
                coalesce(sum(expired), 0)::bigint AS expired
         FROM (
             SELECT events, duplicates, dead_letters, tombstones, gaps, expired
             FROM ingest_offsets WHERE consumer_group = $1 AND topic <> '@http'
             UNION ALL
             SELECT l.events, l.duplicates, l.dead_letters, l.tombstones, l.gaps, l.expired
             FROM ingest_ledger l JOIN ingest_offsets o USING (consumer_group, topic, partition)
             WHERE l.consumer_group = $1 AND l.reason = 'consumed' AND l.incarnation < o.incarnation
         ) AS rows",
    );
    Ok(row.bind(group).fetch_one(pool).await?)
}

/// A row of `ingest_offsets` or `ingest_ledger`, as far as the ledger's balance needs it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct RangeRow {
    /// Whole name, or `@http`.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Of a recreated topic.
    pub incarnation: i32,
    /// First offset.
    pub start_offset: i64,
    /// Offset after the last.
    pub next_offset: i64,
    /// What became of them.
    #[sqlx(flatten)]
    pub totals: Totals,
}

/// How far a group has come, by topic and partition.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn offsets(pool: &PgPool, group: &str) -> Result<Vec<RangeRow>> {
    let rows = sqlx::query_as(
        "SELECT topic, partition, incarnation, start_offset, next_offset, events, duplicates, dead_letters, tombstones,
                gaps, expired
         FROM ingest_offsets WHERE consumer_group = $1 ORDER BY topic, partition",
    );
    Ok(rows.bind(group).fetch_all(pool).await?)
}

/// A group's claims in their order, with what each read.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn claims(pool: &PgPool, group: &str) -> Result<Vec<RangeRow>> {
    ledger(pool, group, "consumed").await
}

/// A group's rows of the ledger with this reason, in their order.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn ledger(pool: &PgPool, group: &str, reason: &str) -> Result<Vec<RangeRow>> {
    let rows = sqlx::query_as(
        "SELECT topic, partition, incarnation, from_offset AS start_offset, to_offset AS next_offset, events,
                duplicates, dead_letters, tombstones, gaps, expired
         FROM ingest_ledger WHERE consumer_group = $1 AND reason = $2
         ORDER BY topic, partition, incarnation, epoch, from_offset",
    );
    Ok(rows.bind(group).bind(reason).fetch_all(pool).await?)
}

/// Everything that reading a record again must not change: rows and a digest of their whole content, by table.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn content(pool: &PgPool) -> Result<BTreeMap<&'static str, (i64, String)>> {
    let mut content = BTreeMap::new();
    for table in ["analytics_events", "event_ids", "event_series", "event_counts", "dead_letters"] {
        let digest = format!(
            "SELECT count(*), coalesce(md5(string_agg(md5(row::text), '' ORDER BY md5(row::text))), '') FROM {table} row"
        );
        content.insert(table, sqlx::query_as(AssertSqlSafe(digest)).fetch_one(pool).await?);
    }
    Ok(content)
}
