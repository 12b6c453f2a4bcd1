//! Small numbers for tenant, source and event type.

use std::collections::{BTreeSet, HashMap};

use shared::analytics::{AnalyticsEvent, EventType, Source, Tenant};
use sqlx::PgConnection;

use super::failure::WriteFailure;

/// Hostile data may bring endless event types; the memory for their numbers is bounded all the same.
const MAX_CACHED: usize = 20_000;

/// The small number that stands for tenant, source and event type in `event_counts`, as far as it is known here.
#[derive(Debug, Default)]
pub struct SeriesCache {
    numbers: Fast<EventType, Fast<Source, OfTenants>>,
    length: usize,
}

/// Looked into for every event.
type Fast<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Debug, Default)]
struct OfTenants {
    of_none: Option<i32>,
    of: Fast<Tenant, i32>,
}

type Key = (Option<Tenant>, Source, EventType);

impl SeriesCache {
    /// The event's series, once [`SeriesCache::ensure`] has seen it.
    #[must_use]
    pub fn number(&self, event: &AnalyticsEvent) -> Option<i32> {
        let numbers = self.numbers.get(event.event_type())?.get(event.source())?;
        match event.tenant() {
            None => numbers.of_none,
            Some(tenant) => numbers.of.get(tenant).copied(),
        }
    }

    /// Finds or makes the series of these events, in statements of their own before the batch's transaction: what is
    /// cached is committed.
    ///
    /// # Errors
    /// As [`WriteFailure`] says.
    pub async fn ensure<'e>(
        &mut self,
        connection: &mut PgConnection,
        events: impl Iterator<Item = &'e AnalyticsEvent> + Clone,
    ) -> Result<(), WriteFailure> {
        if self.length > MAX_CACHED {
            *self = Self::default();
        }
        let missing = self.missing(events.clone());
        if missing.is_empty() {
            return Ok(());
        }
        self.find(connection, missing).await?;
        let missing = self.missing(events);
        if missing.is_empty() {
            return Ok(());
        }
        let (tenants, sources, types) = columns(&missing);
        sqlx::query(include_str!("event_series_make.sql"))
            .bind(tenants)
            .bind(sources)
            .bind(types)
            .execute(&mut *connection)
            .await?;
        self.find(connection, missing).await
    }

    fn missing<'e>(&self, events: impl Iterator<Item = &'e AnalyticsEvent>) -> BTreeSet<Key> {
        events
            .filter(|event| self.number(event).is_none())
            .map(|event| (event.tenant().cloned(), event.source().clone(), event.event_type().clone()))
            .collect()
    }

    async fn find(&mut self, connection: &mut PgConnection, keys: BTreeSet<Key>) -> Result<(), WriteFailure> {
        if keys.is_empty() {
            return Ok(());
        }
        let (tenants, sources, types) = columns(&keys);
        let found: Vec<(i64, i32)> = sqlx::query_as(include_str!("event_series_find.sql"))
            .bind(tenants)
            .bind(sources)
            .bind(types)
            .fetch_all(connection)
            .await?;
        let numbers: HashMap<i64, i32> = found.into_iter().collect();
        for (position, (tenant, source, event_type)) in (1..).zip(keys) {
            if let Some(number) = numbers.get(&position) {
                self.length += 1;
                let numbers = self.numbers.entry(event_type).or_default().entry(source).or_default();
                match tenant {
                    None => numbers.of_none = Some(*number),
                    Some(tenant) => drop(numbers.of.insert(tenant, *number)),
                }
            }
        }
        Ok(())
    }
}

type Columns<'k> = (Vec<Option<&'k str>>, Vec<&'k str>, Vec<&'k str>);

fn columns(keys: &BTreeSet<Key>) -> Columns<'_> {
    (
        keys.iter().map(|(tenant, _, _)| tenant.as_ref().map(Tenant::as_str)).collect(),
        keys.iter().map(|(_, source, _)| source.as_str()).collect(),
        keys.iter().map(|(_, _, event_type)| event_type.as_str()).collect(),
    )
}
