use chrono::{DateTime, SubsecRound as _, Utc};

use super::{Actor, EventId, EventType, Payload, Source, Tenant};

/// Something that happened, once and for all: the aggregate that every door of the write side makes.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalyticsEvent {
    parts: EventParts,
}

/// What an event is made of; each part has checked itself.
#[derive(Debug, Clone, PartialEq)]
pub struct EventParts {
    /// Unique; the same fact read twice has the same id.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// Which service says so.
    pub source: Source,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// Whether the event says so itself; else it is when it came.
    pub says_when: bool,
    /// Whose data it is, where there are several customers.
    pub tenant: Option<Tenant>,
    /// Who did it.
    pub actor: Option<Actor>,
    /// Everything that the producer said, as a JSON object.
    pub payload: Payload,
}

impl AnalyticsEvent {
    /// Digits of `occurred_at` beyond microseconds, which PostgreSQL does not keep, are cut and not rounded: an event
    /// never moves into the next minute.
    #[must_use]
    pub fn new(mut parts: EventParts) -> Self {
        parts.occurred_at = parts.occurred_at.trunc_subsecs(6);
        Self { parts }
    }

    /// Unique; the same fact read twice has the same id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.parts.id
    }

    /// What happened.
    #[must_use]
    pub fn event_type(&self) -> &EventType {
        &self.parts.event_type
    }

    /// Which service says so.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.parts.source
    }

    /// When it happened, in whole microseconds.
    #[must_use]
    pub fn occurred_at(&self) -> DateTime<Utc> {
        self.parts.occurred_at
    }

    /// Whether the event says itself when it happened; a repeat of one that does not may have another time.
    #[must_use]
    pub fn says_when(&self) -> bool {
        self.parts.says_when
    }

    /// Whose data it is; an empty tenant is not the same as none.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        self.parts.tenant.as_ref()
    }

    /// Who did it.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.parts.actor.as_ref()
    }

    /// Everything that the producer said.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.parts.payload
    }
}
