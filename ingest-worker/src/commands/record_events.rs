use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use super::conflicts;
use super::outcome::{Recorded, all_lost, count_outcomes, letters, lock, owned_ranges, recorded, writable};
use super::refusals::{set_aside, set_aside_series};
use crate::batch::{Batch, BatchEvent};
use crate::fail_point::{self, FailPoint};
use crate::metrics::{self, RetryCause, Stage};
use crate::write::events::Route;
use crate::write::partitions::Partitions;
use crate::write::series::SeriesNumbers;
use crate::write::{
    ANSWER, Backend, DatabaseSettings, WriteFailure, dead_letters, event_ids, events, offsets, read_models,
    shard, within,
};

/// PostgreSQL's own time-outs do not end a COPY that waits for its client, nor do they see a dead network.
const TRANSACTION_DEADLINE: Duration = Duration::from_secs(60);
/// After a duplicate a replay is likely: so many batches without one are looked for before they are copied unseen again.
const CHECKED_BATCHES: u32 = 20;
/// Groups that read again what another has read: all of it is there already.
pub(super) const REPLAY_GROUPS: &str = "replay/";
/// Rows refused one by one before all are looked for at once.
const REFUSALS_BY_LINE: u32 = 3;
/// A batch that still fails after so many turns is not failing for its content.
const MAX_TURNS: u32 = 100;

/// Records batches: one connection, one shard, one transaction after the other.
pub struct Recorder {
    pub(super) connection: PgConnection,
    backend: Backend,
    pub(super) shard: i16,
    pub(super) group: Arc<str>,
    worker: Arc<str>,
    pub(super) series: SeriesNumbers,
    partitions: Partitions,
    checked_batches_left: u32,
}

/// Why a batch was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordFailure {
    /// The world's fault: reconnect and claim again; the outcome of a commit may be unknown.
    #[error("{0}")]
    Unavailable(String),
    /// Our fault: stop with an alarm.
    #[error("{0}")]
    Defect(String),
}

impl Recorder {
    /// Connects and takes a shard.
    ///
    /// # Errors
    /// As [`WriteFailure`] says.
    pub async fn connect(
        database: &DatabaseSettings,
        group: Arc<str>,
        worker: Arc<str>,
    ) -> Result<Self, WriteFailure> {
        let session = async {
            let mut connection = database.session().await?;
            let backend = shard::backend(&mut connection).await?;
            let shard = shard::acquire(&mut connection).await?;
            Ok((connection, backend, shard))
        };
        let (connection, backend, shard) = within(ANSWER, session).await?;
        let (series, partitions) = (SeriesNumbers::default(), Partitions::default());
        let checked_batches_left = if group.starts_with(REPLAY_GROUPS) { CHECKED_BATCHES } else { 0 };
        Ok(Self { connection, backend, shard, group, worker, series, partitions, checked_batches_left })
    }

    /// The PostgreSQL session that writes.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The shard of this connection.
    #[must_use]
    pub fn shard(&self) -> i16 {
        self.shard
    }

    /// The connection, between two batches.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Has the next batches looked for first, since some of it may be there already.
    pub fn expect_duplicates(&mut self) {
        self.checked_batches_left = CHECKED_BATCHES;
    }

    /// Writes the batch, whatever it takes: a failure of its content is acted upon, any other is handed back.
    ///
    /// # Errors
    /// As [`RecordFailure`] says; nothing of the batch is kept then, unless the commit itself was cut off.
    pub async fn handle(&mut self, batch: &mut Batch) -> Result<Recorded, RecordFailure> {
        let mut refused = HashMap::new();
        let mut refusals = 0;
        let mut turns = 0;
        let mut letters_plainly = false;
        while turns < MAX_TURNS {
            turns += 1;
            match within(TRANSACTION_DEADLINE, self.write_once(batch, letters_plainly)).await {
                Ok(mut recorded) => {
                    self.checked_batches_left = if recorded.met_again {
                        CHECKED_BATCHES
                    } else {
                        self.checked_batches_left.saturating_sub(1)
                    };
                    recorded.refused = refused;
                    return Ok(recorded);
                }
                Err(WriteFailure::Duplicate) => {
                    metrics::retry(RetryCause::Duplicate);
                    self.expect_duplicates();
                }
                Err(WriteFailure::MissingPartition) => {
                    metrics::retry(RetryCause::MissingPartition);
                    self.partitions.forget();
                }
                Err(WriteFailure::Refused { event, message }) => {
                    metrics::retry(RetryCause::Refused);
                    refusals += 1;
                    let culprits = match event {
                        Some(id) if refusals <= REFUSALS_BY_LINE => vec![(id, message)],
                        _ => within(TRANSACTION_DEADLINE, self.find_refused(batch)).await?,
                    };
                    refused.extend(set_aside(batch, culprits)?);
                    // The batch has become smaller, so this comes to an end by itself.
                    turns = 0;
                }
                Err(WriteFailure::RefusedSeries(series)) => {
                    metrics::retry(RetryCause::Refused);
                    refused.extend(set_aside_series(batch, series));
                }
                Err(WriteFailure::RefusedLetter(message)) => {
                    metrics::retry(RetryCause::Refused);
                    tracing::error!("a dead letter is stored with less of its text: {message}");
                    letters_plainly = true;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(RecordFailure::Defect(format!("a batch still failed after {MAX_TURNS} turns")))
    }

    /// One attempt, one transaction; [`Recorder::handle`] acts on the [`WriteFailure`].
    async fn write_once(
        &mut self,
        batch: &mut Batch,
        letters_plainly: bool,
    ) -> Result<Recorded, WriteFailure> {
        let times = batch.all_events().map(|event| event.event.occurred_at());
        self.partitions.ensure(&mut self.connection, times).await?;
        let series = self.series.of(&mut self.connection, batch.series(), batch.refused_series()).await?;
        let route = if self.checked_batches_left > 0 { Route::Checked } else { Route::Straight };

        let started = Instant::now();
        let mut tx = self.connection.begin().await?; // The lane's own: its backend is what a successor may terminate.
        FailPoint::AfterBegin.pass().await?;
        let mut clock = StageClock::start();
        let Some(locked) = lock(&mut tx, &self.group, batch).await? else {
            return Ok(Recorded { lost: all_lost(batch), ..Recorded::default() });
        };
        FailPoint::AfterCompare.pass().await?;
        clock.lap(Stage::Offsets);
        let candidates = writable(batch, &locked);
        let Rows { new, met_again } =
            write_rows(&mut tx, self.shard, route, batch, &candidates, &series, &mut clock).await?;
        dead_letters::insert(&mut tx, &letters(batch, &locked), letters_plainly).await?;
        clock.lap(Stage::DeadLetters);
        let ranges = owned_ranges(batch, &locked, &new);
        offsets::advance(&mut tx, &self.group, &self.worker, &ranges).await?; // Last: offset, totals, ledger.
        clock.lap(Stage::Offsets);
        FailPoint::BeforeCommit.pass().await?;
        fail_point::commit(tx).await?;
        FailPoint::AfterCommit.pass().await?;
        clock.lap(Stage::Commit);
        metrics::transaction(started.elapsed());
        count_outcomes(batch, &ranges, &locked);
        if let Some(oldest) = candidates.first() {
            metrics::event_time_skew((locked.now - oldest.event.occurred_at()).as_seconds_f64());
        }
        let conflicts = self.find_conflicts(batch, &locked, &candidates, &new).await;
        conflicts::report(&conflicts);
        Ok(Recorded { met_again, conflicts, ..recorded(batch, &locked, &ranges, &new) })
    }
}

/// What became of the candidates.
pub(super) struct Rows<'b> {
    new: Vec<&'b BatchEvent>,
    met_again: bool,
}

/// The rows made of what events say: their ids, they themselves, their counts.
pub(super) async fn write_rows<'b>(
    tx: &mut PgConnection,
    shard: i16,
    route: Route,
    batch: &'b Batch,
    candidates: &[&'b BatchEvent],
    series: &[i32],
    clock: &mut StageClock,
) -> Result<Rows<'b>, WriteFailure> {
    let external = candidates.iter().filter(|event| event.event.id().is_external());
    let claimants = external.map(|event| conflicts::claimant(batch, event)).collect();
    let reserved = event_ids::reserve(tx, claimants).await?; // Who was here before?
    let unseen: Vec<&BatchEvent> = candidates
        .iter()
        .copied()
        .filter(|event| !event.event.id().is_external() || reserved.contains(&event.id()))
        .collect();
    clock.lap(Stage::EventIds);
    let rows: Vec<_> = unseen.iter().map(|event| &event.event).collect();
    let known = events::insert(tx, route, &rows).await?;
    FailPoint::AfterCopy.pass().await?;
    let new: Vec<&BatchEvent> = unseen.into_iter().filter(|event| !known.contains(&event.id())).collect();
    clock.lap(Stage::Events);
    read_models::count(tx, shard, &times_and_series(&new, series)?).await?;
    FailPoint::BetweenTables.pass().await?;
    clock.lap(Stage::ReadModels);
    Ok(Rows { new, met_again: !known.is_empty() })
}

/// When each of these happened, and the number of its series.
fn times_and_series(
    events: &[&BatchEvent],
    numbers: &[i32],
) -> Result<Vec<(DateTime<Utc>, i32)>, WriteFailure> {
    let of = |event: &&BatchEvent| Some((event.event.occurred_at(), *numbers.get(event.series)?));
    let all: Option<_> = events.iter().map(of).collect();
    all.ok_or_else(|| WriteFailure::Defect("an event has no series".to_owned()))
}

impl From<WriteFailure> for RecordFailure {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::Defect(message) => Self::Defect(message),
            other => {
                metrics::retry(RetryCause::Unavailable);
                Self::Unavailable(other.to_string())
            }
        }
    }
}

/// Times the steps of a transaction.
pub(super) struct StageClock(Instant);

impl StageClock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self, stage: Stage) {
        metrics::stage(stage, self.0.elapsed());
        self.0 = Instant::now();
    }
}
