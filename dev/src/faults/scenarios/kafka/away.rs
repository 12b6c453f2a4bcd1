//! There is no broker, or none that answers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::faults::proxy::Proxy;
use crate::faults::{DRAIN, Scene, Worker};
use crate::processes::{Settings, free_port};
use crate::wait::until;

/// Records of one step.
const CHUNK: usize = 300;
/// Something that must be told is told within this time.
const TOLD: Duration = Duration::from_secs(60);
/// How much of a processor a worker may use that can do nothing.
const IDLE: f64 = 0.05;

pub(super) async fn stopped_and_killed(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        for (verb, long) in [("stop-kafka", 100), ("kill-kafka", 10)] {
            let survived = outage(scene, &worker, verb, Duration::from_secs(long)).await;
            survived.with_context(|| format!("round {round}, {verb}; {}", worker.last_lines()))?;
            ensure!(worker.process().is_running()?, "the worker ended; {}", worker.last_lines());
        }
        // After half a minute and after another whole one; whether it helps cannot be known beforehand.
        let renewed = worker.log_lines("making a new kafka client")?;
        ensure!(renewed == 2 * usize::try_from(round)?, "round {round}: {renewed} new clients");
    }
    worker.terminate(DRAIN).await
}

/// On its way down a broker is no member of its own cluster any more, but still answers.
pub(super) async fn stops_while_asked(scene: &mut Scene) -> Result<()> {
    let mut settings = scene.settings();
    let often = "ANALYTICS_KAFKA_PROPERTY_TOPIC_METADATA_REFRESH_INTERVAL_MS";
    settings.insert(often.to_owned(), "10".to_owned());
    let mut worker = scene.start(settings)?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        scene.produce(CHUNK).await?;
        scene.healed();
        scene.caught_up().await?;
        scene.bench.stack.run(&["stop-kafka"]).await?;
        scene.bench.stack.run(&["start-kafka"]).await?;
        scene.produce(CHUNK).await?;
        scene.healed();
        scene.caught_up().await.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
    }
    worker.terminate(DRAIN).await
}

pub(super) async fn frozen(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        let survived = outage(scene, &worker, "freeze-kafka", Duration::from_secs(60)).await;
        survived.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
        ensure!(worker.process().is_running()?, "the worker ended; {}", worker.last_lines());
    }
    worker.terminate(DRAIN).await
}

/// The broker is away for so long, with records on their way.
async fn outage(scene: &mut Scene, worker: &Worker, verb: &str, long: Duration) -> Result<()> {
    scene.produce(CHUNK).await?;
    scene.healed();
    scene.caught_up().await?;
    let readiness = worker.watch_readiness();
    scene.produce(CHUNK).await?;
    scene.bench.stack.run(&[verb]).await?;
    let idle = share_of_a_processor(worker, long).await;
    scene.bench.stack.run(&["start-kafka"]).await?;
    scene.healed();
    let idle = idle?;
    ensure!(idle < IDLE, "it used {:.1} % of a processor while it could do nothing", idle * 100.0);
    readiness.was_not_ready_because("kafka: no broker answers")?;
    scene.produce(CHUNK).await?;
    scene.caught_up().await?;
    until("it is ready again", TOLD, async || {
        Ok(readiness.samples().last().is_some_and(|sample| sample.not_ready.is_none()))
    })
    .await
    .with_context(|| readiness.reasons().join(" | "))
}

/// How much of a processor a worker uses in this time.
pub(super) async fn share_of_a_processor(worker: &Worker, within: Duration) -> Result<f64> {
    let (before, started) = (worker.cpu_seconds()?, Instant::now());
    sleep(within).await;
    Ok((worker.cpu_seconds()? - before) / started.elapsed().as_secs_f64())
}

pub(super) async fn unreachable(scene: &mut Scene) -> Result<()> {
    refuses_nonsense(scene).await?;
    let broker = scene.bench.stack.bootstrap.parse().context("the broker's address")?;
    for round in 1..=scene.rounds {
        scene.produce(CHUNK).await?;
        let proxy = Proxy::to(broker).await?;
        proxy.change(|rules| rules.refuses = true);
        let nobody = free_port(0)?;
        let mut lost = [
            scene.start(at(scene, &format!("127.0.0.1:{nobody}")))?,
            scene.start(at(scene, "kafka.invalid:9092"))?,
        ];
        let mut worker = scene.start(at(scene, &proxy.address().to_string()))?;
        for worker in lost.iter_mut().chain([&mut worker]) {
            waits(worker).await.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
        }
        ensure!(proxy.accepted() > 1, "it has not tried again");
        proxy.heal();
        scene.healed();
        scene.caught_up().await.with_context(|| worker.last_lines())?;
        worker.ready().await?;
        for worker in lost.iter_mut().chain([&mut worker]) {
            worker.terminate(DRAIN).await?;
        }
    }
    Ok(())
}

fn at(scene: &Scene, servers: &str) -> Settings {
    let mut settings = scene.settings();
    settings.insert("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS".to_owned(), servers.to_owned());
    settings
}

/// It lives, says why it does not work, and costs next to nothing.
async fn waits(worker: &mut Worker) -> Result<()> {
    let readiness = worker.watch_readiness();
    until("it says so", TOLD, async || Ok(readiness.first("kafka: no broker answers").is_some()))
        .await
        .with_context(|| readiness.reasons().join(" | "))?;
    let live = worker.process().server.get("/health/live").await?;
    ensure!(live.status.is_success(), "it says that it does not live: {}", live.text);
    let idle = share_of_a_processor(worker, Duration::from_secs(2)).await?;
    ensure!(idle < IDLE, "it used {:.1} % of a processor while it could do nothing", idle * 100.0);
    ensure!(worker.process().is_running()?, "it ended");
    Ok(())
}

/// What can never work is said at once.
async fn refuses_nonsense(scene: &Scene) -> Result<()> {
    let mut worker = scene.start(at(scene, "a-broker-without-a-port"))?;
    let status = worker.ended(TOLD).await?;
    ensure!(status.code().is_some_and(|code| code != 0), "it ended with {status}");
    worker.says("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS", Duration::from_secs(1)).await
}
