use std::collections::HashMap;

use shared::analytics::{AnalyticsEvent, EventType, Source, Tenant};

/// What events are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// Whose data; none is a tenant of its own.
    pub tenant: Option<Tenant>,
    /// Which service.
    pub source: Source,
    /// What happened.
    pub event_type: EventType,
}

/// The series of some events, each once, in the order in which they first came.
#[derive(Debug, Default)]
pub struct SeriesList {
    series: Vec<Series>,
    places: Fast<EventType, Fast<Source, OfTenants>>,
}

/// Looked into for every event, by parts of it: a key of all three would have to be made first.
type Fast<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Debug, Default)]
struct OfTenants {
    of_none: Option<usize>,
    of: Fast<Tenant, usize>,
}

impl SeriesList {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Series] {
        &self.series
    }

    /// The place of the event's series, which joins the list if it is new.
    pub fn place(&mut self, event: &AnalyticsEvent) -> usize {
        self.find(event).unwrap_or_else(|| self.add(event))
    }

    fn find(&self, event: &AnalyticsEvent) -> Option<usize> {
        let places = self.places.get(event.event_type())?.get(event.source())?;
        match event.tenant() {
            None => places.of_none,
            Some(tenant) => places.of.get(tenant).copied(),
        }
    }

    fn add(&mut self, event: &AnalyticsEvent) -> usize {
        let place = self.series.len();
        let series = Series {
            tenant: event.tenant().cloned(),
            source: event.source().clone(),
            event_type: event.event_type().clone(),
        };
        let of_source = self.places.entry(series.event_type.clone()).or_default();
        let places = of_source.entry(series.source.clone()).or_default();
        match series.tenant.clone() {
            None => places.of_none = Some(place),
            Some(tenant) => drop(places.of.insert(tenant, place)),
        }
        self.series.push(series);
        place
    }
}
