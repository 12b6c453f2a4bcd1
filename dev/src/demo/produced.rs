use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::load::{LoadRecord, Outcome};
use crate::tables::Totals;

/// Events that `recent` may show: more than it does.
const NEWEST: usize = 80;

/// What was produced, as the answers must tell it.
#[derive(Default)]
pub(super) struct Produced {
    /// What must have become of all records.
    pub(super) totals: Totals,
    /// Events by type.
    pub(super) per_type: BTreeMap<&'static str, u64>,
    times: Vec<DateTime<Utc>>,
    /// The newest events by time and order of production.
    newest: BTreeMap<(DateTime<Utc>, usize), Newest>,
}

/// An event as `recent` must show it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Newest {
    pub(super) event_type: String,
    pub(super) source: String,
    pub(super) occurred_at: String,
    pub(super) payload: Value,
}

impl Produced {
    pub(super) fn add(&mut self, record: &LoadRecord) -> Result<()> {
        let head = match record.becomes {
            Outcome::Event(_) => &mut self.totals.events,
            Outcome::Duplicate => &mut self.totals.duplicates,
            Outcome::DeadLetter => &mut self.totals.dead_letters,
            Outcome::Tombstone => &mut self.totals.tombstones,
        };
        *head += 1;
        let Some(fact) = record.fact() else { return Ok(()) };
        *self.per_type.entry(fact.event_type).or_default() += 1;
        self.times.push(fact.occurred_at);
        let oldest = self.newest.first_key_value().map(|((at, _), _)| *at);
        if self.newest.len() < NEWEST || oldest.is_some_and(|oldest| fact.occurred_at > oldest) {
            let newest = Newest {
                event_type: fact.event_type.to_owned(),
                source: fact.source.to_owned(),
                occurred_at: shared::instant::format(fact.occurred_at),
                payload: serde_json::from_str(&record.payload(fact))?,
            };
            self.newest.insert((fact.occurred_at, self.times.len()), newest);
            if self.newest.len() > NEWEST {
                self.newest.pop_first();
            }
        }
        Ok(())
    }

    /// The newest events, newest first. Which of two of the same microsecond comes first is for their ids to say.
    pub(super) fn newest(&self, count: usize) -> Vec<&Newest> {
        self.newest.values().rev().take(count).collect()
    }

    /// Events by bucket: what `eventsPerInterval` must say.
    pub(super) fn per_interval(&self, width: TimeDelta) -> BTreeMap<String, u64> {
        let mut buckets = BTreeMap::new();
        for at in &self.times {
            *buckets.entry(shared::instant::format(shared::bucket::floor(*at, width))).or_default() += 1;
        }
        buckets
    }
}
