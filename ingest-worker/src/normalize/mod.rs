//! An [`Envelope`] and a table of rules come in; an [`AnalyticsEvent`] or a [`Rejection`] goes out. The HTTP command
//! comes in by a second door and meets the same canonical event.

mod rules;
mod canonical;
mod timestamp;
mod identity;

pub use rules::{CANONICAL_TOPIC, InvalidRules, Rule, RuleIdentity, Rules};

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use shared::analytics::{AnalyticsEvent, EventId, EventParts, Payload, PayloadLimits, Tenant};
use shared::instant;

use crate::consume::KafkaRecord;
use crate::decode::{Envelope, Limits, Rejection, RejectionClass, read};
use canonical::Canonical;
use rules::Recognized;

/// The header that names the tenant of an upstream's message.
const TENANT_HEADER: &str = "tenant-id";

/// 9999-12-31T23:59:59.999999999Z: RFC 3339 has no later years.
const END_OF_TIME: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 999_999_999) {
    Some(end) => end,
    None => DateTime::<Utc>::MAX_UTC,
};

/// Makes events of what the doors let in.
#[derive(Debug, Clone)]
pub struct Normalizer {
    rules: Rules,
    limits: EventTimeLimits,
    topic_prefix: String,
}

/// When an event may have happened. Partitions are monthly: without limits one hostile record a month would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTimeLimits {
    /// The earliest time.
    pub min: DateTime<Utc>,
    /// How far beyond the record's timestamp, or the clock where it has none that is plausible.
    pub max_ahead: TimeDelta,
}

/// Clocks of producers and brokers may be ahead of ours by so much: a record stamped later is a mistake.
const RECORD_MAX_AHEAD: TimeDelta = TimeDelta::days(1);

/// Why an HTTP command is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandRefusal {
    /// It cannot be read as what it claims to be (400).
    Unreadable(String),
    /// These fields are refused (422).
    Invalid(Vec<InvalidField>),
}

/// A field of an HTTP command that is refused: `{field} {detail}, expected {allowed}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// Its name on the wire; `body` for the whole.
    pub field: &'static str,
    /// What came.
    pub detail: String,
    /// What is allowed.
    pub allowed: String,
}

impl Normalizer {
    /// The prefix stands before the names of topics in Kafka and not before those in the rules.
    #[must_use]
    pub fn new(rules: Rules, limits: EventTimeLimits, topic_prefix: String) -> Self {
        Self { rules, limits, topic_prefix }
    }

    /// The event that a record is; `now` is for records without a timestamp, or with one that is not plausible.
    ///
    /// # Errors
    /// No rule knows the shape, or what makes the event is missing, unreadable or outside the limits.
    pub fn normalize(
        &self,
        envelope: &Envelope<'_>,
        now: DateTime<Utc>,
    ) -> Result<AnalyticsEvent, Rejection> {
        let record = envelope.record();
        let topic = record.topic.strip_prefix(self.topic_prefix.as_str()).unwrap_or(&record.topic);
        let plausible = self.limits.of_records(now);
        let timestamp = record.timestamp.map(|timestamp| timestamp.at);
        let yardstick = timestamp.filter(|at| plausible.refusal(*at).is_none()).unwrap_or(now);
        let bounds = self.limits.around(yardstick);
        match self.rules.recognize(topic, envelope.members())? {
            Recognized::Upstream(rule) => upstream(rule, envelope, &bounds),
            Recognized::Canonical => canonical(envelope, &bounds, &plausible),
        }
    }

    /// The event that an HTTP command (one JSON object) asks for. It happened `now` if it does not say when, and is made
    /// of `random` if it brings no id.
    ///
    /// # Errors
    /// The body cannot be read, or fields are refused: all of them are listed.
    pub fn command(
        &self,
        body: &[u8],
        limits: &Limits,
        now: DateTime<Utc>,
        random: [u8; 16],
    ) -> Result<AnalyticsEvent, CommandRefusal> {
        let members = read(body, "body", limits.max_bytes)
            .map_err(|rejection| unreadable(&rejection, body.len(), limits))?;
        let bounds = self.limits.around(now);
        let payload = PayloadLimits { max_depth: limits.max_depth, max_bytes: limits.max_payload_bytes };
        let command = canonical::read(&members, payload, &bounds).map_err(|refused| {
            CommandRefusal::Invalid(refused.into_iter().map(InvalidField::from).collect())
        })?;
        let occurred_at = command.occurred_at.unwrap_or(now);
        Ok(event(command, occurred_at, || EventId::derived(occurred_at, random)))
    }
}

/// A message of a known upstream: all of it becomes the payload, with its time once more as RFC 3339.
fn upstream(rule: &Rule, envelope: &Envelope<'_>, bounds: &Bounds) -> Result<AnalyticsEvent, Rejection> {
    let members = envelope.members();
    let key = rule.key(members)?;
    let occurred_at = time(rule, envelope, bounds)?;
    let iso_time = instant::format(occurred_at);
    let payload =
        Payload::with_member(envelope.object(), rule.added_field(), &iso_time, envelope.max_payload_bytes())?;
    let id = identity::of_natural_key(rule.identity_name(), occurred_at, key.iter().map(AsRef::as_ref));
    Ok(AnalyticsEvent::new(EventParts {
        id,
        event_type: rule.event_type().clone(),
        source: rule.source().clone(),
        occurred_at,
        says_when: true,
        tenant: tenant(envelope)?,
        actor: canonical::actor_of(members),
        payload,
    }))
}

fn time(rule: &Rule, envelope: &Envelope<'_>, bounds: &Bounds) -> Result<DateTime<Utc>, Rejection> {
    let field = rule.time_field();
    let refuse = |class, detail: &str, allowed: &str| {
        Rejection::new(class, format!("{field} {detail}, expected {allowed}"))
    };
    let Some(value) = envelope.members().get_some(field) else {
        return Err(refuse(RejectionClass::MissingField, "is missing or null", timestamp::EXPECTED));
    };
    let at = timestamp::parse(value)
        .map_err(|detail| refuse(RejectionClass::InvalidTime, &detail, timestamp::EXPECTED))?;
    match bounds.refusal(at) {
        None => Ok(at),
        Some(detail) => Err(refuse(RejectionClass::TimeOutOfRange, &detail, &bounds.to_string())),
    }
}

fn tenant(envelope: &Envelope<'_>) -> Result<Option<Tenant>, Rejection> {
    let refuse = |detail: &str| {
        let sentence = format!("header {TENANT_HEADER} {detail}, expected UTF-8 of at most 64 characters");
        Rejection::new(RejectionClass::InvalidField, sentence)
    };
    let header = envelope.header(TENANT_HEADER).map_err(|_| refuse("is not UTF-8"))?;
    let tenant = header.map(|tenant| Tenant::new(tenant.to_owned())).transpose();
    tenant.map_err(|_| refuse("is too long or contains U+0000"))
}

fn canonical(
    envelope: &Envelope<'_>,
    bounds: &Bounds,
    plausible: &Bounds,
) -> Result<AnalyticsEvent, Rejection> {
    // The whole record, and so its payload, has passed the limit of depth already.
    let limits = PayloadLimits { max_bytes: envelope.max_payload_bytes(), ..PayloadLimits::NONE };
    let fields = canonical::read(envelope.members(), limits, bounds);
    let fields = fields.map_err(|refused| first(refused.into_iter().map(Rejection::from)))?;
    let record = envelope.record();
    let occurred_at = match fields.occurred_at {
        Some(at) => at,
        None => record_time(record, plausible)?,
    };
    Ok(event(fields, occurred_at, || identity::of_position(occurred_at, record)))
}

/// The time of a canonical event that does not say when it happened.
fn record_time(record: &KafkaRecord, plausible: &Bounds) -> Result<DateTime<Utc>, Rejection> {
    let Some(timestamp) = record.timestamp else {
        let sentence = "occurredAt is missing or null, and the record has no timestamp to take its place";
        return Err(Rejection::new(RejectionClass::MissingField, sentence));
    };
    match plausible.refusal(timestamp.at) {
        None => Ok(timestamp.at),
        Some(detail) => Err(Rejection::new(
            RejectionClass::TimeOutOfRange,
            format!(
                "occurredAt is missing or null, and the record's timestamp {detail}, expected {plausible}"
            ),
        )),
    }
}

fn event(fields: Canonical, occurred_at: DateTime<Utc>, derived: impl FnOnce() -> EventId) -> AnalyticsEvent {
    let says_when = fields.occurred_at.is_some();
    let Canonical { id, event_type, source, tenant, actor, payload, .. } = fields;
    let id = id.unwrap_or_else(derived);
    AnalyticsEvent::new(EventParts { id, event_type, source, occurred_at, says_when, tenant, actor, payload })
}

/// A dead letter has room for one class; the further faults show when the first one is mended.
fn first(mut rejections: impl Iterator<Item = Rejection>) -> Rejection {
    rejections
        .next()
        .unwrap_or_else(|| Rejection::new(RejectionClass::InvalidField, "refused without a reason"))
}

fn unreadable(rejection: &Rejection, bytes: usize, limits: &Limits) -> CommandRefusal {
    if rejection.class() == RejectionClass::TooLarge {
        // It may well be an event, only too long a one.
        let detail = format!("has {bytes} bytes");
        let allowed = format!("at most {} bytes", limits.max_bytes);
        return CommandRefusal::Invalid(vec![InvalidField { field: "body", detail, allowed }]);
    }
    CommandRefusal::Unreadable(rejection.sentence().to_owned())
}

/// The limits of an event's time, as they are for one record.
struct Bounds {
    earliest: DateTime<Utc>,
    latest: DateTime<Utc>,
}

impl EventTimeLimits {
    /// For an event, `reference` being its record's timestamp or the clock.
    fn around(&self, reference: DateTime<Utc>) -> Bounds {
        self.until(reference, self.max_ahead)
    }

    /// For a record's own timestamp, which is no yardstick outside.
    fn of_records(&self, now: DateTime<Utc>) -> Bounds {
        self.until(now, RECORD_MAX_AHEAD)
    }

    /// Never empty, should the clock be wrong too.
    fn until(&self, reference: DateTime<Utc>, ahead: TimeDelta) -> Bounds {
        let latest = reference.max(self.min).checked_add_signed(ahead).unwrap_or(END_OF_TIME);
        Bounds { earliest: self.min, latest: latest.min(END_OF_TIME) }
    }
}

impl Bounds {
    /// What is wrong with this time, if it is outside.
    fn refusal(&self, at: DateTime<Utc>) -> Option<String> {
        if (self.earliest..=self.latest).contains(&at) {
            None
        } else {
            Some(format!("is {}", instant::format(at)))
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} to {}", instant::format(self.earliest), instant::format(self.latest))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod golden;
