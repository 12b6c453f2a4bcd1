//! What must be true after anything that may have happened: nothing lost, nothing twice, the ledger adds up, the counts
//! agree with the events.

use anyhow::{Context as _, Result, ensure};
use sqlx::postgres::{PgConnection, PgPool};

use crate::expected::{Expected, ExpectedEvent};
use crate::load::LoadRecord;
use crate::tables::{self, RangeRow, Totals};
use crate::topics::EndOffsets;

/// How many rows a statement takes.
const CHUNK: usize = 2_000;

/// What a producer has sent must be there, to the last digit, and nothing else; each record under the right head.
///
/// # Errors
/// It is not so, or PostgreSQL does not answer.
pub async fn nothing_lost_nothing_twice(pool: &PgPool, group: &str, sent: &[LoadRecord]) -> Result<()> {
    all_is_as_expected(pool, group, &Expected::of(sent)).await
}

/// The same, whatever it is that was sent.
///
/// # Errors
/// It is not so, or PostgreSQL does not answer.
pub async fn all_is_as_expected(pool: &PgPool, group: &str, expected: &Expected) -> Result<()> {
    let mut connection = pool.acquire().await?;
    expect_events(&mut connection, &expected.events).await?;
    let missing = differences(&mut connection, include_str!("oracle_missing.sql")).await?;
    ensure!(missing.is_empty(), "events that were sent are not stored:\n{}", missing.join("\n"));
    let surplus = differences(&mut connection, include_str!("oracle_surplus.sql")).await?;
    ensure!(surplus.is_empty(), "events are stored that were not sent, or twice:\n{}", surplus.join("\n"));
    let twice: i64 = sqlx::query_scalar("SELECT count(*) - count(DISTINCT id) FROM analytics_events")
        .fetch_one(&mut *connection)
        .await?;
    ensure!(twice == 0, "{twice} ids are there more than once");
    let found = tables::totals(pool, group).await?;
    ensure!(expected.allows(&found), "the totals are {found:?}, not {:?}", expected.totals);
    Ok(())
}

/// How many events of those sent are not stored, and how many are stored that were not sent, or twice.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn lost_and_surplus(pool: &PgPool, expected: &Expected) -> Result<(i64, i64)> {
    let mut connection = pool.acquire().await?;
    expect_events(&mut connection, &expected.events).await?;
    Ok(sqlx::query_as(include_str!("oracle_numbers.sql")).fetch_one(&mut *connection).await?)
}

/// How many of these records must be counted under which head.
#[must_use]
pub fn expected_totals(sent: &[LoadRecord]) -> Totals {
    Expected::of(sent).totals
}

async fn expect_events(connection: &mut PgConnection, events: &[ExpectedEvent]) -> Result<()> {
    sqlx::raw_sql(include_str!("oracle_expected.sql")).execute(&mut *connection).await?;
    for chunk in events.chunks(CHUNK) {
        let types: Vec<_> = chunk.iter().map(|event| event.event_type.as_str()).collect();
        let sources: Vec<_> = chunk.iter().map(|event| event.source.as_str()).collect();
        let times: Vec<_> = chunk.iter().map(|event| event.occurred_at).collect();
        let actors: Vec<_> = chunk.iter().map(|event| event.actor.clone()).collect();
        let payloads: Vec<_> = chunk.iter().map(|event| event.payload.as_str()).collect();
        sqlx::query(
            "INSERT INTO expected SELECT type, source, at, actor, payload::jsonb::text
             FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
                  AS row(type, source, at, actor, payload)",
        )
        .bind(types)
        .bind(sources)
        .bind(times)
        .bind(actors)
        .bind(payloads)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn differences(connection: &mut PgConnection, statement: &'static str) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(statement).fetch_all(connection).await?)
}

/// The counts of every minute and series are those of the events, and each hour's total is the sum of its minutes.
///
/// # Errors
/// It is not so, or PostgreSQL does not answer.
pub async fn counts_agree(pool: &PgPool) -> Result<()> {
    let mut connection = pool.acquire().await?;
    let wrong = differences(&mut connection, include_str!("oracle_counts.sql")).await?;
    ensure!(wrong.is_empty(), "event_counts and analytics_events disagree:\n{}", wrong.join("\n"));
    Ok(())
}

/// Every offset of every partition is accounted for, in the running totals and claim by claim, up to these ends; every gap
/// has its reason, also those of incarnations that are over.
///
/// # Errors
/// It is not so, or PostgreSQL does not answer.
pub async fn ledger_balances(pool: &PgPool, group: &str, ends: &EndOffsets) -> Result<()> {
    let offsets = tables::offsets(pool, group).await?;
    let claims = tables::claims(pool, group).await?;
    for ((topic, partition), end) in ends {
        let own = |row: &&RangeRow| row.topic == *topic && row.partition == *partition;
        let place = format!("{topic} {partition}");
        let row = offsets.iter().find(own).with_context(|| format!("{place}: no row in ingest_offsets"))?;
        ensure!(row.next_offset == *end, "{place}: read up to {}, the end is {end}", row.next_offset);
    }
    for row in &offsets {
        let place = format!("{} {}", row.topic, row.partition);
        let own = |claim: &&RangeRow| {
            claim.topic == row.topic
                && claim.partition == row.partition
                && claim.incarnation == row.incarnation
        };
        follow(row, claims.iter().filter(own)).with_context(|| place)?;
    }
    let unexplained: Vec<String> =
        sqlx::query_scalar(include_str!("oracle_gaps.sql")).bind(group).fetch_all(pool).await?;
    ensure!(unexplained.is_empty(), "gaps without a reason:\n{}", unexplained.join("\n"));
    Ok(())
}

/// The claims of a partition follow each other without a hole and add up to its row.
fn follow<'a>(row: &RangeRow, claims: impl Iterator<Item = &'a RangeRow>) -> Result<()> {
    balanced(row).context("the running totals")?;
    let (mut reached, mut sum) = (row.start_offset, Totals::default());
    for claim in claims {
        balanced(claim).context("a claim")?;
        ensure!(
            claim.start_offset == reached,
            "a claim from {} follows one to {reached}",
            claim.start_offset
        );
        reached = claim.next_offset;
        sum = sum.plus(claim.totals);
    }
    ensure!(reached == row.next_offset, "the claims reach {reached}, the row {}", row.next_offset);
    ensure!(sum == row.totals, "the claims add up to {sum:?}, the row says {:?}", row.totals);
    Ok(())
}

fn balanced(row: &RangeRow) -> Result<()> {
    let accounted = row.totals.records() + row.totals.gaps;
    let length = row.next_offset - row.start_offset;
    ensure!(accounted == length, "account for {accounted} of {length} offsets from {}", row.start_offset);
    Ok(())
}
