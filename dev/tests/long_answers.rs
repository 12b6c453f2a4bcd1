//! Answers are bounded in bytes: whatever is stored, the reader's memory is, and others are served meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dev::bench::Bench;
use futures_util::future::try_join_all;
use serde_json::json;

const RECENT: &str = "/v1/analytics/events/recent";
/// Megabytes of resident memory that the reader may have taken at its peak.
const MOST: f64 = 200.0;

/// `{"x":[1e131071, …]}`, 9 bytes each, of which PostgreSQL makes 131,074.
fn growing(numbers: usize) -> String {
    let numbers = vec!["1e131071"; numbers].join(",");
    format!(r#"{{"eventType":"grows","source":"tests","payload":{{"x":[{numbers}]}}}}"#)
}

#[tokio::test]
async fn a_payload_that_grows_is_refused_and_long_ones_are_sent_within_a_bound() -> Result<()> {
    let bench = Bench::new("long").await?;
    let (mut worker, mut reader) = (bench.worker().await?, bench.reader().await?);
    for numbers in [1_000, 9_000] {
        let answer = worker.server.post("/v1/analytics/events", growing(numbers)).await?;
        ensure!(answer.status.as_u16() == 422, "{} {}", answer.status, answer.text);
        let error = &answer.json["errors"][0];
        ensure!(error["parameter"] == "payload" && error["allowed"] == "at most 8388608 bytes", "{error}");
    }
    // As much as passes.
    let answer = worker.server.post("/v1/analytics/events", growing(60)).await?;
    ensure!(answer.status.as_u16() == 201, "{} {}", answer.status, answer.text);
    let longest = reader.server.get(RECENT).await?;
    ensure!(longest.status.as_u16() == 200 && longest.text.len() > 7_864_000, "{} bytes", longest.text.len());

    // Fifty of 1 MiB that hardly compress, the default page, and as many of the longest.
    sqlx::raw_sql(
        "SELECT create_event_partition('2030-01-01Z');
         INSERT INTO analytics_events (id, event_type, source, occurred_at, payload, payload_bytes)
         SELECT gen_random_uuid(), 'long', 'tests', '2030-01-02Z'::timestamptz + number * interval '1 s',
                jsonb_build_object('t', (SELECT string_agg(md5(number::text || part::text), '') FROM generate_series(1, 32700) AS part)),
                1046409
         FROM generate_series(1, 50) AS number;
         INSERT INTO analytics_events (id, event_type, source, occurred_at, payload, payload_bytes)
         SELECT gen_random_uuid(), 'grows', 'tests', '2030-01-01Z'::timestamptz + number * interval '1 s',
                ('{\"x\":[' || repeat('1e131071,', 59) || '1e131071]}')::jsonb, 7864447
         FROM generate_series(1, 10) AS number",
    )
    .execute(&bench.database.pool)
    .await?;
    let clients = try_join_all((0..3).map(|_| reader.server.get(RECENT)));
    let others = async {
        for _ in 0..10 {
            let asked = Instant::now();
            reader.server.get_json("/health/ready").await?;
            reader.server.get_json("/v1/analytics/metrics/summary").await?;
            ensure!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        }
        Ok(())
    };
    let (answers, others) = tokio::join!(clients, others);
    others?;
    for answer in answers? {
        ensure!(answer.status.as_u16() == 200 && answer.text.len() > 52_000_000, "{}", answer.status);
        ensure!(answer.json["count"] == json!(50), "{}", answer.json["count"]);
    }
    ensure!(reader.peak_megabytes()? < MOST, "{} MiB after pages of 50 MiB", reader.peak_megabytes()?);

    sqlx::raw_sql("DELETE FROM analytics_events WHERE event_type = 'long'")
        .execute(&bench.database.pool)
        .await?;
    let path = format!("{RECENT}?limit=10");
    for answer in try_join_all((0..3).map(|_| reader.server.get(&path))).await? {
        ensure!(
            answer.text.len() > 78_000_000 && answer.text.ends_with(r#"],"count":10}"#),
            "{}",
            answer.text.len()
        );
    }
    let peak = reader.peak_megabytes()?;
    ensure!(peak < MOST, "{peak} MiB after pages of 78 MB");
    worker.terminate(Duration::from_secs(30)).await?;
    reader.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}
