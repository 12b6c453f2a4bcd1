use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Datelike as _, Months, NaiveTime, TimeDelta, Utc};
use tokio::time::sleep;

use super::server::{MET, number, recovers, run, session, settled_worker, sql};
use crate::clock;
use crate::faults::{DRAIN, Scene, Worker};
use crate::load::{Load, LoadPlan, LoadRecord, Order, Outcome};
use crate::wait::until;

const CHUNK: usize = 300;
/// No lane waits longer for what is done to partitions.
const STALL: Duration = Duration::from_secs(5);
/// While a month is made beside others.
const SHORT_STALL: Duration = Duration::from_secs(2);
/// How long a reader holds the table if it is in the way.
const HELD: Duration = Duration::from_secs(4);
/// Old months that retention drops in a round.
const OLD_MONTHS: u32 = 6;

/// The month's partition is gone, so two workers and all their lanes make it at once.
pub async fn partition_missing(scene: &mut Scene) -> Result<()> {
    scene.produce(CHUNK).await?;
    let mut workers = [settled_worker(scene).await?, scene.start(scene.settings())?];
    for worker in &mut workers {
        worker.ready().await?;
    }
    // A lane that has not stored anything of this month yet would make it before anybody misses it.
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await?;
    for round in 1..=scene.rounds {
        let retries = refused_for_its_month(&workers).await?;
        take_away(scene, clock::now()).await?;
        // A repetition of what lies in the partition that is away would count as new.
        let mut records = scene.next_records(2 * CHUNK);
        records.retain(|record| record.becomes != Outcome::Duplicate);
        scene.send(records).await?;
        scene.healed();
        scene.caught_up().await.with_context(|| format!("round {round}"))?;
        give_back(scene).await?;
        let met = refused_for_its_month(&workers).await? - retries;
        ensure!(met >= 1.0, "round {round}: nobody missed the partition");
    }
    for mut worker in workers {
        worker.ready().await?;
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}

async fn refused_for_its_month(workers: &[Worker]) -> Result<f64> {
    let mut sum = 0.0;
    for worker in workers {
        sum += worker.metric(r#"analytics_ingest_retries_total{cause="missing_partition"}"#).await?;
    }
    Ok(sum)
}

/// Retention drops old months one by one while records flow: nobody waits for it.
pub async fn partitions_dropped(scene: &mut Scene) -> Result<()> {
    scene.produce(CHUNK).await?;
    let mut worker = settled_worker(scene).await?;
    let traffic = scene.produce_in_background(300.0);
    let month = |ago: u32| months_before(clock::now(), ago);
    let oldest = OLD_MONTHS * scene.rounds + 3;
    for ago in 4..=oldest {
        sql(scene, &format!("SELECT create_event_partition('{}')", month(ago))).await?;
    }
    let mut retention = session(scene).await?;
    run(&mut retention, "SET lock_timeout = '200ms'").await?;
    let started = clock::now();
    let mut dropped = 0;
    for ago in (4..=oldest).rev() {
        let horizon = first_of_month(month(ago - 1));
        until("a month is dropped", MET, async || {
            let drop = sqlx::query_scalar::<_, String>("SELECT drop_event_partitions($1)").bind(horizon);
            dropped += drop.fetch_all(&mut retention).await?.len();
            Ok(true)
        })
        .await?;
        sleep(Duration::from_millis(300)).await;
    }
    ensure!(dropped == usize::try_from(oldest - 3)?, "only {dropped} months were dropped");
    nobody_waited(scene, started, STALL).await?;
    traffic.stop().await?;
    recovers(scene, &mut worker).await?;
    worker.terminate(DRAIN).await
}

/// A month's partition must be made while a long query reads the events (it is made all the same), and while an ANALYZE that
/// does not end is at work on them (whoever needs no new month goes on).
pub async fn partition_made_beside_readers(scene: &mut Scene) -> Result<()> {
    scene.produce(CHUNK).await?;
    let mut worker = settled_worker(scene).await?;
    let traffic = scene.produce_in_background(200.0);
    let mut months_ago = 1;
    for round in 1..=scene.rounds {
        for (deed, in_the_way) in [("SELECT count(*) FROM", false), ("ANALYZE", true)] {
            months_ago += 1;
            beside(scene, &format!("{deed} analytics_events"), months_ago, in_the_way).await.with_context(
                || format!("round {round}, beside {deed}; {}", worker.process().last_lines()),
            )?;
            recovers(scene, &mut worker).await?;
        }
    }
    traffic.stop().await?;
    recovers(scene, &mut worker).await?;
    worker.terminate(DRAIN).await
}

async fn beside(scene: &mut Scene, statement: &str, months_ago: u32, in_the_way: bool) -> Result<()> {
    let month = first_of_month(months_before(clock::now(), months_ago));
    let mut reader = session(scene).await?;
    run(&mut reader, &format!("BEGIN; {statement}")).await?;
    let started = clock::now();
    let record = one_record_of(month, scene.random.u64(..))?;
    scene.send(vec![record]).await?;
    let stored = format!(
        "SELECT count(*) FROM analytics_events WHERE occurred_at BETWEEN '{month}' AND timestamptz '{month}' + interval '1 month'"
    );
    let made = until("the month is made", HELD, async || Ok(number(scene, &stored).await? > 0)).await;
    ensure!(made.is_err() == in_the_way, "made beside it: {}", made.is_ok());
    nobody_waited(scene, started, SHORT_STALL).await?;
    run(&mut reader, "COMMIT").await
}

/// An event of a month in which nothing else happens.
fn one_record_of(month: DateTime<Utc>, seed: u64) -> Result<LoadRecord> {
    let from = month + TimeDelta::days(1);
    let plan = LoadPlan {
        seed,
        records: 100,
        from,
        until: from + TimeDelta::days(1),
        order: Order::Live,
        faults_per_mille: 0,
    };
    Load::new(plan).find(|record| record.fact().is_some()).context("no event in a hundred records")
}

/// Moves the partition of this month out of the table.
async fn take_away(scene: &Scene, moment: DateTime<Utc>) -> Result<()> {
    let name = moment.format("analytics_events_%Y_%m");
    let detach = format!(
        "BEGIN; ALTER TABLE analytics_events DETACH PARTITION {name}; ALTER TABLE {name} RENAME TO kept_away; COMMIT"
    );
    sql(scene, &detach).await
}

/// What [`take_away`] has moved is in the table again.
async fn give_back(scene: &Scene) -> Result<()> {
    sql(scene, "BEGIN; INSERT INTO analytics_events SELECT * FROM kept_away; DROP TABLE kept_away; COMMIT")
        .await
}

/// Since then some lane or other has written without a longer pause than this.
async fn nobody_waited(scene: &Scene, since: DateTime<Utc>, limit: Duration) -> Result<()> {
    let pause: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM max(pause))::float8 FROM (
             SELECT at - lag(at) OVER (ORDER BY at) AS pause FROM (
                 SELECT noted_at AS at FROM audit.steps WHERE noted_at >= $1 AND next_offset > old_next_offset
                 UNION ALL VALUES ($1), (clock_timestamp())) AS steps) AS pauses",
    )
    .bind(since)
    .fetch_one(&scene.bench.database.pool)
    .await?;
    ensure!(pause < limit.as_secs_f64(), "nothing was written for {pause:.1} s");
    Ok(())
}

fn months_before(at: DateTime<Utc>, months: u32) -> DateTime<Utc> {
    at.checked_sub_months(Months::new(months)).unwrap_or(at)
}

fn first_of_month(at: DateTime<Utc>) -> DateTime<Utc> {
    let day = at.date_naive().with_day(1).unwrap_or_else(|| at.date_naive());
    day.and_time(NaiveTime::MIN).and_utc()
}
