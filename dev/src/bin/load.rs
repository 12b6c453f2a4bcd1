//! A bounded load of real shapes over the live topics, as fast as it goes or at a rate, and a trickle of events that
//! happen now.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::TimeDelta;
use clap::Parser;
use dev::clock;
use dev::load::{Load, LoadPlan, LoadRecord, Order, Outcome};
use dev::produce::{Pace, Producer};
use dev::topics::Topics;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Produces what the upstream services would: real shapes, deterministic by seed, bounded.
#[derive(Parser)]
#[command(name = "load")]
struct Options {
    /// Kafka's address.
    #[arg(long, env = "ANALYTICS_KAFKA_BOOTSTRAP_SERVERS")]
    bootstrap_servers: String,

    /// Before the names of the topics.
    #[arg(long, env = "ANALYTICS_KAFKA_TOPIC_PREFIX", default_value = "")]
    topic_prefix: String,

    /// Create the topics that are missing.
    #[arg(long)]
    create_topics: bool,

    /// Partitions of topics that are created, and how many CodeRunner spreads its records over.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,

    /// How many records.
    #[arg(long, default_value_t = 50_000)]
    records: usize,

    /// Over how many days up to now they are spread.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: i64,

    /// In which order they come.
    #[arg(long, value_enum, default_value_t = Order::Live)]
    order: Order,

    /// Records a second; as fast as it goes by default, 20 for the trickle.
    #[arg(long)]
    rate: Option<f64>,

    /// Decides everything that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many records of a thousand cannot become an event.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    faults_per_mille: u32,

    /// Afterwards, or alone with `--records 0`: events that happen now, for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    trickle: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rate.is_none_or(|rate| rate > 0.0), "--rate must be more than 0");
    if options.create_topics {
        let topics = Topics::of(&options.bootstrap_servers)?;
        topics.create_default(&options.topic_prefix, options.partitions).await?;
    }
    let now = clock::now();
    let mut load = Load::new(LoadPlan {
        seed: options.seed,
        records: options.records,
        from: now - TimeDelta::days(options.days),
        until: now,
        order: options.order,
        faults_per_mille: options.faults_per_mille,
    });
    let mut run =
        Run { producer: Producer::of(&options.bootstrap_servers)?, options, counts: Counts::default() };
    run.produce(&mut load).await?;
    run.trickle(&mut load).await?;
    Ok(())
}

#[derive(Default)]
struct Counts {
    events: u64,
    duplicates: u64,
    dead_letters: u64,
    tombstones: u64,
}

struct Run {
    options: Options,
    producer: Producer,
    counts: Counts,
}

impl Run {
    async fn produce(&mut self, load: &mut Load) -> Result<()> {
        let progress = Progress::new(u64::try_from(self.options.records)?);
        let mut pace = Pace::of(self.options.rate);
        for record in load {
            pace.next().await;
            self.send(&record).await?;
            progress.show(self.producer.acknowledged());
        }
        self.producer.flush().await?;
        progress.done(self.producer.acknowledged());
        if self.options.records > 0 {
            self.report("load");
        }
        Ok(())
    }

    async fn trickle(&mut self, load: &mut Load) -> Result<()> {
        let Some(seconds) = self.options.trickle else { return Ok(()) };
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut pace = Pace::of(self.options.rate.or(Some(20.0)));
        self.counts = Counts::default();
        while Instant::now() < until {
            pace.next().await;
            let record = load.live(clock::now());
            self.send(&record).await?;
        }
        self.producer.flush().await?;
        self.report("trickle");
        Ok(())
    }

    async fn send(&mut self, record: &LoadRecord) -> Result<()> {
        let count = match record.becomes {
            Outcome::Event(_) => &mut self.counts.events,
            Outcome::Duplicate => &mut self.counts.duplicates,
            Outcome::DeadLetter => &mut self.counts.dead_letters,
            Outcome::Tombstone => &mut self.counts.tombstones,
        };
        *count += 1;
        self.producer.send_load(&self.options.topic_prefix, self.options.partitions, record).await
    }

    fn report(&self, what: &str) {
        let Counts { events, duplicates, dead_letters, tombstones } = self.counts;
        let sum = events + duplicates + dead_letters + tombstones;
        eprintln!(
            "{what}: {sum} records, of which {events} become events, {duplicates} are duplicates, {dead_letters} \
             dead letters, {tombstones} tombstones"
        );
    }
}

/// A bar on a terminal, now and then a line elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    records: u64,
    said: std::cell::Cell<u64>,
}

impl Progress {
    fn new(records: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} records, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = stderr().is_terminal().then(|| ProgressBar::new(records).with_style(style));
        Self { bar, started: Instant::now(), records, said: std::cell::Cell::new(0) }
    }

    fn show(&self, acknowledged: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(acknowledged);
        } else if self.started.elapsed().as_secs() / 2 > self.said.get() {
            self.said.set(self.started.elapsed().as_secs() / 2);
            eprintln!("{acknowledged} of {} records are in Kafka", self.records);
        }
    }

    fn done(&self, acknowledged: u64) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if acknowledged > 0 {
            let seconds = self.started.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let rate = acknowledged as f64 / seconds.max(0.001);
            eprintln!("{acknowledged} records are in Kafka after {seconds:.1} s, {rate:.0} a second");
        }
    }
}
