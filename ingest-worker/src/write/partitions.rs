//! Months of `analytics_events`, made ahead and on demand.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, Datelike as _, Months, Utc};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::connect::DatabaseSettings;
use super::deadline::{ANSWER, within};
use super::failure::WriteFailure;
use crate::clock;
use crate::commands::Backoff;

/// The months that are known to have a partition of `analytics_events`.
#[derive(Debug, Default)]
pub struct Partitions {
    known: HashSet<(i32, u32), foldhash::fast::RandomState>,
}

impl Partitions {
    /// Makes what is missing for these instants, outside the batch's transaction and before it.
    ///
    /// # Errors
    /// As [`WriteFailure`] says.
    pub async fn ensure(
        &mut self,
        connection: &mut PgConnection,
        instants: impl Iterator<Item = DateTime<Utc>>,
    ) -> Result<(), WriteFailure> {
        let missing: BTreeSet<_> =
            instants.map(|at| (at.year(), at.month())).filter(|month| !self.known.contains(month)).collect();
        for (year, month) in missing {
            let Some(first) = first_of(year, month) else { continue };
            let made: bool = sqlx::query_scalar("SELECT create_event_partition($1::timestamptz)")
                .bind(first)
                .fetch_one(&mut *connection)
                .await?;
            // Not made: the month lies beyond retention, and its events will be counted as expired.
            if made {
                self.known.insert((year, month));
            }
        }
        Ok(())
    }

    /// A partition that was thought to be there is not: somebody dropped it.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

fn first_of(year: i32, month: u32) -> Option<DateTime<Utc>> {
    let day = chrono::NaiveDate::from_ymd_opt(year, month, 1)?;
    Some(day.and_time(chrono::NaiveTime::MIN).and_utc())
}

/// How often the next month's partition is looked after.
const LOOK_AHEAD_INTERVAL: Duration = Duration::from_secs(3600);
/// Partitions are there this long before they are needed.
const LOOK_AHEAD: Months = Months::new(1);

/// Makes the partitions of this month and the next before they are needed, until `stop`. A batch that comes first makes
/// its own.
///
/// # Errors
/// A defect: the functions of the schema are missing.
pub async fn keep_partitions_ahead(
    database: DatabaseSettings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    loop {
        let made = within(ANSWER, make_ahead(&database)).await;
        let pause = async {
            match &made {
                Ok(()) => tokio::time::sleep(LOOK_AHEAD_INTERVAL).await,
                Err(_) => backoff.wait().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = pause => {}
        }
        if let Err(WriteFailure::Defect(message)) = made {
            anyhow::bail!("partitions: {message}");
        }
    }
}

async fn make_ahead(database: &DatabaseSettings) -> Result<(), WriteFailure> {
    let mut connection = database.session().await?;
    let now = clock::now();
    let ahead = now.checked_add_months(LOOK_AHEAD).unwrap_or(now);
    Partitions::default().ensure(&mut connection, [now, ahead].into_iter()).await
}
