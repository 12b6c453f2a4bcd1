//! The same questions after every scenario, whatever it did.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::postgres::PgPool;

use super::audit;
use crate::bench::Bench;
use crate::expected::Expected;
use crate::load::LoadRecord;
use crate::{oracle, tables};

/// What a scenario may cost.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// From the healing until everything is accounted for.
    pub recovery: Duration,
    /// Of any one worker.
    pub memory_kilobytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { recovery: Duration::from_secs(60), memory_kilobytes: 256 << 10 }
    }
}

/// What came of a scenario.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Records sent.
    pub records: i64,
    /// Events that were sent and are not stored as sent.
    pub lost: i64,
    /// Events stored that were not sent, or twice.
    pub doubled: i64,
    /// Differences between the read models and a recount, fifteen at most.
    pub wrong_counts: usize,
    /// Longest time from a healing until everything was accounted for.
    pub slowest_recovery: Duration,
    /// Of the largest worker.
    pub peak_memory_kilobytes: u64,
    /// Everything that is not as it must be, in sentences.
    pub faults: Vec<String>,
}

/// Fills in what the tables say of what is expected.
///
/// # Errors
/// A server does not answer; everything else is in the figures.
pub async fn judge(
    bench: &Bench,
    expected: &Expected,
    bounds: &Bounds,
    mut figures: Figures,
) -> Result<Figures> {
    let pool = &bench.database.pool;
    (figures.lost, figures.doubled) = oracle::lost_and_surplus(pool, expected).await?;
    let ends = bench.topics.ends(&bench.prefix).await?;
    for answer in [
        oracle::all_is_as_expected(pool, &bench.group, expected).await,
        dead_letters_are_those_expected(pool, &expected.dead_letters).await,
        oracle::ledger_balances(pool, &bench.group, &ends).await,
        memory_is_bounded(&figures, bounds),
    ] {
        figures.faults.extend(answer.err().map(|error| format!("{error:#}")));
    }
    if let Err(error) = oracle::counts_agree(pool).await {
        let sentence = format!("{error:#}");
        figures.wrong_counts = sentence.lines().count().saturating_sub(1).max(1);
        figures.faults.push(sentence);
    }
    figures.faults.extend(audit::faults(pool).await?);
    if figures.records > 0 && audit::steps(pool).await? == 0 {
        figures.faults.push("the triggers have noted nothing".to_owned());
    }
    Ok(figures)
}

/// Parts records that become events into those that are stored, exactly as sent, and the others.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn stored_or_not(
    pool: &PgPool,
    records: Vec<LoadRecord>,
) -> Result<(Vec<LoadRecord>, Vec<LoadRecord>)> {
    let (mut stored, mut missing) = (Vec::new(), Vec::new());
    for chunk in records.chunks(1_000) {
        let facts: Vec<_> = chunk.iter().filter_map(|record| Some((record, record.fact()?))).collect();
        let found: Vec<bool> = sqlx::query_scalar(include_str!("oracle_stored.sql"))
            .bind(facts.iter().map(|(_, fact)| fact.event_type).collect::<Vec<_>>())
            .bind(facts.iter().map(|(_, fact)| fact.source).collect::<Vec<_>>())
            .bind(facts.iter().map(|(_, fact)| fact.occurred_at).collect::<Vec<_>>())
            .bind(facts.iter().map(|(_, fact)| fact.actor.clone()).collect::<Vec<_>>())
            .bind(facts.iter().map(|(record, fact)| record.payload(fact)).collect::<Vec<_>>())
            .fetch_all(pool)
            .await?;
        for ((record, _), is_stored) in facts.into_iter().zip(found) {
            if is_stored { &mut stored } else { &mut missing }.push(record.clone());
        }
    }
    Ok((stored, missing))
}

/// No dead letter for a good record, none twice, none missing, each with its record's bytes.
async fn dead_letters_are_those_expected(pool: &PgPool, expected: &[Vec<u8>]) -> Result<()> {
    let mut balance: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for value in expected {
        *balance.entry(value.clone()).or_default() += 1;
    }
    for letter in tables::dead_letters(pool).await? {
        *balance.entry(letter.record_value.unwrap_or_default()).or_default() -= 1;
    }
    let wrong: Vec<_> = balance
        .iter()
        .filter(|(_, balance)| **balance != 0)
        .take(5)
        .map(|(value, balance)| {
            let text: String = String::from_utf8_lossy(value).chars().take(120).collect();
            format!("{} {}: {text}", balance.abs(), if *balance > 0 { "missing" } else { "too many" })
        })
        .collect();
    ensure!(wrong.is_empty(), "the dead letters are not those expected:\n{}", wrong.join("\n"));
    Ok(())
}

fn memory_is_bounded(figures: &Figures, bounds: &Bounds) -> Result<()> {
    let (peak, bound) = (figures.peak_memory_kilobytes >> 10, bounds.memory_kilobytes >> 10);
    ensure!(peak <= bound, "a worker took {peak} MiB of memory, {bound} are allowed");
    Ok(())
}
