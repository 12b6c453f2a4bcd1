//! A workbench for one test: a database and topics of its own, and both processes on them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::database::{self, Database};
use crate::load::LoadRecord;
use crate::processes::{self, Process, Settings};
use crate::produce::{Pace, Producer, Record};
use crate::stack::{Login, Stack, checkout};
use crate::topics::Topics;
use crate::wait::until;
use crate::{oracle, tables};

/// How many workbenches may be in use at a time: a machine with two cores starves more workers than that.
const PLACES: u32 = 2;
static FREE: Semaphore = Semaphore::const_new(PLACES as usize);

/// How long anything may take to be stored.
pub const SETTLES: Duration = Duration::from_secs(90);

/// A database and topics of one's own.
pub struct Bench {
    /// The servers.
    pub stack: Stack,
    /// Migrated by the worker itself.
    pub database: Database,
    /// The administrator of its topics.
    pub topics: Topics,
    /// Before the names of its topics.
    pub prefix: String,
    /// Partitions of the default topics.
    pub partitions: i32,
    /// The consumer group unless a test says otherwise.
    pub group: String,
    /// What its processes say.
    pub logs: PathBuf,
    started: AtomicU32,
    _places: SemaphorePermit<'static>,
}

impl Bench {
    /// A bench with the default topics of three partitions each.
    ///
    /// # Errors
    /// A server does not answer, or the worker cannot migrate.
    pub async fn new(name: &str) -> Result<Self> {
        let bench = Self::without_topics(name, 1).await?;
        bench.topics.create_default(&bench.prefix, bench.partitions).await?;
        Ok(bench)
    }

    /// As [`Bench::new`], while no other bench is in use: for tests that disturb the servers.
    ///
    /// # Errors
    /// As [`Bench::new`].
    pub async fn alone(name: &str) -> Result<Self> {
        let bench = Self::without_topics(name, PLACES).await?;
        bench.topics.create_default(&bench.prefix, bench.partitions).await?;
        Ok(bench)
    }

    /// A bench whose test makes its own topics behind the prefix.
    ///
    /// # Errors
    /// As [`Bench::new`].
    pub async fn bare(name: &str) -> Result<Self> {
        Self::without_topics(name, 1).await
    }

    async fn without_topics(name: &str, places: u32) -> Result<Self> {
        let places = FREE.acquire_many(places).await?;
        let stack = Stack::find()?;
        tokio::task::spawn_blocking(processes::build).await??;
        let topics = Topics::of(&stack.bootstrap)?;
        tidy_up(&stack, &topics).await?;
        let own = format!("{}_{name}", std::process::id());
        let database = Database::fresh(&stack, &format!("{DATABASES}{own}")).await?;
        let settings = Settings::from([("ANALYTICS_DATABASE_URL".to_owned(), database.url(Login::Owner))]);
        processes::run_once("ingest-worker", "migrate", &settings).await?;
        Ok(Self {
            stack,
            database,
            topics,
            prefix: format!("{TOPICS}{own}."),
            partitions: 3,
            group: format!("test-{own}"),
            logs: checkout().join("target/test-logs").join(name),
            started: AtomicU32::new(0),
            _places: places,
        })
    }

    /// The settings of a worker: short sessions, so that a killed worker's partitions are soon free.
    #[must_use]
    pub fn worker_settings(&self, group: &str) -> Settings {
        let settings = [
            ("ANALYTICS_DATABASE_URL", self.database.url(Login::Writer)),
            ("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS", self.stack.bootstrap.clone()),
            ("ANALYTICS_KAFKA_CONSUMER_GROUP", group.to_owned()),
            ("ANALYTICS_KAFKA_TOPIC_PREFIX", self.prefix.clone()),
            ("ANALYTICS_KAFKA_PROPERTY_SESSION_TIMEOUT_MS", "3000".to_owned()),
            ("ANALYTICS_KAFKA_PROPERTY_HEARTBEAT_INTERVAL_MS", "500".to_owned()),
        ];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// A worker of the bench's own group that is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn worker(&self) -> Result<Process> {
        self.worker_with(self.worker_settings(&self.group)).await
    }

    /// A worker with these settings that is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn worker_with(&self, settings: Settings) -> Result<Process> {
        let mut worker = self.start_worker(settings)?;
        worker.ready().await?;
        Ok(worker)
    }

    /// A worker with these settings, at once: for tests that want it in the middle of something.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_worker(&self, settings: Settings) -> Result<Process> {
        self.start_binary("ingest-worker", settings)
    }

    /// As [`Bench::start_worker`], with another build of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_binary(&self, binary: &str, mut settings: Settings) -> Result<Process> {
        let port = processes::free_port(0)?;
        settings.insert("ANALYTICS_INGEST_SERVICE_PORT".to_owned(), port.to_string());
        Process::start(binary, "run", &settings, port, &self.log(binary))
    }

    /// The settings of a reader.
    #[must_use]
    pub fn reader_settings(&self) -> Settings {
        Settings::from([("ANALYTICS_READ_DATABASE_URL".to_owned(), self.database.url(Login::Reader))])
    }

    /// A reader that is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn reader(&self) -> Result<Process> {
        self.reader_with(self.reader_settings()).await
    }

    /// A reader with these settings that is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn reader_with(&self, mut settings: Settings) -> Result<Process> {
        let port = processes::free_port(0)?;
        settings.insert("ANALYTICS_SERVICE_PORT".to_owned(), port.to_string());
        let mut reader = Process::start("query-api", "serve", &settings, port, &self.log("query-api"))?;
        reader.ready().await?;
        Ok(reader)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{}-{name}.log", self.started.fetch_add(1, Ordering::Relaxed) + 1))
    }

    /// Sends records of a load, at a pace or as fast as it goes, and waits until Kafka has them.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn produce(&self, records: &[LoadRecord], per_second: Option<f64>) -> Result<()> {
        let (mut producer, mut pace) = (Producer::of(&self.stack.bootstrap)?, Pace::of(per_second));
        for record in records {
            pace.next().await;
            producer.send_load(&self.prefix, self.partitions, record).await?;
        }
        producer.flush().await
    }

    /// Sends records of one's own; their topics get the prefix.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn produce_records(&self, records: &[Record]) -> Result<()> {
        let mut producer = Producer::of(&self.stack.bootstrap)?;
        for record in records {
            let topic = format!("{}{}", self.prefix, record.topic);
            producer.send(&Record { topic, ..record.clone() }).await?;
        }
        producer.flush().await
    }

    /// How many records a group has accounted for.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn accounted(&self, group: &str) -> Result<i64> {
        Ok(tables::totals(&self.database.pool, group).await?.records())
    }

    /// Waits until a group has accounted for so many records.
    ///
    /// # Errors
    /// It has not in time.
    pub async fn settled(&self, group: &str, records: usize) -> Result<()> {
        let wanted = i64::try_from(records)?;
        let mut found = 0;
        let settled = until("the group accounts for all records", SETTLES, async || {
            found = self.accounted(group).await?;
            Ok(found >= wanted)
        })
        .await;
        let Err(error) = settled else { return Ok(()) };
        let behind = self.behind(group).await.unwrap_or_else(|error| vec![error.to_string()]);
        Err(error.context(format!("{found} of {wanted} records accounted for; {}", behind.join("; "))))
    }

    /// Which partitions a group has not read from their beginning to their end without gaps, and what Kafka has.
    async fn behind(&self, group: &str) -> Result<Vec<String>> {
        let ends = self.topics.ends(&self.prefix).await?;
        let offsets = tables::offsets(&self.database.pool, group).await?;
        let mut behind = Vec::new();
        for ((topic, partition), end) in &ends {
            let row = offsets.iter().find(|row| row.topic == *topic && row.partition == *partition);
            match row {
                Some(row) if (row.start_offset, row.next_offset, row.totals.gaps) == (0, *end, 0) => {}
                row => behind.push(format!("{topic} {partition} ends at {end}: {row:?}")),
            }
        }
        behind.push(format!("Kafka has {}", ends.values().sum::<i64>()));
        Ok(behind)
    }

    /// All that must be true of a group that has read everything this producer has sent.
    ///
    /// # Errors
    /// Something is not true.
    pub async fn check(&self, group: &str, sent: &[LoadRecord]) -> Result<()> {
        let pool = &self.database.pool;
        oracle::nothing_lost_nothing_twice(pool, group, sent).await?;
        oracle::counts_agree(pool).await?;
        let ends = self.topics.ends(&self.prefix).await?;
        oracle::ledger_balances(pool, group, &ends).await
    }

    /// Removes what was made. A test that fails does not come here: its database and logs are left to be looked at.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn remove(self) -> Result<()> {
        let names = self.topics.names(|name| name.starts_with(&self.prefix))?;
        self.topics.delete(&names).await?;
        self.database.remove().await
    }
}

const DATABASES: &str = "analytics_test_";
const TOPICS: &str = "test-";

/// What failed tests of earlier runs have left. Their process id is in the names.
async fn tidy_up(stack: &Stack, topics: &Topics) -> Result<()> {
    static TIDY: OnceCell<()> = OnceCell::const_new();
    let tidy = async || {
        let left = |prefix: &'static str| {
            move |name: &str| {
                let own = name.strip_prefix(prefix);
                let pid =
                    own.and_then(|own| own.split_once('_')).and_then(|(pid, _)| pid.parse::<u32>().ok());
                pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
            }
        };
        let databases = database::names(stack, left(DATABASES)).await?;
        database::remove_all(stack, &databases).await?;
        topics.delete(&topics.names(left(TOPICS))?).await
    };
    TIDY.get_or_try_init(tidy).await.copied()
}
