//! Small numbers for tenant, source and event type.

use std::collections::{BTreeSet, HashMap};

use shared::analytics::Tenant;
use sqlx::PgConnection;

use super::failure::WriteFailure;
use crate::batch::Series;

/// Hostile data may bring endless event types; the memory for their numbers is bounded all the same.
const MAX_CACHED: usize = 20_000;

/// The small numbers that stand for series in `event_counts`, as far as they are known here.
#[derive(Debug, Default)]
pub struct SeriesNumbers {
    known: HashMap<Series, i32>,
}

impl SeriesNumbers {
    /// The numbers of these series, in their order. Those that have none yet are given one, in statements of their own
    /// before the batch's transaction: what is known here is committed.
    ///
    /// # Errors
    /// As [`WriteFailure`] says.
    pub async fn of(
        &mut self,
        connection: &mut PgConnection,
        series: &[Series],
    ) -> Result<Vec<i32>, WriteFailure> {
        if self.known.len() > MAX_CACHED {
            self.known.clear();
        }
        self.find(connection, series).await?;
        let missing = self.missing(series);
        if !missing.is_empty() {
            let (tenants, sources, types) = columns(&missing);
            sqlx::query(include_str!("event_series_make.sql"))
                .bind(tenants)
                .bind(sources)
                .bind(types)
                .execute(&mut *connection)
                .await?;
            self.find(connection, series).await?;
        }
        let numbers = series.iter().map(|series| self.known.get(series).copied());
        let numbers: Option<_> = numbers.collect();
        numbers.ok_or_else(|| WriteFailure::Defect("a series has no number".to_owned()))
    }

    fn missing<'s>(&self, series: &'s [Series]) -> BTreeSet<&'s Series> {
        series.iter().filter(|series| !self.known.contains_key(series)).collect()
    }

    async fn find(&mut self, connection: &mut PgConnection, series: &[Series]) -> Result<(), WriteFailure> {
        let missing = self.missing(series);
        if missing.is_empty() {
            return Ok(());
        }
        let (tenants, sources, types) = columns(&missing);
        let found: Vec<(i64, i32)> = sqlx::query_as(include_str!("event_series_find.sql"))
            .bind(tenants)
            .bind(sources)
            .bind(types)
            .fetch_all(connection)
            .await?;
        let numbers: HashMap<i64, i32> = found.into_iter().collect();
        for (position, series) in (1..).zip(missing) {
            if let Some(number) = numbers.get(&position) {
                self.known.insert(series.clone(), *number);
            }
        }
        Ok(())
    }
}

type Columns<'s> = (Vec<Option<&'s str>>, Vec<&'s str>, Vec<&'s str>);

fn columns<'s>(series: &BTreeSet<&'s Series>) -> Columns<'s> {
    (
        series.iter().map(|series| series.tenant.as_ref().map(Tenant::as_str)).collect(),
        series.iter().map(|series| series.source.as_str()).collect(),
        series.iter().map(|series| series.event_type.as_str()).collect(),
    )
}
