use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use crate::expected::{Becomes, ExpectedEvent, Own};
use crate::load::CANONICAL_TOPIC;
use crate::produce::Record;

/// An event in canonical form.
#[derive(Debug, Clone)]
pub(super) struct Canonical {
    pub id: Option<Uuid>,
    pub at: DateTime<Utc>,
    /// Of the payload: tells one from another.
    pub number: u64,
    /// In the payload, for size.
    pub filling: String,
}

const TYPE: &str = "faults.content";
const SOURCE: &str = "faults";

impl Canonical {
    pub(super) fn new(id: Option<Uuid>, at: DateTime<Utc>, number: u64) -> Self {
        Self { id, at, number, filling: String::new() }
    }

    fn payload(&self) -> String {
        format!(r#"{{"number":{},"filling":"{}"}}"#, self.number, self.filling)
    }

    pub(super) fn value(&self) -> String {
        let id = self.id.map_or_else(String::new, |id| format!(r#""id":"{id}","#));
        let at = self.at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let payload = self.payload();
        format!(r#"{{{id}"eventType":"{TYPE}","source":"{SOURCE}","occurredAt":"{at}","payload":{payload}}}"#)
    }

    pub(super) fn expected(&self) -> ExpectedEvent {
        ExpectedEvent {
            event_type: TYPE.to_owned(),
            source: SOURCE.to_owned(),
            occurred_at: self.at,
            actor: None,
            payload: self.payload(),
        }
    }

    /// A record that becomes this event.
    pub(super) fn first(&self, partition: i32) -> Own {
        own(partition, self.value().into_bytes(), Becomes::Event(self.expected()))
    }

    /// A record of it when it is there already, or on its way.
    pub(super) fn again(&self, partition: i32) -> Own {
        own(partition, self.value().into_bytes(), Becomes::Duplicate)
    }
}

/// A record on the topic for canonical events.
pub(super) fn own(partition: i32, value: Vec<u8>, becomes: Becomes) -> Own {
    let topic = CANONICAL_TOPIC.to_owned();
    let record = Record { topic, partition: Some(partition), value: Some(value), ..Record::default() };
    Own { record, becomes }
}

/// An id that nobody else has.
pub(super) fn id(random: &mut fastrand::Rng) -> Uuid {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid()
}
