//! The network between a worker and PostgreSQL cuts, loses, delays.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::{NO_HINDRANCE, Scenario};
use crate::faults::proxy::{COMMIT, Cut, CutAfter, Direction, Hole, Moment, Trap};
use crate::faults::{DRAIN, Scene, Worker};
use crate::wait::until;

/// This family.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "cut-around-commit",
        what: "The connection is cut just before PostgreSQL gets a COMMIT, or just before its answer gets back.",
        rounds_quick: 6,
        rounds_full: 100,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| cut_around_commit(scene).boxed_local(),
    },
    Scenario {
        name: "cut-at-every-byte",
        what: "The exchange of one batch is cut at every 997th byte, its answers at every 97th, until a whole batch gets through.",
        rounds_quick: 0,
        rounds_full: 1,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| cut_at_every_byte(scene).boxed_local(),
    },
    Scenario {
        name: "black-hole-idle",
        what: "The network swallows everything while there is nothing to do, without a word to either side.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| black_hole_idle(scene).boxed_local(),
    },
    Scenario {
        name: "black-hole-mid-copy",
        what: "The network swallows everything in the middle of a COPY, without a word to either side.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| black_hole_mid_copy(scene).boxed_local(),
    },
    Scenario {
        name: "slow-network",
        what: "Each piece comes 200 ms late, or 64 KB pass in a second.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| slow_network(scene).boxed_local(),
    },
];

/// Records of one round: some batches of a hundred.
const CHUNK: usize = 300;
/// A COMMIT comes within this time, or never.
const MET: Duration = Duration::from_secs(30);

async fn cut_around_commit(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.through_proxy(scene.settings()))?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        let moment = if round % 2 == 0 { Moment::BeforeServerHasThem } else { Moment::BeforeClientHasAnswer };
        cut_at(scene, &mut worker, moment).await.with_context(|| format!("round {round}, {moment:?}"))?;
    }
    worker.terminate(DRAIN).await
}

async fn cut_at(scene: &mut Scene, worker: &mut Worker, moment: Moment) -> Result<()> {
    let before = scene.proxy.trapped();
    let spares = scene.random.u32(0..3);
    scene.proxy.set_trap(Trap { spares, ..Trap::once(COMMIT, moment) });
    let deadline = Instant::now() + MET;
    while scene.proxy.trapped() == before {
        ensure!(Instant::now() < deadline, "no COMMIT came; {}", worker.process().last_lines());
        scene.produce(CHUNK).await?;
        drop(until("a cut", Duration::from_secs(1), async || Ok(scene.proxy.trapped() > before)).await);
    }
    scene.healed();
    scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    ensure!(worker.process().is_running()?, "the worker ended; {}", worker.process().last_lines());
    Ok(())
}

/// Bytes between two cuts. The answers to a batch are short.
const STRIDES: [(Direction, u64); 2] = [(Direction::ToServer, 997), (Direction::ToClient, 97)];
/// Records of the batch that is cut.
const BATCH: usize = 60;

async fn cut_at_every_byte(scene: &mut Scene) -> Result<()> {
    let mut settings = scene.through_proxy(scene.settings());
    // One conversation at a time, and all of the records in it.
    settings.insert("ANALYTICS_LANES".to_owned(), "1".to_owned());
    settings.insert("ANALYTICS_BATCH_LINGER".to_owned(), "300ms".to_owned());
    let mut worker = scene.start(settings)?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        for (direction, stride) in STRIDES {
            let mut bytes = 0;
            while cut_after(scene, &mut worker, direction, bytes)
                .await
                .with_context(|| format!("round {round}, {direction:?} cut after {bytes} bytes"))?
            {
                bytes += stride;
            }
            ensure!(bytes > 4 * stride, "a batch is an exchange of more than {bytes} bytes {direction:?}");
        }
    }
    worker.terminate(DRAIN).await
}

/// Sends a batch of which only so many bytes get through; false if it was in all the same.
async fn cut_after(scene: &mut Scene, worker: &mut Worker, direction: Direction, bytes: u64) -> Result<bool> {
    let before = scene.proxy.cuts();
    scene.proxy.change(|rules| {
        let flow = match direction {
            Direction::ToServer => &mut rules.to_server,
            Direction::ToClient => &mut rules.to_client,
        };
        flow.cut_after = Some(CutAfter { bytes, in_total: true, how: Cut::Reset });
    });
    scene.produce(BATCH).await?;
    let (sent, group) = (i64::try_from(scene.sent().len())?, scene.bench.group.clone());
    until("a cut, or the batch is in", MET, async || {
        Ok(scene.proxy.cuts() > before || scene.bench.accounted(&group).await? == sent)
    })
    .await
    .with_context(|| worker.process().last_lines())?;
    let whole = scene.proxy.cuts() == before;
    scene.proxy.heal();
    goes_on(scene, worker).await?;
    Ok(!whole)
}

async fn goes_on(scene: &mut Scene, worker: &mut Worker) -> Result<()> {
    scene.healed();
    scene.caught_up().await.with_context(|| worker.process().last_lines())?;
    ensure!(worker.process().is_running()?, "the worker ended; {}", worker.process().last_lines());
    Ok(())
}

/// Without anything to write a connection is looked after every five seconds, and given five to answer.
const IDLE_DEADLINE: Duration = Duration::from_secs(15);

async fn black_hole_idle(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.through_proxy(scene.settings()))?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        scene.produce(CHUNK).await?;
        goes_on(scene, &mut worker).await?;
        let (readiness, before) = (worker.watch_readiness(), scene.proxy.accepted());
        scene.proxy.change(|rules| rules.both(|flow| flow.hole = Hole::Swallows));
        until("readiness tells", IDLE_DEADLINE, async || Ok(readiness.first("no answer within").is_some()))
            .await
            .with_context(|| format!("round {round}; {}", readiness.reasons().join(" | ")))?;
        // Connections that were in the hole stay there for good.
        scene.proxy.heal();
        scene.produce(CHUNK).await?;
        goes_on(scene, &mut worker).await.with_context(|| format!("round {round}"))?;
        // Not everybody has found out at once.
        until("a new connection", MET, async || Ok(scene.proxy.accepted() > before))
            .await
            .with_context(|| format!("round {round}"))?;
    }
    worker.terminate(DRAIN).await
}

async fn black_hole_mid_copy(scene: &mut Scene) -> Result<()> {
    // A transaction has a minute; then the old session is ended, and claims are made anew.
    scene.bounds.recovery = Duration::from_secs(90);
    for round in 1..=scene.rounds {
        let nth = scene.random.u32(1..=3);
        let settings = scene.through_proxy(scene.settings());
        let mut worker = scene.start_with_faults(settings, &format!("mid-copy:sleep=1s@{nth}"))?;
        worker.ready().await?;
        let readiness = worker.watch_readiness();
        scene.produce(2 * CHUNK).await?;
        worker.says("fail point", MET).await?;
        scene.proxy.change(|rules| rules.both(|flow| flow.hole = Hole::Swallows));
        // Past the sleep: the rest of the COPY goes into the hole.
        sleep(Duration::from_secs(2)).await;
        let old = copies_under_way(scene).await?;
        ensure!(old > 0, "round {round}: PostgreSQL waits for no COPY");
        scene.proxy.heal();
        goes_on(scene, &mut worker).await.with_context(|| format!("round {round}"))?;
        // Its own line, since the next connection may be there before anybody looks at readiness again.
        worker.says("no answer within", MET).await?;
        readiness.was_not_ready_because("not claimed yet")?;
        ensure!(copies_under_way(scene).await? == 0, "round {round}: the old session is still there");
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}

/// Sessions of the scene's database in which PostgreSQL waits for the rest of a COPY.
async fn copies_under_way(scene: &Scene) -> Result<i64> {
    let copies = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND query LIKE 'COPY %' AND state = 'active'";
    Ok(sqlx::query_scalar(copies).fetch_one(&scene.bench.database.pool).await?)
}

async fn slow_network(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.through_proxy(scene.settings()))?;
    let all = f64::from(u32::try_from(scene.bench.topics.ends(&scene.bench.prefix).await?.len())?);
    until("it owns all partitions", MET, async || {
        Ok(worker.metric("analytics_ingest_partitions_owned").await? >= all)
    })
    .await?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        let late = round % 2 == 1;
        scene.proxy.change(|rules| {
            rules.both(|flow| {
                if late {
                    flow.delay = Duration::from_millis(200);
                } else {
                    flow.bytes_per_second = Some(64 << 10);
                }
            })
        });
        let traffic = scene.produce_in_background(200.0);
        for _ in 0..3 {
            scene.makes_progress().await.with_context(|| format!("round {round}"))?;
            sleep(Duration::from_secs(4)).await;
        }
        ensure!(scene.proxy.passed(Direction::ToServer) > 0, "round {round}: nothing went through the proxy");
        let owned = worker.metric("analytics_ingest_partitions_owned").await?;
        ensure!(owned >= all, "round {round}: of {all} partitions {owned} are left");
        traffic.stop().await?;
        scene.proxy.heal();
        goes_on(scene, &mut worker).await.with_context(|| format!("round {round}"))?;
    }
    let log = tokio::fs::read_to_string(&worker.process().log).await?;
    ensure!(!log.contains("revoked"), "partitions were revoked; {}", worker.process().last_lines());
    worker.terminate(DRAIN).await
}
