//! Without a terminal: the answers must be those that follow from what was produced.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::{SubsecRound as _, TimeDelta};
use serde_json::Value;

use super::Place;
use super::live::addresses;
use super::loading::{Work, rate};
use super::produced::Newest;
use super::steps::{Steps, grouped};
use crate::clock;
use crate::oracle;
use crate::processes::Process;
use crate::tables;
use crate::wait::eventually;

/// The longest window there is.
const WINDOW_MINUTES: i64 = 10_080;
const RECENT: usize = 50;

/// Makes every check and says how each went.
pub(super) async fn run(
    steps: &Steps,
    place: &Place,
    work: &Work,
    worker: &Process,
    reader: &Process,
) -> Result<()> {
    let pool = &place.database.pool;
    steps.say("\nThe answers, against what was produced:");
    let summary = summary(reader).await;
    let outcomes = [
        ("every record is accounted for", accounted(place, work).await),
        ("summary over seven days: events by type", per_type(&summary, work)),
        ("summary over seven days: events by interval", per_interval(&summary, work)),
        ("recent: the newest events, whole", recent(reader, work).await),
        (
            "event counts equal a recount of the events",
            oracle::counts_agree(pool).await.map(|()| String::new()),
        ),
        ("the ledger adds up to Kafka's end offsets", ledger(place).await),
        ("an event that is posted is in recent", posted(worker, reader).await),
    ];
    let mut failures = Vec::new();
    for (what, outcome) in outcomes {
        match outcome {
            Ok(detail) => steps.say(format!("  ✓ {what:46} {detail}").trim_end()),
            Err(error) => {
                steps.say(&format!("  ✗ {what:46} {error:#}"));
                failures.push(what);
            }
        }
    }
    figures(steps, work, worker, reader)?;
    addresses(steps, worker, reader);
    if !failures.is_empty() {
        bail!("{} of the checks failed: {}", failures.len(), failures.join("; "));
    }
    Ok(())
}

async fn accounted(place: &Place, work: &Work) -> Result<String> {
    let found = tables::totals(&place.database.pool, &place.group).await?;
    let expected = work.produced.totals;
    ensure!(found == expected, "{found:?}, not {expected:?}");
    let stored = tables::dead_letters(&place.database.pool).await?.len();
    ensure!(stored == 0, "{stored} dead letters");
    let (events, duplicates) = (grouped(found.events), grouped(found.duplicates));
    Ok(format!("{events} events, {duplicates} duplicates, 0 dead letters"))
}

/// All that was produced lies in it.
async fn summary(reader: &Process) -> Result<Value> {
    let reference = clock::now().trunc_subsecs(0) + TimeDelta::seconds(2);
    let reference = reference.format("%Y-%m-%dT%H:%M:%SZ");
    let path = format!("/v1/analytics/metrics/summary?windowMinutes={WINDOW_MINUTES}&reference={reference}");
    reader.server.get_json(&path).await
}

/// The answer, or why there is none.
fn answered(summary: &Result<Value>) -> Result<&Value> {
    summary.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
}

fn per_type(summary: &Result<Value>, work: &Work) -> Result<String> {
    let types =
        answered(summary)?.get("eventsPerType").and_then(Value::as_object).context("no eventsPerType")?;
    let found: BTreeMap<_, _> =
        types.iter().map(|(name, count)| (name.as_str(), count.as_u64().unwrap_or(0))).collect();
    ensure!(found == work.produced.per_type, "{found:?}, not {:?}", work.produced.per_type);
    Ok(format!("{} types, {} events", found.len(), grouped(found.values().sum::<u64>())))
}

fn per_interval(summary: &Result<Value>, work: &Work) -> Result<String> {
    let intervals = answered(summary)?.get("eventsPerInterval").and_then(Value::as_array);
    let interval = |interval: &Value| {
        Some((interval.get("bucketStart")?.as_str()?.to_owned(), interval.get("count")?.as_u64()?))
    };
    let found: Option<BTreeMap<_, _>> =
        intervals.context("no eventsPerInterval")?.iter().map(interval).collect();
    let found = found.context("an interval without bucketStart or count")?;
    let expected = work.produced.per_interval(TimeDelta::minutes((WINDOW_MINUTES / 6).max(5)));
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(format!("{} intervals", found.len()))
}

async fn recent(reader: &Process, work: &Work) -> Result<String> {
    let answer = reader.server.get_json(&format!("/v1/analytics/events/recent?limit={RECENT}")).await?;
    let items = answer.get("items").and_then(Value::as_array).context("no items")?;
    let text =
        |item: &Value, name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let found = |item: &Value| Newest {
        event_type: text(item, "eventType"),
        source: text(item, "source"),
        occurred_at: text(item, "occurredAt"),
        payload: item.get("payload").cloned().unwrap_or_default(),
    };
    let mut found: Vec<_> = items.iter().map(found).collect();
    let mut expected: Vec<_> = work.produced.newest(RECENT).into_iter().cloned().collect();
    ensure!(found.len() == expected.len(), "{} events, not {}", found.len(), expected.len());
    ensure!(found.is_sorted_by(|one, next| one.occurred_at >= next.occurred_at), "not newest first");
    // Among events of one microsecond the id decides, which is not known here.
    let by_content = |event: &Newest| (event.occurred_at.clone(), event.payload.to_string());
    found.sort_by_key(by_content);
    expected.sort_by_key(by_content);
    for (found, expected) in found.iter().zip(&expected) {
        ensure!(found == expected, "{found:?}, not {expected:?}");
    }
    Ok(format!("{} events", found.len()))
}

async fn ledger(place: &Place) -> Result<String> {
    let ends = place.topics.ends(&place.prefix).await?;
    oracle::ledger_balances(&place.database.pool, &place.group, &ends).await?;
    Ok(format!("{} partitions", ends.len()))
}

/// Posts one event and waits until `recent` has it: at once, since it was committed before the answer.
async fn posted(worker: &Process, reader: &Process) -> Result<String> {
    let body = r#"{"eventType":"demo.greeting","source":"demo","payload":{"hello":"world"}}"#;
    let answer = worker.server.post("/v1/analytics/events", body).await?;
    ensure!(answer.status.as_u16() == 201, "POST answers {}: {}", answer.status, answer.text);
    let id = answer.json.get("id").and_then(Value::as_str).context("the answer has no id")?;
    eventually("the event is in recent", Duration::from_secs(5), async || {
        let recent = reader.server.get_json("/v1/analytics/events/recent?limit=5").await?;
        let items = recent.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(items.into_iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id)))
    })
    .await?;
    Ok(format!("id {id}"))
}

fn figures(steps: &Steps, work: &Work, worker: &Process, reader: &Process) -> Result<()> {
    let memory = |process: &Process| -> Result<String> {
        let (peak, now) = (process.kilobytes("VmHWM")?, process.kilobytes("VmRSS")?);
        Ok(format!("{} MB, at most {} MB", now / 1024, peak / 1024))
    };
    steps.say("");
    steps.say(&format!(
        "  end to end        {} records in {:.1} s, {} a second",
        grouped(work.records as u64),
        work.took.as_secs_f64(),
        rate(work.records, work.took)
    ));
    steps.say(&format!("  ingest-worker     {} of memory", memory(worker)?));
    steps.say(&format!("  query-api         {} of memory", memory(reader)?));
    Ok(())
}
