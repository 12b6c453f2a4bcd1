//! Where faults happen: a database with triggers that note every step, topics, a proxy and a load of one's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use super::audit;
use super::oracle::{self, Bounds, Figures};
use super::proxy::Proxy;
use super::traffic::{Background, Traffic};
use super::worker::Worker;
use crate::bench::Bench;
use crate::expected::{Expected, Own};
use crate::load::LoadRecord;
use crate::processes::{self, Settings, WITH_FAIL_POINTS};
use crate::stack::Login;
use crate::tables::{self, RangeRow};
use crate::wait::until;

/// `ANALYTICS_DRAIN_TIMEOUT` and a little for the system.
pub const DRAIN: Duration = Duration::from_secs(22);

/// One scenario's world.
pub struct Scene {
    /// Database, topics, ordinary processes.
    pub bench: Bench,
    /// Between a worker and PostgreSQL, for settings that went [`Scene::through_proxy`].
    pub proxy: Proxy,
    /// The only source of chance.
    pub random: fastrand::Rng,
    /// How often the scenario does what it does.
    pub rounds: u32,
    /// What the oracle allows; a scenario may allow more, and says why.
    pub bounds: Bounds,
    /// Whether [`Scene::caught_up`] waits until all partitions are read to their ends: where offsets without records follow
    /// the last one, the number of records is not enough.
    pub to_the_end: bool,
    traffic: Traffic,
    peak_memory: Arc<AtomicU64>,
    healed_at: Option<Instant>,
    slowest_recovery: Duration,
}

impl Scene {
    /// A fresh scene; the same seed gives the same records and the same dice. `alone` is for faults of servers that others
    /// use too.
    ///
    /// # Errors
    /// A server does not answer, or the worker does not compile or migrate.
    pub async fn new(name: &str, seed: u64, rounds: u32, alone: bool) -> Result<Self> {
        let name = name.replace('-', "_");
        let bench = if alone { Bench::alone(&name).await? } else { Bench::new(&name).await? };
        tokio::task::spawn_blocking(processes::build_with_fail_points).await??;
        audit::install(&bench.database.pool).await?;
        let proxy = Proxy::to(postgres(&bench)?).await?;
        let traffic = Traffic::new(seed, &bench.stack.bootstrap, &bench.prefix, bench.partitions);
        Ok(Self {
            bench,
            proxy,
            random: fastrand::Rng::with_seed(seed),
            rounds,
            bounds: Bounds::default(),
            to_the_end: false,
            traffic,
            peak_memory: Arc::default(),
            healed_at: None,
            slowest_recovery: Duration::ZERO,
        })
    }

    /// Settings of a worker: the bench's group, sessions as short as the broker allows with two cores, batches of at most
    /// a hundred events, so that there are many.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let mut settings = self.bench.worker_settings(&self.bench.group);
        for (name, value) in [
            ("ANALYTICS_KAFKA_PROPERTY_SESSION_TIMEOUT_MS", "1500"),
            ("ANALYTICS_KAFKA_PROPERTY_HEARTBEAT_INTERVAL_MS", "300"),
            ("ANALYTICS_BATCH_MAX_EVENTS", "100"),
            ("ANALYTICS_BATCH_BACKLOG_MAX_EVENTS", "100"),
        ] {
            settings.insert(name.to_owned(), value.to_owned());
        }
        settings
    }

    /// The same, with PostgreSQL behind the scene's proxy.
    #[must_use]
    pub fn through_proxy(&self, mut settings: Settings) -> Settings {
        if let Some(url) = settings.get_mut("ANALYTICS_DATABASE_URL") {
            *url = behind(url, self.proxy.address());
        }
        settings
    }

    /// Where PostgreSQL listens.
    ///
    /// # Errors
    /// Its URL names no server.
    pub fn postgres(&self) -> Result<SocketAddr> {
        postgres(&self.bench)
    }

    /// Starts an ordinary worker; it is not waited for.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, settings: Settings) -> Result<Worker> {
        self.start_binary("ingest-worker", settings)
    }

    /// Starts a worker with fail points, for example `after-begin:abort@2`; it is not waited for.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with_faults(&self, mut settings: Settings, faults: &str) -> Result<Worker> {
        settings.insert("FAULT".to_owned(), faults.to_owned());
        self.start_binary(WITH_FAIL_POINTS, settings)
    }

    fn start_binary(&self, binary: &str, settings: Settings) -> Result<Worker> {
        let process = self.bench.start_binary(binary, settings)?;
        Ok(Worker::watched(process, Arc::clone(&self.peak_memory)))
    }

    /// The next records of the load, not sent yet: see [`Scene::send`].
    #[must_use]
    pub fn next_records(&self, number: usize) -> Vec<LoadRecord> {
        self.traffic.next(number)
    }

    /// Sends these and remembers what must become of them; Kafka has them when it returns.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn send(&self, records: Vec<LoadRecord>) -> Result<()> {
        self.traffic.send(records).await
    }

    /// So many records that no other one is needed for, nor repeats: each becomes an event whatever becomes of the others.
    #[must_use]
    pub fn strangers(&self, number: usize, wanted: impl Fn(&LoadRecord) -> bool) -> Vec<LoadRecord> {
        self.traffic.strangers(number, wanted)
    }

    /// As [`Scene::send`], to one partition of each record's topic.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn send_to(&self, partition: i32, records: Vec<LoadRecord>) -> Result<()> {
        self.traffic.hand_over(&records, Some(partition)).await?;
        self.traffic.expect_records(records);
        Ok(())
    }

    /// Sends records of which nothing is expected, since Kafka will have lost them before anybody reads them.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn send_in_vain(&self, records: &[LoadRecord]) -> Result<()> {
        self.traffic.hand_over(records, None).await
    }

    /// Sends strangers that Kafka may lose before they are read: those of them that are stored must be stored well, and
    /// the ledger must account for the others.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn send_fleeting(&mut self, records: Vec<LoadRecord>) -> Result<()> {
        self.to_the_end = true;
        self.traffic.hand_over(&records, None).await?;
        self.traffic.expect_perhaps(records);
        Ok(())
    }

    /// Remembers records that are read once more, from the same offsets: nothing new may come of them, but they count.
    pub fn expect_again(&self, records: &[LoadRecord]) {
        self.expect(|expected| expected.totals = expected.totals.plus(Expected::of(records).totals));
    }

    /// Remembers records that reach Kafka in another way.
    pub fn expect_records(&self, records: impl IntoIterator<Item = LoadRecord>) {
        self.traffic.expect_records(records);
    }

    /// Those sent with [`Scene::send_fleeting`] that are stored, and those that are not.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn fleeting(&self) -> Result<(Vec<LoadRecord>, Vec<LoadRecord>)> {
        oracle::stored_or_not(&self.bench.database.pool, self.traffic.fleeting()).await
    }

    /// All that were sent with [`Scene::send_fleeting`], in order.
    #[must_use]
    pub fn sent_fleeting(&self) -> Vec<LoadRecord> {
        self.traffic.fleeting()
    }

    /// A topic's whole name.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.bench.prefix)
    }

    /// The ledger's rows with this reason.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn ledger(&self, reason: &str) -> Result<Vec<RangeRow>> {
        tables::ledger(&self.bench.database.pool, &self.bench.group, reason).await
    }

    /// Sends so many records of the load; Kafka has them when it returns.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn produce(&self, number: usize) -> Result<()> {
        self.send(self.next_records(number)).await
    }

    /// Sends records of the scenario's own in this order, and remembers what must become of them; Kafka has them when it
    /// returns.
    ///
    /// # Errors
    /// Kafka does not take them.
    pub async fn send_own(&self, records: &[Own]) -> Result<()> {
        self.traffic.send_own(records).await
    }

    /// Changes what must be there at the end, besides what comes of all records that were sent.
    pub fn expect(&self, change: impl FnOnce(&mut Expected)) {
        self.traffic.expect(change);
    }

    /// What must be there at the end.
    #[must_use]
    pub fn expected(&self) -> Expected {
        self.traffic.expected()
    }

    /// Sends records of the load at this pace until it is stopped.
    #[must_use]
    pub fn produce_in_background(&self, per_second: f64) -> Background {
        self.traffic.in_background(per_second)
    }

    /// All that was sent so far.
    #[must_use]
    pub fn sent(&self) -> Vec<LoadRecord> {
        self.traffic.sent()
    }

    /// From here on nothing is disturbed any more: recovery is timed from now.
    pub fn healed(&mut self) {
        self.healed_at = Some(Instant::now());
    }

    /// Waits until everything sent so far is accounted for, and notes how long after [`Scene::healed`] that was.
    ///
    /// # Errors
    /// It is not within the bound.
    pub async fn caught_up(&mut self) -> Result<Duration> {
        let from = *self.healed_at.get_or_insert_with(Instant::now);
        let wanted = self.traffic.number();
        let mut found = 0;
        until("the group accounts for all records", self.bounds.recovery, async || {
            found = self.bench.accounted(&self.bench.group).await?;
            Ok(found >= wanted && (!self.to_the_end || self.is_read_to_the_end().await?))
        })
        .await
        .with_context(|| format!("{found} of {wanted} records accounted for"))?;
        let took = from.elapsed();
        self.slowest_recovery = self.slowest_recovery.max(took);
        self.healed_at = None;
        Ok(took)
    }

    async fn is_read_to_the_end(&self) -> Result<bool> {
        let offsets = tables::offsets(&self.bench.database.pool, &self.bench.group).await?;
        let reached = |topic: &str, partition| {
            let row = offsets.iter().find(|row| row.topic == topic && row.partition == partition);
            row.map_or(0, |row| row.next_offset)
        };
        let ends = self.bench.topics.ends(&self.bench.prefix).await?;
        Ok(ends.iter().all(|((topic, partition), end)| reached(topic, *partition) >= *end))
    }

    /// Waits until at least one more record is accounted for than there are now.
    ///
    /// # Errors
    /// It is not within the bound.
    pub async fn makes_progress(&self) -> Result<()> {
        let before = self.bench.accounted(&self.bench.group).await?;
        until("the group makes progress", self.bounds.recovery, async || {
            Ok(self.bench.accounted(&self.bench.group).await? > before)
        })
        .await
    }

    /// The scenario is over: an ordinary, undisturbed worker finishes what is left, ends well, and the oracle speaks.
    ///
    /// # Errors
    /// It does not catch up or does not end; what the oracle finds is in the figures.
    pub async fn finish(&mut self) -> Result<Figures> {
        self.proxy.heal();
        self.healed_at.get_or_insert_with(Instant::now);
        let mut worker = self.start(self.settings())?;
        self.caught_up().await.with_context(|| worker.process().last_lines())?;
        self.all_claimed().await.with_context(|| worker.process().last_lines())?;
        worker.ready().await?;
        worker.terminate(DRAIN).await?;
        let figures = Figures {
            records: self.traffic.number(),
            slowest_recovery: self.slowest_recovery,
            peak_memory_kilobytes: self.peak_memory.load(Ordering::Relaxed),
            ..Figures::default()
        };
        let (stored, _) = self.fleeting().await?;
        let expected = self.expected().plus(Expected::of(&stored));
        oracle::judge(&self.bench, &expected, &self.bounds, figures).await
    }

    /// Waits until every partition has its row, those without a record too.
    async fn all_claimed(&self) -> Result<()> {
        let ends = self.bench.topics.ends(&self.bench.prefix).await?;
        until("every partition is claimed", self.bounds.recovery, async || {
            let rows = tables::offsets(&self.bench.database.pool, &self.bench.group).await?;
            let has_row = |(topic, partition): &(String, i32)| {
                rows.iter().any(|row| row.topic == *topic && row.partition == *partition)
            };
            Ok(ends.keys().all(has_row))
        })
        .await
    }

    /// Removes database and topics.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn remove(self) -> Result<()> {
        self.bench.remove().await
    }
}

/// Where PostgreSQL listens.
///
/// # Errors
/// Its URL names no server.
pub fn postgres(bench: &Bench) -> Result<SocketAddr> {
    let url = bench.database.url(Login::Writer);
    let authority = url.split('/').nth(2).and_then(|authority| authority.rsplit('@').next());
    let address = authority.context("the writer's URL names no server")?;
    address.parse().with_context(|| format!("`{address}` is no address with a port"))
}

/// The same URL with another server in it.
#[must_use]
pub fn behind(url: &str, address: SocketAddr) -> String {
    let (before, rest) = url.rsplit_once('@').unwrap_or(("", url));
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    format!("{before}@{address}/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_of_the_url_changes() {
        let proxy: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for (url, expected) in [
            ("postgres://u:p@127.0.0.1:1/d", "postgres://u:p@127.0.0.1:9/d"),
            ("postgres://u:p@127.0.0.1:1/d?sslmode=disable", "postgres://u:p@127.0.0.1:9/d?sslmode=disable"),
        ] {
            assert_eq!(behind(url, proxy), expected);
        }
    }
}
