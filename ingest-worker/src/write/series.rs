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
    /// The numbers of these series, in their order; 0 for those at the places `without`, which are not asked for. Those
    /// that have none yet are given one, in statements of their own before the batch's transaction: what is known here is
    /// committed.
    ///
    /// # Errors
    /// `RefusedSeries` with all that PostgreSQL refuses; else as [`WriteFailure`] says.
    pub async fn of(
        &mut self,
        connection: &mut PgConnection,
        series: &[Series],
        without: &[usize],
    ) -> Result<Vec<i32>, WriteFailure> {
        if self.known.len() > MAX_CACHED {
            self.known.clear();
        }
        let wanted = || series.iter().enumerate().filter(|(place, _)| !without.contains(place));
        match self.learn(connection, &wanted().map(|(_, series)| series).collect::<Vec<_>>()).await {
            Err(WriteFailure::Refused { .. }) => {
                return Err(self.refused(connection, wanted().collect()).await?);
            }
            outcome => outcome?,
        }
        let number = |(place, series)| match self.known.get(series) {
            None if without.contains(&place) => Some(0),
            number => number.copied(),
        };
        let numbers: Option<_> = series.iter().enumerate().map(number).collect();
        numbers.ok_or_else(|| WriteFailure::Defect("a series has no number".to_owned()))
    }

    /// Which of them PostgreSQL refuses, by halves.
    async fn refused(
        &mut self,
        connection: &mut PgConnection,
        series: Vec<(usize, &Series)>,
    ) -> Result<WriteFailure, WriteFailure> {
        let mut refused = Vec::new();
        let mut parts = vec![series.as_slice()];
        while let Some(part) = parts.pop() {
            let outcome =
                self.learn(connection, &part.iter().map(|(_, series)| *series).collect::<Vec<_>>()).await;
            match (outcome, part) {
                (Err(WriteFailure::Refused { message, .. }), [(place, _)]) => refused.push((*place, message)),
                (Err(WriteFailure::Refused { .. }), part) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([left, right]);
                }
                (outcome, _) => outcome?,
            }
        }
        Ok(WriteFailure::RefusedSeries(refused))
    }

    async fn learn(&mut self, connection: &mut PgConnection, series: &[&Series]) -> Result<(), WriteFailure> {
        self.find(connection, series).await?;
        let missing = self.missing(series);
        if missing.is_empty() {
            return Ok(());
        }
        let (tenants, sources, types) = columns(&missing);
        sqlx::query(include_str!("event_series_make.sql"))
            .bind(tenants)
            .bind(sources)
            .bind(types)
            .execute(&mut *connection)
            .await
            .map_err(WriteFailure::of_rows)?;
        self.find(connection, series).await
    }

    fn missing<'s>(&self, series: &[&'s Series]) -> BTreeSet<&'s Series> {
        series.iter().copied().filter(|series| !self.known.contains_key(*series)).collect()
    }

    async fn find(&mut self, connection: &mut PgConnection, series: &[&Series]) -> Result<(), WriteFailure> {
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
            .await
            .map_err(WriteFailure::of_rows)?;
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
