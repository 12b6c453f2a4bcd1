//! Over HTTP: a summary equals a count of the rows, whatever the window.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use dev::bench::Bench;
use dev::clock;
use serde_json::Value;
use sqlx::postgres::PgPool;

use super::a_load;

const WINDOWS: usize = 80;

#[tokio::test]
async fn a_summary_equals_a_recount_for_any_window() -> Result<()> {
    let bench = Bench::new("agree").await?;
    let sent = a_load(41, 8_000);
    bench.produce(&sent, None).await?;
    let mut worker = bench.worker().await?;
    bench.settled(&bench.group, sent.len()).await?;
    worker.terminate(Duration::from_secs(30)).await?;
    let mut reader = bench.reader().await?;
    let mut random = fastrand::Rng::with_seed(41);
    for _ in 0..WINDOWS {
        let minutes =
            *random.choice(&[5, 6, 7, 60, 61, 119, 1_440, 1_441, 4_320, 10_080]).context("a length")?;
        let minutes = if random.bool() { minutes } else { random.i64(5..=10_080) };
        let end = clock::now() - TimeDelta::microseconds(random.i64(0..3 * 86_400_000_000));
        // A window's end is often whole: then no edge is ragged.
        let end = if random.u8(0..4) == 0 { shared::bucket::floor(end, TimeDelta::minutes(5)) } else { end };
        let reference = end.to_rfc3339_opts(SecondsFormat::Micros, true);
        let path = format!("/v1/analytics/metrics/summary?windowMinutes={minutes}&reference={reference}");
        let answer = reader.server.get_json(&path).await?;
        let end: DateTime<Utc> = reference.parse()?;
        let expected = recount(&bench.database.pool, end, minutes).await?;
        ensure!(told(&answer)? == expected, "{path}: {answer}, not {expected:?}");
    }
    reader.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

/// A summary as plain values.
#[derive(Debug, PartialEq)]
struct Counts {
    start: String,
    end: String,
    per_type: BTreeMap<String, i64>,
    per_interval: Vec<(String, i64)>,
}

fn told(answer: &Value) -> Result<Counts> {
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).map(str::to_owned).context("no text")
    };
    let number = |value: &Value| value.as_i64().context("no number");
    let types = answer.get("eventsPerType").and_then(Value::as_object).context("no eventsPerType")?;
    let intervals =
        answer.get("eventsPerInterval").and_then(Value::as_array).context("no eventsPerInterval")?;
    let per_type = types.iter().map(|(name, count)| Ok((name.clone(), number(count)?)));
    let per_interval =
        intervals.iter().map(|bucket| Ok((text(bucket, "bucketStart")?, number(&bucket["count"])?)));
    Ok(Counts {
        start: text(answer, "windowStart")?,
        end: text(answer, "windowEnd")?,
        per_type: per_type.collect::<Result<_>>()?,
        per_interval: per_interval.collect::<Result<_>>()?,
    })
}

/// The same from the rows themselves, by nothing but their times.
async fn recount(pool: &PgPool, end: DateTime<Utc>, minutes: i64) -> Result<Counts> {
    let start = end - TimeDelta::minutes(minutes);
    let width = TimeDelta::minutes((minutes / 6).max(5));
    let rows: Vec<(String, DateTime<Utc>)> = sqlx::query_as(
        "SELECT event_type, occurred_at FROM analytics_events WHERE occurred_at >= $1 AND occurred_at < $2",
    )
    .bind(start)
    .bind(end)
    .fetch_all(pool)
    .await?;
    let (mut per_type, mut per_interval) = (BTreeMap::new(), BTreeMap::new());
    for (event_type, at) in rows {
        *per_type.entry(event_type).or_default() += 1;
        *per_interval.entry(shared::bucket::floor(at, width)).or_default() += 1;
    }
    Ok(Counts {
        start: shared::instant::format(start),
        end: shared::instant::format(end),
        per_type,
        per_interval: per_interval
            .into_iter()
            .map(|(at, count)| (shared::instant::format(at), count))
            .collect(),
    })
}
