//! What must be there after everything, whoever says so.

use chrono::{DateTime, Utc};

use crate::load::{LoadRecord, Outcome};
use crate::produce::Record;
use crate::tables::Totals;

/// What must be stored, and what a group must have counted.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// All of them, each once.
    pub events: Vec<ExpectedEvent>,
    /// What became of the group's records.
    pub totals: Totals,
    /// The values of the records behind them.
    pub dead_letters: Vec<Vec<u8>>,
    /// Events of [`Expected::totals`] that also come through another door: the group counts them as duplicates if it is not
    /// the first.
    pub shared: i64,
}

/// All that is known of an event beforehand.
#[derive(Debug, Clone)]
pub struct ExpectedEvent {
    /// What happened.
    pub event_type: String,
    /// Who says so.
    pub source: String,
    /// Microseconds.
    pub occurred_at: DateTime<Utc>,
    /// By whom.
    pub actor: Option<String>,
    /// JSON, however it is written.
    pub payload: String,
}

/// A record of a test's own, its topic without prefix, and what must become of it.
#[derive(Debug, Clone)]
pub struct Own {
    /// The record.
    pub record: Record,
    /// What must become of it.
    pub becomes: Becomes,
}

/// What must become of a record.
#[derive(Debug, Clone)]
pub enum Becomes {
    /// This event.
    Event(ExpectedEvent),
    /// Nothing: its event is there already, or another record of it comes first.
    Duplicate,
    /// A dead letter.
    DeadLetter,
}

impl Expected {
    /// What must come of a load.
    #[must_use]
    pub fn of(sent: &[LoadRecord]) -> Self {
        let mut expected = Self::default();
        for record in sent {
            let totals = &mut expected.totals;
            match &record.becomes {
                Outcome::Event(fact) => {
                    totals.events += 1;
                    expected.events.push(ExpectedEvent {
                        event_type: fact.event_type.to_owned(),
                        source: fact.source.to_owned(),
                        occurred_at: fact.occurred_at,
                        actor: fact.actor.clone(),
                        payload: record.payload(fact),
                    });
                }
                Outcome::Duplicate => totals.duplicates += 1,
                Outcome::DeadLetter => {
                    totals.dead_letters += 1;
                    expected.dead_letters.push(record.value.clone().unwrap_or_default().into_bytes());
                }
                Outcome::Tombstone => totals.tombstones += 1,
            }
        }
        expected
    }

    /// One record more.
    pub fn add(&mut self, own: &Own) {
        match &own.becomes {
            Becomes::Event(event) => {
                self.totals.events += 1;
                self.events.push(event.clone());
            }
            Becomes::Duplicate => self.totals.duplicates += 1,
            Becomes::DeadLetter => {
                self.totals.dead_letters += 1;
                self.dead_letters.push(own.record.value.clone().unwrap_or_default());
            }
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.events.extend(other.events);
        self.totals = self.totals.plus(other.totals);
        self.dead_letters.extend(other.dead_letters);
        self.shared += other.shared;
        self
    }

    /// Whether a group that has read everything may have counted like this.
    #[must_use]
    pub fn allows(&self, found: &Totals) -> bool {
        let shared = self.totals.events - found.events;
        let moved = Totals {
            events: found.events + shared,
            duplicates: found.duplicates - shared,
            gaps: 0,
            ..*found
        };
        (0..=self.shared).contains(&shared) && moved == Totals { gaps: 0, ..self.totals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_events_may_be_duplicates_instead() {
        let totals = |events, duplicates| Totals { events, duplicates, dead_letters: 2, ..Totals::default() };
        let expected = Expected { totals: totals(10, 3), shared: 4, ..Expected::default() };
        for (events, duplicates, allowed) in
            [(10, 3, true), (8, 5, true), (6, 7, true), (5, 8, false), (11, 2, false), (8, 4, false)]
        {
            assert_eq!(expected.allows(&totals(events, duplicates)), allowed, "{events} {duplicates}");
        }
        assert!(!expected.allows(&Totals { dead_letters: 1, ..totals(10, 3) }));
    }
}
