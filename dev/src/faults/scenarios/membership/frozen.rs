//! A worker stands still, as under a debugger or on a stalled machine, and wakes up in another world.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{MET, partitions, share};
use crate::clock;
use crate::faults::{DRAIN, Scene, Worker};
use crate::wait::until;

/// Records of one step: some batches of a hundred.
const CHUNK: usize = 600;
/// A successor has everything within this time: session time-out, rebalance, twice the lock time-out of a claim.
const TAKEN_OVER: Duration = Duration::from_secs(15);
/// A fail point holds so long, and the worker must be frozen by then.
const HELD: TimeDelta = TimeDelta::seconds(3);
const ENDED: &str = "ended a frozen predecessor";

/// What a woken worker must not have touched.
struct Asleep {
    /// Its claims so far.
    claims: i64,
    /// How much of its log is from before.
    logged: usize,
}

pub(super) async fn mid_copy(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        let nth = scene.random.u32(1..4);
        in_transaction(scene, nth).await.with_context(|| format!("round {round}, passing {nth}"))?;
    }
    Ok(())
}

async fn in_transaction(scene: &mut Scene, nth: u32) -> Result<()> {
    let partitions = partitions(scene).await?.len();
    let mut successor = scene.start(scene.settings())?;
    successor.ready().await?;
    let mut sleeper = scene.start_with_faults(scene.settings(), &format!("mid-copy:sleep=3s@{nth}"))?;
    share(&[&successor, &sleeper], partitions).await?;
    reach(scene, &sleeper).await?;
    let asleep = freeze(scene, &mut sleeper).await?;
    let frozen_at = Instant::now();
    let readiness = successor.watch_readiness();
    scene.produce(CHUNK).await?;
    successor.says(ENDED, TAKEN_OVER).await?;
    scene.healed();
    scene.caught_up().await?;
    ensure!(frozen_at.elapsed() < TAKEN_OVER, "the successor took {:?}", frozen_at.elapsed());
    wake(scene, &mut sleeper, &asleep, Some(&successor)).await?;
    scene.produce(CHUNK).await?;
    share(&[&successor, &sleeper], partitions).await?;
    scene.caught_up().await?;
    readiness.never_said("database lane")?;
    rest(scene, [sleeper, successor]).await
}

pub(super) async fn between_batches(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        let point = if round % 2 == 0 { "after-poll" } else { "after-decode" };
        idle(scene, point).await.with_context(|| format!("round {round}, {point}"))?;
    }
    Ok(())
}

/// Records are in hand when it freezes, but no row is locked: nobody's session has to be ended.
async fn idle(scene: &mut Scene, point: &str) -> Result<()> {
    let partitions = partitions(scene).await?.len();
    // In both lanes: what is read again to compare, and then what is new.
    let faults: Vec<_> = (1..=4).map(|nth| format!("{point}:sleep=3s@{nth}")).collect();
    let mut sleeper = scene.start_with_faults(scene.settings(), &faults.join(";"))?;
    sleeper.ready().await?;
    reach(scene, &sleeper).await?;
    sleep(Duration::from_millis(200)).await;
    let asleep = freeze(scene, &mut sleeper).await?;
    let left = scene.bench.accounted(&scene.bench.group).await?;
    ensure!(left < i64::try_from(scene.sent().len())?, "it had no records in hand");
    let mut successor = scene.start(scene.settings())?;
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await?;
    successor.ready().await?;
    wake(scene, &mut sleeper, &asleep, Some(&successor)).await?;
    share(&[&successor, &sleeper], partitions).await?;
    scene.produce(CHUNK).await?;
    scene.caught_up().await?;
    let log = std::fs::read_to_string(&successor.process().log)?;
    ensure!(!log.contains(ENDED), "the successor ended a session that held nothing");
    rest(scene, [sleeper, successor]).await
}

pub(super) async fn at_commit(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        let followed = round % 2 == 1;
        around_commit(scene, followed)
            .await
            .with_context(|| format!("round {round}, with a successor: {followed}"))?;
    }
    Ok(())
}

/// PostgreSQL commits by itself; what the worker does not know is that it has.
async fn around_commit(scene: &mut Scene, followed: bool) -> Result<()> {
    let nth = scene.random.u32(1..4);
    let mut sleeper = scene.start_with_faults(scene.settings(), &format!("commit-sent:sleep=3s@{nth}"))?;
    sleeper.ready().await?;
    reach(scene, &sleeper).await?;
    let asleep = freeze(scene, &mut sleeper).await?;
    scene.produce(CHUNK).await?;
    let mut others = Vec::new();
    if followed {
        let successor = scene.start(scene.settings())?;
        scene.healed();
        scene.caught_up().await?;
        wake(scene, &mut sleeper, &asleep, Some(&successor)).await?;
        share(&[&successor, &sleeper], partitions(scene).await?.len()).await?;
        others.push(successor);
    } else {
        // Within the session time-out, or beyond it.
        sleep(Duration::from_millis(scene.random.u64(200..4_000))).await;
        wake(scene, &mut sleeper, &asleep, None).await?;
        scene.healed();
        scene.caught_up().await.with_context(|| sleeper.process().last_lines())?;
    }
    scene.produce(CHUNK).await?;
    scene.caught_up().await.with_context(|| sleeper.process().last_lines())?;
    others.push(sleeper);
    rest(scene, others).await
}

/// Sends until a fail point is met.
async fn reach(scene: &Scene, worker: &Worker) -> Result<()> {
    let deadline = Instant::now() + MET;
    loop {
        scene.produce(CHUNK).await?;
        let met = worker.says("fail point", Duration::from_secs(1)).await;
        if met.is_ok() || Instant::now() > deadline {
            return met;
        }
    }
}

async fn freeze(scene: &Scene, worker: &mut Worker) -> Result<Asleep> {
    worker.signal(Signal::STOP)?;
    let log = std::fs::read_to_string(&worker.process().log)?;
    let met =
        log.lines().rev().find_map(|line| time_of(line, "fail point")).context("no fail point was met")?;
    ensure!(clock::now() - met < HELD, "it was frozen too late: {}", worker.process().last_lines());
    let logged = log.len();
    Ok(Asleep { claims: claims_of(scene, worker.process().pid()).await?, logged })
}

/// Lets it go on. With a successor, everything it had is another's: it must lose it all, claim nothing before Kafka has
/// assigned something again, end nobody's session, and be a member again.
async fn wake(scene: &Scene, worker: &mut Worker, asleep: &Asleep, successor: Option<&Worker>) -> Result<()> {
    let pid = worker.process().pid();
    ensure!(claims_of(scene, pid).await? == asleep.claims, "it claimed while it was frozen");
    worker.signal(Signal::CONT)?;
    let log = worker.process().log.clone();
    if successor.is_some() {
        let mut seen = 0;
        until("the woken worker is assigned partitions again", MET, async || {
            let since = tokio::fs::read_to_string(&log).await?.split_off(asleep.logged);
            let claims = claims_of(scene, pid).await? - asleep.claims;
            seen = since.lines().filter_map(assigned).sum();
            ensure!(claims <= seen, "it claimed {claims} partitions and was assigned {seen}");
            Ok(seen > 0)
        })
        .await
        .with_context(|| worker.process().last_lines())?;
    }
    let since = std::fs::read_to_string(&log)?.split_off(asleep.logged);
    ensure!(!since.contains(ENDED), "the woken worker ended another's session");
    ensure!(worker.process().is_running()?, "the woken worker ended");
    worker.ready().await
}

/// When this was logged.
fn time_of(line: &str, message: &str) -> Option<DateTime<Utc>> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("timestamp")
        .filter(|_| line.get("message").is_some_and(|text| text == message))?
        .as_str()?
        .parse()
        .ok()
}

/// The number in a line of the log that says what Kafka has assigned.
fn assigned(line: &str) -> Option<i64> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("partitions").filter(|_| line.get("message").is_some_and(|text| text == "assigned"))?.as_i64()
}

/// How many claims a worker has made: its name holds the process id.
async fn claims_of(scene: &Scene, pid: i32) -> Result<i64> {
    let claims = sqlx::query_scalar(
        "SELECT count(*) FROM audit.steps WHERE epoch > old_epoch AND split_part(claimed_by, '/', 2) = $1",
    );
    Ok(claims.bind(pid.to_string()).fetch_one(&scene.bench.database.pool).await?)
}

async fn rest(scene: &mut Scene, workers: impl IntoIterator<Item = Worker>) -> Result<()> {
    scene.healed();
    for mut worker in workers {
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}
