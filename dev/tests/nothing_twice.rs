//! Reading everything again changes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use dev::bench::Bench;
use dev::load::CANONICAL_TOPIC;
use dev::produce::Record;
use dev::{oracle, tables};
use serde_json::json;
use uuid::Uuid;

use super::a_load;

/// Canonical events, with an id of their own and without.
fn canonical(count: u128) -> Vec<Record> {
    let event = |number: u128| {
        let mut event = json!({
            "eventType": "lesson.opened", "source": "lessons", "occurredAt": "2025-11-16T18:14:00.000001Z",
            "payload": { "studentId": format!("s-{}", number % 7), "number": number.to_string() },
        });
        if number.is_multiple_of(2) {
            event["id"] = json!(Uuid::from_u128(0x5f2c_3f5e_6e2b_4a2d_8f5e_0000_0000_0000 + number));
        }
        Record {
            topic: CANONICAL_TOPIC.to_owned(),
            value: Some(event.to_string().into_bytes()),
            ..Record::default()
        }
    };
    (0..count).map(event).collect()
}

#[tokio::test]
async fn a_second_group_changes_no_row() -> Result<()> {
    let bench = Bench::new("twice").await?;
    let (sent, canonical) = (a_load(21, 8_000), canonical(200));
    bench.produce(&sent, None).await?;
    bench.produce_records(&canonical).await?;
    let records = sent.len() + canonical.len();

    let mut first = bench.worker().await?;
    bench.settled(&bench.group, records).await?;
    first.terminate(Duration::from_secs(30)).await?;
    let pool = &bench.database.pool;
    let (before, expected) = (tables::content(pool).await?, tables::totals(pool, &bench.group).await?);
    ensure!(
        before["analytics_events"].0 == expected.events && expected.dead_letters > 0,
        "{before:?}, {expected:?}"
    );
    ensure!(before["event_ids"].0 == 100, "{before:?}");

    let again = format!("{}-again", bench.group);
    let mut second = bench.start_worker(bench.worker_settings(&again))?;
    bench.settled(&again, records).await?;
    second.terminate(Duration::from_secs(30)).await?;
    let after = tables::content(pool).await?;
    ensure!(after == before, "before {before:?}, after {after:?}");
    let found = tables::totals(pool, &again).await?;
    let nothing_new = found.events == 0 && found.duplicates == expected.events + expected.duplicates;
    let others = found.dead_letters == expected.dead_letters && found.tombstones == expected.tombstones;
    ensure!(nothing_new && others, "the second group counts {found:?}, the first {expected:?}");
    oracle::ledger_balances(pool, &again, &bench.topics.ends(&bench.prefix).await?).await?;
    oracle::counts_agree(pool).await?;
    bench.remove().await
}
