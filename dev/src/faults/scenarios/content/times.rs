use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Datelike as _, Months, NaiveTime, TimeDelta, Utc};

use super::canonical::Canonical;
use crate::clock;
use crate::faults::{DRAIN, Scene};

/// Events around each instant.
const AROUND: [i64; 9] =
    [-3_600_000_000, -1_000_000, -1, 0, 1, 1_000_000, 59_999_999, 60_000_000, 3_600_000_000];

/// Late, early, and at all seams of the calendar, in any order among an ordinary load.
pub(super) async fn shuffled(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    let mut number = 0;
    for _ in 0..scene.rounds {
        let mut records = Vec::new();
        for seam in seams(clock::now())? {
            for offset in AROUND {
                number += 1;
                let event = Canonical::new(None, seam + TimeDelta::microseconds(offset), number);
                records.push(event.first(scene.random.i32(0..3)));
            }
        }
        scene.random.shuffle(&mut records);
        let (own, load) = tokio::join!(scene.send_own(&records), scene.produce(1_000));
        own.and(load)?;
        scene.healed();
        scene.caught_up().await?;
    }
    lie_in_their_months(scene).await?;
    worker.ready().await?;
    worker.terminate(DRAIN).await
}

fn seams(now: DateTime<Utc>) -> Result<Vec<DateTime<Utc>>> {
    let now = now - TimeDelta::nanoseconds(i64::from(now.timestamp_subsec_nanos() % 1_000));
    let midnight = now.date_naive().and_time(NaiveTime::MIN).and_utc();
    let month = midnight.with_day(1).context("each month has a first day")?;
    let mut seams = vec![now - TimeDelta::days(30), now + TimeDelta::hours(1), midnight, month];
    for months in [1, 2, 11, 25] {
        seams.push(month.checked_sub_months(Months::new(months)).context("there is such a month")?);
    }
    for text in [
        // Clocks are changed in Europe and in America.
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2025-11-02T06:00:00Z",
        // A leap day and a year's end.
        "2024-02-29T00:00:00Z",
        "2024-03-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    ] {
        seams.push(text.parse()?);
    }
    Ok(seams)
}

/// Each event lies in the partition of its month.
async fn lie_in_their_months(scene: &Scene) -> Result<()> {
    let (astray, months): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE tableoid::regclass::text
                                       <> to_char(occurred_at AT TIME ZONE 'UTC', '\"analytics_events_\"YYYY_MM')),
                count(DISTINCT tableoid)
         FROM analytics_events",
    )
    .fetch_one(&scene.bench.database.pool)
    .await?;
    ensure!(astray == 0, "{astray} events lie in another month's partition");
    ensure!(months >= 8, "only {months} months: the seams were not met");
    Ok(())
}
