use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};

use super::canonical::{Canonical, id};
use crate::bench::SETTLES;
use crate::clock;
use crate::expected::Own;
use crate::faults::{DRAIN, Scene};
use crate::load::{LoadRecord, Outcome};
use crate::wait::until;
use crate::{oracle, tables};

/// Events of each kind of repeat.
const EVENTS: u64 = 300;

pub(super) async fn repeated(scene: &mut Scene) -> Result<()> {
    let mut settings = scene.settings();
    settings.insert("ANALYTICS_LANES".to_owned(), "4".to_owned());
    // Long enough in its transaction for the others to come into their way.
    let mut worker =
        scene.start_with_faults(settings, "after-compare:sleep=20ms@*;before-commit:sleep=50ms@*")?;
    worker.ready().await?;
    for _ in 0..scene.rounds {
        let events = events(&mut scene.random);
        scene.send_own(&twice_in_a_row(&events)).await?;
        scene.caught_up().await?;
        // In later batches; an id from outside is one event, whatever time comes with it.
        let mut later: Vec<_> = events.iter().map(|event| event.again(2)).collect();
        later.extend(events.iter().map(|event| elsewhen(event).again(1)));
        scene.send_own(&later).await?;
        at_once(scene).await?;
        scene.healed();
        scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    }
    worker.ready().await?;
    worker.terminate(DRAIN).await?;
    no_deadlocks(scene).await
}

/// With an id of their own.
fn events(random: &mut fastrand::Rng) -> Vec<Canonical> {
    (0..EVENTS).map(|number| Canonical::new(Some(id(random)), moment(random), number)).collect()
}

fn moment(random: &mut fastrand::Rng) -> DateTime<Utc> {
    let at = clock::now() - TimeDelta::microseconds(random.i64(0..3_600_000_000));
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

fn elsewhen(event: &Canonical) -> Canonical {
    Canonical { at: event.at - TimeDelta::days(1), ..event.clone() }
}

fn twice_in_a_row(events: &[Canonical]) -> Vec<Own> {
    events.iter().flat_map(|event| [event.first(0), event.again(0)]).collect()
}

/// Both kinds of identity: ids from outside in all partitions of one topic, each in another order; and upstream records,
/// whose ids we make, in two partitions forwards and backwards.
async fn at_once(scene: &mut Scene) -> Result<()> {
    let mut events = events(&mut scene.random);
    let forwards: Vec<_> = events.iter().map(|event| event.first(0)).collect();
    events.reverse();
    let backwards: Vec<_> = events.iter().map(|event| event.again(1)).collect();
    scene.random.shuffle(&mut events);
    let anyhow: Vec<_> = events.iter().map(|event| event.again(2)).collect();
    let natural = natural(scene);
    let (one, two, three, four) = tokio::join!(
        scene.send_own(&forwards),
        scene.send_own(&backwards),
        scene.send_own(&anyhow),
        scene.send(natural),
    );
    one.and(two).and(three).and(four)
}

/// Executions, which go to any partition, and once more from the last to the first.
fn natural(scene: &Scene) -> Vec<LoadRecord> {
    let mut records = scene.next_records(1_000);
    records.retain(|record| record.topic == "execution.analytics" && record.fact().is_some());
    let again: Vec<_> = records
        .iter()
        .rev()
        .map(|record| LoadRecord { becomes: Outcome::Duplicate, ..record.clone() })
        .collect();
    records.extend(again);
    records
}

/// Also no deadlock that was mended by trying again.
async fn no_deadlocks(scene: &Scene) -> Result<()> {
    // PostgreSQL tells its statistics a little later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let deadlocks: i64 =
        sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&scene.bench.database.pool)
            .await?;
    ensure!(deadlocks == 0, "{deadlocks} deadlocks");
    Ok(())
}

/// Of the rows of events, those that a replay may leave dead: it inserts none, however often it tries.
const BLOAT: f64 = 0.1;

pub(super) async fn replayed(scene: &mut Scene) -> Result<()> {
    let mut live = scene.start(scene.settings())?;
    for round in 1..=scene.rounds {
        scene.produce(20_000).await?;
        scene.caught_up().await?;
        let group = format!("replay/{}-{round}", scene.bench.group);
        replay(scene, &group).await.with_context(|| group)?;
    }
    live.ready().await?;
    live.terminate(DRAIN).await
}

async fn replay(scene: &mut Scene, group: &str) -> Result<()> {
    let pool = scene.bench.database.pool.clone();
    let (before, dead_before) = (scene.sent().len(), dead_rows(scene).await?);
    let traffic = scene.produce_in_background(200.0);
    let mut replay = scene.start(scene.bench.worker_settings(group))?;
    until("all that was there is read again", SETTLES, async || {
        Ok(scene.bench.accounted(group).await? > i64::try_from(before)?)
    })
    .await?;
    let during = traffic.stop().await?;
    // Of the new ones either group may be the first.
    scene.expect(|expected| expected.shared += during as i64);
    scene.healed();
    scene.caught_up().await?;
    scene.bench.settled(group, scene.sent().len()).await?;
    replay.ready().await?;
    replay.terminate(DRAIN).await?;

    let expected = scene.expected().totals;
    let (own, again) =
        (tables::totals(&pool, &scene.bench.group).await?, tables::totals(&pool, group).await?);
    ensure!(
        own.events + again.events <= expected.events,
        "{own:?} and {again:?}: an event was counted twice"
    );
    ensure!(again.events <= during as i64, "the replay found new events among old records: {again:?}");
    ensure!(
        again.events + again.duplicates == expected.events + expected.duplicates
            && again.dead_letters == expected.dead_letters
            && again.tombstones == expected.tombstones,
        "the replay counts {again:?}, of {expected:?}"
    );
    oracle::ledger_balances(&pool, group, &scene.bench.topics.ends(&scene.bench.prefix).await?).await?;
    let dead = dead_rows(scene).await? - dead_before;
    let bound = BLOAT * expected.events as f64;
    ensure!((dead as f64) < bound, "the replay left {dead} dead rows among {} events", expected.events);
    Ok(())
}

async fn dead_rows(scene: &Scene) -> Result<i64> {
    let dead = sqlx::query_scalar(
        "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'analytics_events%'",
    );
    Ok(dead.fetch_one(&scene.bench.database.pool).await?)
}
