//! Which rows of a batch PostgreSQL refuses for what they hold, and what becomes of their records.

use std::collections::HashMap;

use sqlx::Connection as _;
use uuid::Uuid;

use super::outcome::{lock, writable};
use super::record_events::{RecordFailure, Recorder, StageClock, write_rows};
use crate::batch::Batch;
use crate::decode::Rejection;
use crate::write::WriteFailure;
use crate::write::events::Route;

impl Recorder {
    /// Finds every event whose rows PostgreSQL refuses, by halves, in transactions that are rolled back.
    pub(super) async fn find_refused(
        &mut self,
        batch: &mut Batch,
    ) -> Result<Vec<(Uuid, String)>, WriteFailure> {
        let series = self.series.of(&mut self.connection, batch.series(), batch.refused_series()).await?;
        let mut tx = self.connection.begin().await?;
        let locked = lock(&mut tx, &self.group, batch).await?;
        tx.rollback().await?;
        let Some(locked) = locked else {
            return Err(WriteFailure::Unavailable(
                "all partitions of a batch were claimed by others".to_owned(),
            ));
        };
        let mut culprits = Vec::new();
        let mut halves = vec![writable(batch, &locked)];
        while let Some(part) = halves.pop() {
            let mut tx = self.connection.begin().await?;
            let clock = &mut StageClock::start();
            let mut outcome =
                write_rows(&mut tx, self.shard, Route::Checked, batch, &part, &series, clock).await.map(drop);
            if outcome.is_ok() {
                // What would be refused at the commit.
                let deferred = sqlx::query("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *tx).await;
                outcome = deferred.map(drop).map_err(WriteFailure::of_rows);
            }
            tx.rollback().await?;
            match (outcome, part.as_slice()) {
                (Ok(()), _) => {}
                (Err(WriteFailure::Refused { message, .. }), [event]) => culprits.push((event.id(), message)),
                (Err(WriteFailure::Refused { .. }), events) => {
                    let (left, right) = events.split_at(events.len() / 2);
                    halves.extend([left.to_vec(), right.to_vec()]);
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        Ok(culprits)
    }
}

/// Marks the culprits; HTTP commands, which have no record to keep, are returned by number.
pub(super) fn set_aside(
    batch: &mut Batch,
    culprits: Vec<(Uuid, String)>,
) -> Result<HashMap<usize, String>, RecordFailure> {
    if culprits.is_empty() {
        return Err(RecordFailure::Defect("PostgreSQL refused a batch, but none of its rows".to_owned()));
    }
    let mut commands = HashMap::new();
    for (id, message) in culprits {
        let Some(numbers) = batch.refuse(id, &Rejection::by_database(&message)) else {
            return Err(RecordFailure::Defect(format!("PostgreSQL refused {id}, which the batch has not")));
        };
        commands.extend(numbers.into_iter().map(|number| (number, message.clone())));
    }
    Ok(commands)
}

/// As [`set_aside`], all that is counted by these series.
pub(super) fn set_aside_series(batch: &mut Batch, refused: Vec<(usize, String)>) -> HashMap<usize, String> {
    let mut commands = HashMap::new();
    for (series, message) in refused {
        let numbers = batch.refuse_series(series, &Rejection::by_database(&message));
        commands.extend(numbers.into_iter().map(|number| (number, message.clone())));
    }
    commands
}
