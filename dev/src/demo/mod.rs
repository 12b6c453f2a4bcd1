//! In: both servers and both binaries. Out: a service that works before one's eyes, or, without a terminal, the proof
//! that its answers are those that must follow from what was produced.

mod steps;
mod produced;
mod loading;
mod screen;
mod live;
mod checks;

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock;
use crate::database::Database;
use crate::processes::{self, Process, Settings};
use crate::stack::{Login, Stack};
use crate::topics::Topics;
use steps::Steps;

/// How long a process may take to drain; its own limit is 20 s.
const DRAIN: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 3;
const DATABASE: &str = "analytics_demo";
const TOPICS: &str = "demo-";

/// What is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many records are produced at first.
    #[arg(long, default_value_t = 50_000)]
    pub records: usize,

    /// How many records a second the trickle has.
    #[arg(long, default_value_t = 20.0)]
    pub trickle: f64,

    /// Decides everything that is random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What everything of this demonstration runs on.
struct Place {
    stack: Stack,
    database: Database,
    topics: Topics,
    prefix: String,
    group: String,
}

/// Both processes, as far as they have been started: what must be stopped, however it ends.
#[derive(Default)]
struct Running {
    worker: Option<Process>,
    reader: Option<Process>,
}

/// Runs the demonstration. On a terminal it stays until it is interrupted.
///
/// # Errors
/// Something could not be started, or an answer is not what was produced.
pub async fn run(options: &Options) -> Result<()> {
    let steps = Steps::on_stdout();
    let mut running = Running::default();
    let outcome = tokio::select! {
        outcome = show(options, &steps, &mut running) => outcome,
        interrupted = interrupted() => match interrupted {
            Ok(()) if steps.terminal => Ok(()),
            Ok(()) => Err(anyhow!("interrupted before the answers were checked")),
            Err(error) => Err(error),
        },
    };
    let stopped = running.stop(&steps).await;
    outcome.and(stopped)
}

/// Ctrl-C, or the polite request to end.
async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

async fn show(options: &Options, steps: &Steps, running: &mut Running) -> Result<()> {
    let place = prepare(steps).await?;
    start(&place, steps, running).await?;
    let (worker, reader) = running.both()?;
    let mut work = loading::run(options, steps, &place, worker).await?;
    if steps.terminal {
        live::run(options, &place, &mut work, worker, reader).await
    } else {
        loading::trickle_for(Duration::from_secs(3), options, steps, &place, &mut work).await?;
        checks::run(steps, &place, &work, worker, reader).await
    }
}

async fn prepare(steps: &Steps) -> Result<Place> {
    let stack = Stack::find()?;
    let database = steps.run("database analytics_demo, fresh", async {
        let database = Database::fresh(&stack, DATABASE).await?;
        let settings = Settings::from([("ANALYTICS_DATABASE_URL".to_owned(), database.url(Login::Owner))]);
        processes::run_once("ingest-worker", "migrate", &settings).await?;
        Ok(database)
    });
    let database = database.await?;
    let topics = Topics::of(&stack.bootstrap)?;
    let prefix = format!("{TOPICS}{}.", clock::now().format("%Y%m%d-%H%M%S"));
    let what = format!("topics behind {prefix}");
    steps
        .run(&what, async {
            topics.delete(&topics.names(|name| name.starts_with(TOPICS))?).await?;
            topics.create_default(&prefix, PARTITIONS).await
        })
        .await?;
    let group = format!("analytics-{}", prefix.trim_end_matches('.'));
    Ok(Place { stack, database, topics, prefix, group })
}

async fn start(place: &Place, steps: &Steps, running: &mut Running) -> Result<()> {
    let (reads, writes) = (processes::free_port(8000)?, processes::free_port(8001)?);
    let settings = |pairs: &[(&str, &str)]| -> Settings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let worker = settings(&[
        ("ANALYTICS_DATABASE_URL", &place.database.url(Login::Writer)),
        ("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS", &place.stack.bootstrap),
        ("ANALYTICS_KAFKA_CONSUMER_GROUP", &place.group),
        ("ANALYTICS_KAFKA_TOPIC_PREFIX", &place.prefix),
        ("ANALYTICS_INGEST_SERVICE_PORT", &writes.to_string()),
    ]);
    let reader = settings(&[
        ("ANALYTICS_READ_DATABASE_URL", &place.database.url(Login::Reader)),
        ("ANALYTICS_SERVICE_PORT", &reads.to_string()),
    ]);
    let log = |name: &str| place.stack.folder.join(format!("logs/demo-{name}.log"));
    let what = format!("ingest-worker on port {writes}, log {}", shortened(&log("ingest-worker")));
    let process = Process::start("ingest-worker", "run", &worker, writes, &log("ingest-worker"))?;
    steps.run(&what, running.worker.insert(process).ready()).await?;
    let what = format!("query-api on port {reads}, log {}", shortened(&log("query-api")));
    let process = Process::start("query-api", "serve", &reader, reads, &log("query-api"))?;
    steps.run(&what, running.reader.insert(process).ready()).await
}

/// Below the working folder, where that is shorter.
fn shortened(path: &std::path::Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

impl Running {
    fn both(&mut self) -> Result<(&mut Process, &mut Process)> {
        self.worker.as_mut().zip(self.reader.as_mut()).context("a process is missing")
    }

    /// Stops what was started; a process that does not end well is an error.
    async fn stop(&mut self, steps: &Steps) -> Result<()> {
        let mut failures = Vec::new();
        for process in [self.worker.take(), self.reader.take()].into_iter().flatten() {
            let mut process = process;
            let what = format!("{} stopped", process.name);
            let ended = steps.run(&what, async {
                let status = process.terminate(DRAIN).await?;
                if status.success() {
                    Ok(())
                } else {
                    bail!("{} ended with {status}; {}", process.name, process.last_lines())
                }
            });
            if let Err(failure) = ended.await {
                failures.push(format!("{failure:#}"));
            }
        }
        if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
    }
}
