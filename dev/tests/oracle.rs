//! Who checks the checker? These tests do: each breaks something that the oracle must notice.

use anyhow::{Result, ensure};
use dev::database::Database;
use dev::load::LoadRecord;
use dev::oracle;
use dev::stack::Stack;
use dev::topics::EndOffsets;
use sqlx::raw_sql;

use super::a_load;

const GROUP: &str = "g";

/// A database in which a perfect worker has stored this load, and the end offsets that follow.
async fn stored(name: &str, sent: &[LoadRecord]) -> Result<(Database, EndOffsets)> {
    let database =
        Database::fresh(&Stack::find()?, &format!("analytics_test_{}_{name}", std::process::id())).await?;
    database.migrate_from_files().await?;
    let pool = &database.pool;
    let facts: Vec<_> = sent.iter().filter_map(|record| Some((record, record.fact()?))).collect();
    sqlx::query("SELECT create_event_partition(at) FROM unnest($1::timestamptz[]) AS at")
        .bind(facts.iter().map(|(_, fact)| fact.occurred_at).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    for (record, fact) in &facts {
        sqlx::query(
            "INSERT INTO analytics_events (id, event_type, source, occurred_at, actor_id, payload)
             VALUES (gen_random_uuid(), $1, $2, $3, $4, $5::text::jsonb)",
        )
        .bind(fact.event_type)
        .bind(fact.source)
        .bind(fact.occurred_at)
        .bind(&fact.actor)
        .bind(record.payload(fact))
        .execute(pool)
        .await?;
    }
    raw_sql(
        "INSERT INTO event_series (source, event_type) SELECT DISTINCT source, event_type FROM analytics_events;
         INSERT INTO event_counts
         SELECT hour, id, 0, sum(events), array_agg(events ORDER BY minute)
         FROM (SELECT h.hour, s.id, m.minute, (
                   SELECT count(*)::int FROM analytics_events e
                   WHERE e.event_type = s.event_type
                     AND date_trunc('minute', e.occurred_at) = h.hour + m.minute * interval '1 minute') AS events
               FROM event_series s, generate_series(0, 59) AS m(minute),
                    (SELECT DISTINCT date_trunc('hour', occurred_at) AS hour FROM analytics_events) h) counted
         GROUP BY hour, id",
    )
    .execute(pool)
    .await?;
    let totals = oracle::expected_totals(sent);
    for (table, columns, values) in [
        (
            "ingest_offsets",
            "start_offset, next_offset, epoch, backend_pid, backend_start, claimed_by",
            "0, $1, 1, 1, now(), ''",
        ),
        ("ingest_ledger", "incarnation, epoch, from_offset, to_offset, worker", "1, 1, 0, $1, ''"),
    ] {
        let insert = format!(
            "INSERT INTO {table} (consumer_group, topic, partition, events, duplicates, dead_letters, tombstones, {columns})
             VALUES ('{GROUP}', 't', 0, $2, $3, $4, $5, {values})"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(totals.records())
            .bind(totals.events)
            .bind(totals.duplicates)
            .bind(totals.dead_letters)
            .bind(totals.tombstones)
            .execute(pool)
            .await?;
    }
    Ok((database, EndOffsets::from([(("t".to_owned(), 0), totals.records())])))
}

async fn verdict(database: &Database, ends: &EndOffsets, sent: &[LoadRecord]) -> Result<()> {
    oracle::nothing_lost_nothing_twice(&database.pool, GROUP, sent).await?;
    oracle::counts_agree(&database.pool).await?;
    oracle::ledger_balances(&database.pool, GROUP, ends).await
}

#[tokio::test]
async fn it_is_content_with_a_perfect_worker_and_notices_every_flaw() -> Result<()> {
    let sent = a_load(51, 200);
    let (database, ends) = stored("oracle", &sent).await?;
    verdict(&database, &ends, &sent).await?;
    const LAST: &str = "(SELECT id FROM analytics_events ORDER BY occurred_at DESC LIMIT 1)";
    for (flaw, complaint) in [
        (format!("DELETE FROM analytics_events WHERE id = {LAST}"), "are not stored"),
        (
            format!(
                "INSERT INTO analytics_events SELECT gen_random_uuid(), event_type, source, occurred_at, ingested_at,
                 tenant_id, payload, actor_id FROM analytics_events WHERE id = {LAST}"
            ),
            "not sent, or twice",
        ),
        (
            format!("UPDATE analytics_events SET payload = payload || '{{\"more\":1.0}}' WHERE id = {LAST}"),
            "are not stored",
        ),
        (
            format!("UPDATE analytics_events SET occurred_at = occurred_at + interval '1 us' WHERE id = {LAST}"),
            "are not stored",
        ),
        ("UPDATE event_counts SET minutes[7] = minutes[7] + 1, total = total + 1".to_owned(), "disagree"),
        ("UPDATE event_counts SET total = total + 1".to_owned(), "disagree"),
        ("DELETE FROM event_counts".to_owned(), "disagree"),
        ("UPDATE ingest_offsets SET events = events - 1, duplicates = duplicates + 1".to_owned(), "the totals are"),
        ("UPDATE ingest_ledger SET from_offset = 1, events = events - 1".to_owned(), "t 0"),
        ("UPDATE ingest_ledger SET events = events - 1, duplicates = duplicates + 1".to_owned(), "t 0"),
        (
            format!(
                "INSERT INTO ingest_ledger (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, gaps,
                 reason, worker) VALUES ('{GROUP}', 't', 0, 1, 1, 0, 1, 1, 'not_delivered', '')"
            ),
            "without a reason",
        ),
    ] {
        let broken = database.copy(&format!("{}_flaw", database.name)).await?;
        raw_sql(sqlx::AssertSqlSafe(flaw.clone())).execute(&broken.pool).await?;
        let verdict = verdict(&broken, &ends, &sent).await;
        let said = verdict.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(said.contains(complaint), "{flaw}: the oracle says '{said}', not '… {complaint} …'");
        broken.remove().await?;
    }
    database.remove().await
}
