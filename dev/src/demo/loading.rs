//! The first load: produced and stored at the same time, before one's eyes.

use std::time::Duration;

use anyhow::{Result, bail};
use chrono::TimeDelta;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::produced::Produced;
use super::steps::{Steps, grouped};
use super::{Options, PARTITIONS, Place};
use crate::clock;
use crate::load::{Load, LoadPlan, Order};
use crate::processes::Process;
use crate::produce::{Pace, Producer};
use crate::tables;

/// Nothing more stored for so long: something is wrong.
const STALLED: Duration = Duration::from_secs(60);
/// The window of seven days must still cover everything when the load and the trickle are over.
const MARGIN: TimeDelta = TimeDelta::minutes(45);

/// What goes on producing, and what it has produced so far.
pub(super) struct Work {
    pub(super) load: Load,
    pub(super) producer: Producer,
    pub(super) produced: Produced,
    /// Records of the first load, and how long they took from the first sent to the last stored.
    pub(super) records: usize,
    pub(super) took: Duration,
}

impl Work {
    /// One record that happens now.
    pub(super) async fn trickle(&mut self, prefix: &str) -> Result<()> {
        let record = self.load.live(clock::now());
        self.produced.add(&record)?;
        self.producer.send_load(prefix, PARTITIONS, &record).await
    }
}

/// Produces the load and waits until all of it is stored.
pub(super) async fn run(
    options: &Options,
    steps: &Steps,
    place: &Place,
    worker: &mut Process,
) -> Result<Work> {
    let now = clock::now();
    let mut load = Load::new(LoadPlan {
        seed: options.seed,
        records: options.records,
        from: now - TimeDelta::days(7) + MARGIN,
        until: now,
        order: Order::Live,
        faults_per_mille: 0,
    });
    let mut producer = Producer::of(&place.stack.bootstrap)?;
    let mut produced = Produced::default();
    let acknowledged = producer.watch();
    let started = Instant::now();
    let produce = async {
        for record in &mut load {
            produced.add(&record)?;
            producer.send_load(&place.prefix, PARTITIONS, &record).await?;
        }
        producer.flush().await
    };
    let progress = Progress::new(steps, u64::try_from(options.records)?);
    let watched = tokio::try_join!(produce, watch(place, options.records, acknowledged, &progress, worker));
    progress.clear();
    watched?;
    let took = started.elapsed();
    let rate = rate(options.records, took);
    let what = format!(
        "{} records over seven days, produced and stored, {rate} a second",
        grouped(options.records as u64)
    );
    steps.done(&what, Some(took));
    Ok(Work { load, producer, produced, records: options.records, took })
}

/// For people: records a second.
pub(super) fn rate(records: usize, took: Duration) -> String {
    let milliseconds = took.as_millis().max(1);
    grouped(records as u128 * 1000 / milliseconds)
}

async fn watch(
    place: &Place,
    records: usize,
    acknowledged: impl Fn() -> u64,
    progress: &Progress<'_>,
    worker: &mut Process,
) -> Result<()> {
    let (wanted, mut stored, mut moved) = (i64::try_from(records)?, 0, Instant::now());
    loop {
        let found = tables::totals(&place.database.pool, &place.group).await?.records();
        if found > stored {
            (stored, moved) = (found, Instant::now());
        }
        progress.show(acknowledged(), u64::try_from(stored)?);
        if stored >= wanted {
            return Ok(());
        }
        if !worker.is_running()? {
            bail!("the worker ended while {stored} of {wanted} records were stored; {}", worker.last_lines());
        }
        if moved.elapsed() > STALLED {
            bail!(
                "nothing stored for {} s after {stored} of {wanted} records; {}",
                STALLED.as_secs(),
                worker.last_lines()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Some events that happen now, stored too.
pub(super) async fn trickle_for(
    duration: Duration,
    options: &Options,
    steps: &Steps,
    place: &Place,
    work: &mut Work,
) -> Result<()> {
    let before = work.produced.totals.records();
    let what = format!(
        "a trickle of events that happen now, {} a second for {} s",
        options.trickle,
        duration.as_secs()
    );
    let trickle = async {
        let (until, mut pace) = (Instant::now() + duration, Pace::of(Some(options.trickle)));
        while Instant::now() < until {
            pace.next().await;
            work.trickle(&place.prefix).await?;
        }
        work.producer.flush().await?;
        let wanted = work.produced.totals.records();
        crate::wait::until("the trickle is stored", STALLED, async || {
            Ok(tables::totals(&place.database.pool, &place.group).await?.records() >= wanted)
        })
        .await?;
        Ok(wanted - before)
    };
    steps.run(&what, trickle).await?;
    Ok(())
}

/// Two bars on a terminal, a line every two seconds elsewhere.
struct Progress<'a> {
    steps: &'a Steps,
    bars: Option<(MultiProgress, ProgressBar, ProgressBar)>,
    started: Instant,
    said: std::cell::Cell<u64>,
    records: u64,
}

impl<'a> Progress<'a> {
    fn new(steps: &'a Steps, records: u64) -> Self {
        let bars = steps.terminal.then(|| {
            let style =
                ProgressStyle::with_template("  {msg:8} {bar:30.green} {human_pos:>7} of {human_len}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let both = MultiProgress::new();
            let bar = |name: &'static str| {
                both.add(ProgressBar::new(records).with_style(style.clone()).with_message(name))
            };
            let (produced, stored) = (bar("produced"), bar("stored"));
            (both, produced, stored)
        });
        Self { steps, bars, started: Instant::now(), said: std::cell::Cell::new(0), records }
    }

    fn show(&self, produced: u64, stored: u64) {
        if let Some((_, produced_bar, stored_bar)) = &self.bars {
            produced_bar.set_position(produced);
            stored_bar.set_position(stored);
        } else if self.started.elapsed().as_secs() / 2 > self.said.get() {
            self.said.set(self.started.elapsed().as_secs() / 2);
            let (produced, stored, all) = (grouped(produced), grouped(stored), grouped(self.records));
            self.steps.say(&format!("  produced {produced}, stored {stored} of {all}"));
        }
    }

    fn clear(&self) {
        if let Some((both, produced, stored)) = &self.bars {
            produced.finish_and_clear();
            stored.finish_and_clear();
            both.clear().unwrap_or(());
        }
    }
}
