use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batch::{CommandLane, Decoder, Lane, LaneLoad, LaneTask};
use crate::clock;
use crate::commands::{CommandSender, LaneWriter};
use crate::config::Config;
use crate::consume::{Consumer, LaneDoor, ToConsumer};
use crate::health::Health;
use crate::http;
use crate::metrics;
use crate::normalize::{Normalizer, RuleIdentity, Rules};
use crate::shutdown;
use crate::write::{Claims, keep_partitions_ahead};

/// Commands that may wait for the next commit; more are turned away.
const WAITING_COMMANDS: usize = 10_000;
/// Memory of their events.
const WAITING_COMMAND_BYTES: u32 = 32 << 20;
/// Answers of lanes and claims that may wait for the Kafka thread.
const WAITING_ANSWERS: usize = 1_024;
/// Time that the Kafka client has to leave the group: this, but at most a quarter of the drain.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pieces that every task needs.
struct House {
    config: Config,
    group: Arc<str>,
    worker: Arc<str>,
    health: Health,
    /// Of the Kafka lanes.
    claims: Arc<Claims>,
    rules: Vec<RuleIdentity>,
    normalizer: Arc<Normalizer>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// The first fault of a task.
    fault: mpsc::Sender<anyhow::Error>,
}

/// Runs the worker until `stop`: builds, spawns, waits. A task that fails stops the others, which drain.
///
/// # Errors
/// What kept it from starting, or the fault that stopped it.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let handle = metrics::install().context("metrics")?;
    let histograms = handle.clone();
    let (fault, mut faults) = mpsc::channel(16);
    let house = House::build(config, stop.clone(), fault)?;
    let listener = http::bind(&house.config.service).await?;

    let (answers, inbox) = mpsc::channel(WAITING_ANSWERS);
    let doors: Vec<LaneDoor> =
        (0..house.config.batch.lanes).map(|number| house.open_lane(number, &answers)).collect();
    let left_group = house.start_consumer(doors, (answers, inbox))?;
    let commands = house.start_command_lane();
    let state = http::State {
        commands,
        normalizer: Arc::clone(&house.normalizer),
        limits: house.config.decode,
        origins: house.config.http.origins.clone(),
        health: house.health.clone(),
        metrics: handle,
    };
    let drain = house.config.service.drain_timeout;
    let leave = LEAVE_TIMEOUT.min(drain / 4);
    house.spawn("http", {
        let serve = http::serve(listener, http::app(state), stop.clone(), drain - leave);
        async move {
            serve.await;
            Ok(())
        }
    });
    house.spawn("partitions", keep_partitions_ahead(house.config.database.clone(), stop.clone()));
    house.spawn("metrics", {
        let stop = stop.clone();
        async move {
            metrics::upkeep(histograms, stop).await;
            Ok(())
        }
    });

    stop.cancelled().await;
    house.health.stopping();
    let _in_time = shutdown::watchdog("the drain", drain);
    house.tasks.close();
    house.tasks.wait().await;
    // Everything is committed. A client that cannot reach Kafka may never be done with closing; the group then notices
    // by the session time-out.
    if tokio::time::timeout(leave, left_group).await.is_err() {
        tracing::warn!("the kafka client did not close within {leave:?}");
    }
    drop(house);
    match faults.try_recv() {
        Ok(fault) => Err(fault),
        Err(_) => {
            tracing::info!("stopped: everything in flight is committed");
            Ok(())
        }
    }
}

impl House {
    fn build(
        config: Config,
        stop: CancellationToken,
        fault: mpsc::Sender<anyhow::Error>,
    ) -> anyhow::Result<Self> {
        let worker = worker_name();
        let rules = Rules::built_in()?;
        let service = &config.service;
        tracing::info!(
            worker,
            app = service.app_name,
            environment = service.environment,
            version = env!("CARGO_PKG_VERSION"),
            group = config.kafka.group,
            "starting"
        );
        let identities = rules.identities();
        Ok(Self {
            group: Arc::from(config.kafka.group.as_str()),
            claims: Arc::new(claims(&config, &worker, &identities)),
            rules: identities,
            worker: Arc::from(worker),
            health: Health::default(),
            normalizer: Arc::new(Normalizer::new(
                rules,
                config.event_time,
                config.kafka.topic_prefix.clone(),
            )),
            tasks: TaskTracker::new(),
            config,
            stop,
            fault,
        })
    }

    /// A task that ends, however it ends, stops the process; only a fault makes that an error.
    fn spawn(&self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let watch = self.watch(name);
        self.tasks.spawn(async move { watch.end(task.await) });
    }

    fn watch(&self, name: &'static str) -> Watch {
        Watch { name, stop: self.stop.clone(), fault: self.fault.clone() }
    }

    fn open_lane(&self, number: usize, answers: &mpsc::Sender<ToConsumer>) -> LaneDoor {
        let (inputs, lane_inputs) = mpsc::channel(LaneDoor::CAPACITY);
        let (batches, writer_batches) = mpsc::channel(1);
        let (reports, lane_reports) = mpsc::channel(4);
        let (backend, backend_seen) = watch::channel(None);
        let load = Arc::new(LaneLoad::default());
        let writer = LaneWriter {
            name: format!("database lane {number}"),
            database: self.config.database.clone(),
            group: Arc::clone(&self.group),
            worker: Arc::clone(&self.worker),
            batches: writer_batches,
            reports,
            health: self.health.clone(),
        };
        let lane = LaneTask {
            lane: Lane::new(number, self.config.batch.clone(), Arc::clone(&load)),
            inputs: lane_inputs,
            batches,
            reports: lane_reports,
            consumer: answers.clone(),
            backend,
            decoder: Decoder { normalizer: Arc::clone(&self.normalizer), limits: self.config.decode },
        };
        self.spawn("lane writer", writer.run(self.stop.clone()));
        self.spawn("lane", lane.run(self.stop.clone()));
        LaneDoor::new(inputs, load, backend_seen)
    }

    fn start_command_lane(&self) -> CommandSender {
        let (sender, commands) = mpsc::channel(WAITING_COMMANDS);
        let lane = CommandLane {
            commands,
            database: self.config.database.clone(),
            // Of its own: nobody who posts waits for a Kafka partition.
            claims: claims(&self.config, &self.worker, &self.rules),
            group: Arc::clone(&self.group),
            worker: Arc::clone(&self.worker),
            health: self.health.clone(),
            settings: self.config.batch.clone(),
        };
        self.spawn("command lane", lane.run(self.stop.clone()));
        CommandSender::new(sender, self.config.http.commit_timeout, WAITING_COMMAND_BYTES)
    }

    /// Kafka has a thread of its own. The answer comes when it has left the group and the client is closed.
    fn start_consumer(
        &self,
        doors: Vec<LaneDoor>,
        inbox: (mpsc::Sender<ToConsumer>, mpsc::Receiver<ToConsumer>),
    ) -> anyhow::Result<oneshot::Receiver<()>> {
        let consumer = Consumer::new(
            self.config.kafka.clone(),
            doors,
            self.config.batch.lane_bytes(),
            inbox,
            Arc::clone(&self.claims),
            self.tasks.clone(),
            tokio::runtime::Handle::current(),
            self.health.clone(),
            self.stop.clone(),
        )
        .context("kafka client")?;
        let (left, left_group) = oneshot::channel();
        let watch = self.watch("kafka");
        std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
            let mut consumer = consumer;
            // The others are told before the client is closed, which may take its time.
            watch.end(consumer.run());
            consumer.close();
            // Nobody waits for it if the process was ended by its watchdog.
            let _ = left.send(());
        })?;
        Ok(left_group)
    }
}

/// Stops the process when what it watches ends, and keeps the fault if it ended by one; a panic is one.
struct Watch {
    name: &'static str,
    stop: CancellationToken,
    fault: mpsc::Sender<anyhow::Error>,
}

impl Watch {
    fn end(self, result: anyhow::Result<()>) {
        if let Err(error) = result {
            tracing::error!(task = self.name, "{error:#}");
            // Sixteen are enough; the first is the one that counts.
            drop(self.fault.try_send(error));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.fault.try_send(anyhow::anyhow!("{} panicked", self.name)));
        }
        self.stop.cancel();
    }
}

fn claims(config: &Config, worker: &str, rules: &[RuleIdentity]) -> Claims {
    Claims::new(config.database.clone(), config.kafka.group.clone(), worker.to_owned())
        .holding(rules.to_vec())
}

/// Host, process id and start: unique among all workers that ever were.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}/{}", host.trim(), std::process::id(), clock::now().timestamp_millis())
}
