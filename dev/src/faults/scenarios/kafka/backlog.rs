//! Far more waits in Kafka than a worker may hold.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use super::away::share_of_a_processor;
use crate::clock;
use crate::faults::proxy::{Cut, Hole};
use crate::faults::{DRAIN, Scene, Worker};
use crate::load::{LIVE_TOPICS, LoadRecord, Outcome};
use crate::processes::Settings;
use crate::produce::{Producer, Record};
use crate::wait::until;

/// What a worker may take with its ordinary settings.
const MEMORY_KILOBYTES: u64 = 150 << 10;
/// For a backlog in an unoptimized build.
const RECOVERY: Duration = Duration::from_secs(1_200);
/// How much of a processor a worker may use that can do nothing.
const IDLE: f64 = 0.05;
/// How long each hindrance lasts.
const LASTS: Duration = Duration::from_secs(15);

/// Partitions of each topic, more than a hundred together.
const OF_EACH_TOPIC: i32 = 18;
/// Records of each of them.
const IN_EACH: usize = 2_000;

pub(super) async fn many_partitions(scene: &mut Scene) -> Result<()> {
    scene.bounds.memory_kilobytes = MEMORY_KILOBYTES;
    scene.bounds.recovery = RECOVERY;
    for round in 1..=scene.rounds {
        for topic in LIVE_TOPICS {
            if round == 1 {
                scene.bench.topics.grow(&scene.topic(topic), usize::try_from(OF_EACH_TOPIC)?).await?;
            }
            let different = scene.strangers(400, |record| record.topic == topic);
            pile_up(scene, different, OF_EACH_TOPIC, IN_EACH).await?;
        }
        let mut worker = scene.start(ordinary(scene.settings()))?;
        scene.healed();
        scene.caught_up().await.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
        worker.ready().await?;
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}

/// The topic with the backlog.
const TOPIC: &str = "execution.analytics";
/// Its partitions.
const PARTITIONS: i32 = 12;
/// Records of each of them.
const BACKLOG: usize = 1_000_000;
/// Of which so many are different.
const DIFFERENT: usize = 40_000;

pub(super) async fn slow_postgres(scene: &mut Scene) -> Result<()> {
    scene.bounds.memory_kilobytes = MEMORY_KILOBYTES;
    scene.bounds.recovery = RECOVERY;
    scene.bench.topics.grow(&scene.topic(TOPIC), usize::try_from(PARTITIONS)?).await?;
    for round in 1..=scene.rounds {
        let different = scene.strangers(DIFFERENT, |record| record.topic == TOPIC);
        pile_up(scene, different, PARTITIONS, BACKLOG).await?;
        let mut worker = scene.start(scene.through_proxy(ordinary(scene.settings())))?;
        let held_up = held_up(scene, &worker).await;
        held_up.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
        scene.healed();
        scene.caught_up().await.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
        let left = worker.log_lines(r#""message":"revoked""#)?;
        ensure!(left == 0, "it has lost its partitions {left} times; {}", worker.last_lines());
        // Partitions of a backlog come one after another, and wait for each other longer than for a client that hangs.
        let renewed = worker.log_lines("making a new")?;
        ensure!(renewed == 0, "it has made {renewed} new clients; {}", worker.last_lines());
        worker.ready().await?;
        worker.terminate(DRAIN).await?;
    }
    Ok(())
}

async fn held_up(scene: &Scene, worker: &Worker) -> Result<()> {
    scene.makes_progress().await?;
    scene.proxy.change(|rules| rules.to_server.bytes_per_second = Some(64 << 10));
    sleep(LASTS).await;
    scene.proxy.heal();
    scene.makes_progress().await.context("after PostgreSQL was slow")?;

    scene.proxy.change(|rules| rules.to_client.hole = Hole::Holds);
    idles(worker).await.context("PostgreSQL does not answer")?;
    scene.proxy.heal();
    scene.makes_progress().await.context("after PostgreSQL did not answer")?;

    let readiness = worker.watch_readiness();
    scene.proxy.change(|rules| rules.refuses = true);
    scene.proxy.cut_all(Cut::Reset);
    idles(worker).await.context("PostgreSQL is away")?;
    readiness.was_not_ready_because("PostgreSQL is away")?;
    scene.proxy.heal();
    scene.makes_progress().await.context("after PostgreSQL was away")
}

/// Once its memory is full it does nothing.
async fn idles(worker: &Worker) -> Result<()> {
    until("it rests", Duration::from_secs(20), async || {
        Ok(share_of_a_processor(worker, Duration::from_secs(1)).await? < IDLE)
    })
    .await?;
    let busy = share_of_a_processor(worker, LASTS).await?;
    ensure!(busy < IDLE, "it used {:.1} % of a processor while it could do nothing", busy * 100.0);
    Ok(())
}

/// Batches and sessions as they are by default.
fn ordinary(mut settings: Settings) -> Settings {
    settings.retain(|name, _| !name.starts_with("ANALYTICS_BATCH") && !name.contains("_PROPERTY_"));
    settings
}

/// So many records in each partition, all of them these, again and again.
async fn pile_up(scene: &Scene, different: Vec<LoadRecord>, partitions: i32, each: usize) -> Result<()> {
    let mut producer = Producer::of(&scene.bench.stack.bootstrap)?;
    let records: Vec<_> =
        different.iter().map(|record| Record::of_load(&scene.bench.prefix, record)).collect();
    let number = usize::try_from(partitions)? * each;
    for (record, partition) in records.iter().cycle().zip((0..partitions).cycle()).take(number) {
        producer.send(&Record { partition: Some(partition), ..record.clone() }).await?;
    }
    producer.flush().await?;
    let repeated = number - different.len();
    // Nothing more is asked of them than their number.
    let repeat = LoadRecord {
        topic: "",
        key: String::new(),
        value: None,
        timestamp: clock::now(),
        becomes: Outcome::Duplicate,
    };
    scene.expect_records(different);
    scene.expect_records(std::iter::repeat_n(repeat, repeated));
    Ok(())
}
