//! The canonical event: the shape that every producer may send on any topic, and the body of the HTTP command. Names in
//! camelCase or snake_case, as the original takes them; a null counts as absent; unknown members are ignored.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use shared::analytics::{Actor, EventId, EventType, InvalidEvent, Payload, PayloadLimits, Source, Tenant};
use shared::json::{Members, kind, text};
use uuid::Uuid;

use super::{Bounds, InvalidField, timestamp};
use crate::decode::{Rejection, RejectionClass};

/// A canonical event's fields, each checked.
pub struct Canonical {
    pub id: Option<EventId>,
    pub event_type: EventType,
    pub source: Source,
    pub occurred_at: Option<DateTime<Utc>>,
    pub tenant: Option<Tenant>,
    pub actor: Option<Actor>,
    pub payload: Payload,
}

/// A field that was refused, and the class of dead letter that it makes of a record.
pub struct Refused {
    class: RejectionClass,
    field: &'static str,
    detail: String,
    allowed: String,
}

/// A field and its names: the first one is that of the answer and of sentences, the first one present is read.
struct Name(&'static [&'static str]);

const ID: Name = Name(&["id", "eventId", "event_id"]);
const EVENT_TYPE: Name = Name(&["eventType", "event_type"]);
const SOURCE: Name = Name(&["source"]);
const OCCURRED_AT: Name = Name(&["occurredAt", "occurred_at"]);
const TENANT: Name = Name(&["tenantId", "tenant_id"]);
const ACTOR: Name = Name(&["actorId", "actor_id"]);
const PAYLOAD: Name = Name(&["payload"]);

/// Where the payload says who did it, if the event does not.
const ACTOR_IN_PAYLOAD: [&str; 4] = ["userId", "studentId", "student_id", "actorId"];

/// Whether these are the members of a canonical event; whether they are in order is another question.
pub fn is_canonical(members: &Members<'_>) -> bool {
    EVENT_TYPE.of(members).is_some()
        && SOURCE.of(members).is_some()
        && PAYLOAD.of(members).is_some_and(|payload| payload.get().starts_with('{'))
}

/// A canonical event but for its payload, which is missing or no object.
pub fn nearly(members: &Members<'_>) -> Option<Rejection> {
    let named = EVENT_TYPE.of(members).is_some() && SOURCE.of(members).is_some();
    let payload = if named { payload(members, PayloadLimits::NONE) } else { return None };
    payload.err().map(Rejection::from)
}

/// Reads all fields and lists all that are wrong. Without an `occurredAt` the door says what time it is.
pub fn read(
    members: &Members<'_>,
    limits: PayloadLimits,
    bounds: &Bounds,
) -> Result<Canonical, Vec<Refused>> {
    let mut refused = Vec::new();
    let id = keep(id(members), &mut refused);
    let event_type = keep(required(members, &EVENT_TYPE, EventType::new, TYPE_ALLOWED), &mut refused);
    let source = keep(required(members, &SOURCE, Source::new, TYPE_ALLOWED), &mut refused);
    let occurred_at = keep(occurred_at(members, bounds), &mut refused);
    let tenant =
        keep(optional(members, &TENANT, Tenant::new, "a string of at most 64 characters"), &mut refused);
    let actor =
        keep(optional(members, &ACTOR, Actor::new, "a string of at most 128 characters"), &mut refused);
    let payload = keep(payload(members, limits), &mut refused);
    match (id, event_type, source, occurred_at, tenant, actor, payload) {
        (
            Some(id),
            Some(event_type),
            Some(source),
            Some(occurred_at),
            Some(tenant),
            Some(actor),
            Some(payload),
        ) => {
            let actor = actor.or_else(|| PAYLOAD.of(members).and_then(actor_in));
            Ok(Canonical { id, event_type, source, occurred_at, tenant, actor, payload })
        }
        _ => Err(refused),
    }
}

const TYPE_ALLOWED: &str = "a string of 1 to 120 characters";

/// The first of the usual names that holds a text fit for an actor.
pub fn actor_of(members: &Members<'_>) -> Option<Actor> {
    ACTOR_IN_PAYLOAD.iter().find_map(|name| Actor::new(text(members.get(name)?)?.into_owned()).ok())
}

fn actor_in(payload: &RawValue) -> Option<Actor> {
    actor_of(&Members::of(payload.get()).ok()?)
}

fn keep<T>(result: Result<T, Refused>, refused: &mut Vec<Refused>) -> Option<T> {
    result.map_err(|problem| refused.push(problem)).ok()
}

fn id(members: &Members<'_>) -> Result<Option<EventId>, Refused> {
    const ALLOWED: &str = "a UUID as a string";
    let Some(value) = ID.of(members) else { return Ok(None) };
    let refuse = |detail: &str| ID.refuse(RejectionClass::InvalidField, detail, ALLOWED);
    let text = text(value).ok_or_else(|| refuse(&format!("is {}", not_text(value))))?;
    let uuid = Uuid::try_parse(&text).map_err(|_| refuse("is no UUID"))?;
    EventId::external(uuid).map(Some).map_err(|invalid| ID.invalid(&invalid, "an event's own UUID, or none"))
}

fn occurred_at(members: &Members<'_>, bounds: &Bounds) -> Result<Option<DateTime<Utc>>, Refused> {
    let Some(value) = OCCURRED_AT.of(members) else { return Ok(None) };
    let at = timestamp::parse(value)
        .map_err(|detail| OCCURRED_AT.refuse(RejectionClass::InvalidTime, &detail, timestamp::EXPECTED))?;
    match bounds.refusal(at) {
        None => Ok(Some(at)),
        Some(detail) => Err(OCCURRED_AT.refuse(RejectionClass::TimeOutOfRange, &detail, &bounds.to_string())),
    }
}

fn payload(members: &Members<'_>, limits: PayloadLimits) -> Result<Payload, Refused> {
    let Some(value) = PAYLOAD.of(members) else { return Err(PAYLOAD.missing("a JSON object")) };
    Payload::new(value.get(), limits).map_err(|invalid| match invalid {
        InvalidEvent::PayloadBytes { max, .. } => PAYLOAD.invalid(&invalid, &format!("at most {max} bytes")),
        _ => PAYLOAD.invalid(&invalid, "a JSON object that PostgreSQL can store"),
    })
}

fn required<T>(
    members: &Members<'_>,
    name: &Name,
    new: fn(String) -> Result<T, InvalidEvent>,
    allowed: &str,
) -> Result<T, Refused> {
    optional(members, name, new, allowed)?.ok_or_else(|| name.missing(allowed))
}

fn optional<T>(
    members: &Members<'_>,
    name: &Name,
    new: fn(String) -> Result<T, InvalidEvent>,
    allowed: &str,
) -> Result<Option<T>, Refused> {
    let Some(value) = name.of(members) else { return Ok(None) };
    let text = text(value).map(Cow::into_owned).ok_or_else(|| {
        name.refuse(RejectionClass::InvalidField, &format!("is {}", not_text(value)), allowed)
    })?;
    new(text).map(Some).map_err(|invalid| name.invalid(&invalid, allowed))
}

/// A string that is none is one that cannot be decoded.
fn not_text(value: &RawValue) -> &'static str {
    match kind(value.get()) {
        "a string" => "a string with half of a UTF-16 surrogate pair",
        other => other,
    }
}

impl Name {
    fn of<'r>(&self, members: &Members<'r>) -> Option<&'r RawValue> {
        self.0.iter().find_map(|name| members.get_some(name))
    }

    fn refuse(&self, class: RejectionClass, detail: &str, allowed: &str) -> Refused {
        let field = self.0.first().copied().unwrap_or_default();
        Refused { class, field, detail: detail.to_owned(), allowed: allowed.to_owned() }
    }

    fn missing(&self, allowed: &str) -> Refused {
        self.refuse(RejectionClass::MissingField, "is missing or null", allowed)
    }

    fn invalid(&self, invalid: &InvalidEvent, allowed: &str) -> Refused {
        let detail = match invalid {
            InvalidEvent::Length { length, .. } => format!("has {length} characters"),
            InvalidEvent::NulCharacter { .. } => "contains the character U+0000".to_owned(),
            InvalidEvent::UnsetId { found } => format!("is {found}, which identifies nothing"),
            InvalidEvent::PayloadNotObject { found } => format!("is {found}"),
            InvalidEvent::PayloadDepth { max } => format!("is nested more than {max} levels deep"),
            InvalidEvent::LoneSurrogate { escape } => {
                format!("contains half of a UTF-16 surrogate pair ({escape})")
            }
            InvalidEvent::NumberRange { number } => {
                format!("contains a number beyond PostgreSQL's numeric range ({number})")
            }
            InvalidEvent::PayloadBytes { bytes, .. } => {
                format!("takes {bytes} bytes when PostgreSQL writes its numbers out in full")
            }
        };
        self.refuse(RejectionClass::of(invalid), &detail, allowed)
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        let Refused { class, field, detail, allowed } = refused;
        Self::new(class, format!("{field} {detail}, expected {allowed}"))
    }
}

impl From<Refused> for InvalidField {
    fn from(refused: Refused) -> Self {
        Self { field: refused.field, detail: refused.detail, allowed: refused.allowed }
    }
}
