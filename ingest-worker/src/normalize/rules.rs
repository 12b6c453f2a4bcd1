//! What a rule is, and which one a record meets. The built-in table is `upstreams.json`; another upstream is another
//! entry there and no Rust.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use shared::analytics::{EventType, InvalidEvent, Source, unset};
use shared::json::{Members, kind, text};
use uuid::Uuid;

use super::canonical;
use crate::decode::{Rejection, RejectionClass};

/// Where events in canonical form are sent; no rule is about it.
pub const CANONICAL_TOPIC: &str = "analytics.events";

/// How the messages of all upstreams become events, in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct Rules(Vec<Rule>);

/// How one upstream's message becomes an event.
#[derive(Debug, Clone)]
pub struct Rule {
    text: RuleText,
    event_type: EventType,
    source: Source,
}

/// A rule as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleText {
    name: String,
    topics: Vec<String>,
    shape: Shape,
    event_type: String,
    source: String,
    time: Time,
    identity: Identity,
}

/// By what a message is recognized where its topic says nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Shape {
    /// Members that must be there, null or not.
    present: Vec<String>,
    /// Members that must be null or absent.
    #[serde(default)]
    null: Vec<String>,
    /// Members that must be there and not null.
    #[serde(default)]
    not_null: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Time {
    field: String,
    /// The member that the payload gains: the same instant as RFC 3339.
    added: String,
}

/// Frozen: whatever changes here changes ids.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// Independent of the topic and the event type, which may be renamed.
    name: String,
    /// With the time, what makes the event this one and no other.
    key: Vec<String>,
}

/// What the ids of a rule's events are made of. Once events are stored it must not change: a replay would not recognize
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleIdentity {
    /// The frozen name.
    pub identity: String,
    /// Its key fields and its time field.
    pub definition: String,
}

/// Why a table of rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRules {
    /// Not JSON, or not what a rule looks like.
    #[error("the table of rules cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// An event type or a source that no event may have.
    #[error("rule {rule}: {reason}")]
    Names {
        /// The rule's name.
        rule: String,
        /// What is wrong with it.
        reason: InvalidEvent,
    },
    /// Two rules would be mistaken for each other.
    #[error("rule {rule}: its name and its identity name must be its own and not empty")]
    NotUnique {
        /// The rule's name.
        rule: String,
    },
    /// Without a key, two events of one moment would be one.
    #[error("rule {rule}: identity.key is empty, expected at least one field")]
    NoKey {
        /// The rule's name.
        rule: String,
    },
}

/// What a record was recognized as.
#[derive(Debug)]
pub enum Recognized<'a> {
    /// A message of a known upstream.
    Upstream(&'a Rule),
    /// `eventType`, `source` and an object `payload`.
    Canonical,
}

impl Rules {
    /// The table that the worker comes with.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub fn built_in() -> Result<Self, InvalidRules> {
        Self::parse(include_str!("upstreams.json"))
    }

    /// # Errors
    /// The table is not JSON of this form, or its rules contradict each other.
    pub fn parse(json: &str) -> Result<Self, InvalidRules> {
        let texts: Vec<RuleText> = serde_json::from_str(json)?;
        let (mut names, mut identities) = (HashSet::new(), HashSet::new());
        for text in &texts {
            let own = names.insert(&text.name) && identities.insert(&text.identity.name);
            if !own || text.name.is_empty() || text.identity.name.is_empty() {
                return Err(InvalidRules::NotUnique { rule: text.name.clone() });
            }
        }
        texts.into_iter().map(Rule::new).collect::<Result<_, _>>().map(Self)
    }

    /// What the ids of each rule's events are made of.
    #[must_use]
    pub fn identities(&self) -> Vec<RuleIdentity> {
        let definition = |rule: &RuleText| format!("{} at {}", rule.identity.key.join(", "), rule.time.field);
        self.0
            .iter()
            .map(|rule| RuleIdentity {
                identity: rule.text.identity.name.clone(),
                definition: definition(&rule.text),
            })
            .collect()
    }

    /// The topics that the rules are about, without prefix, each once.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        self.0
            .iter()
            .flat_map(|rule| &rule.text.topics)
            .map(String::as_str)
            .filter(move |topic| seen.insert(*topic))
    }

    /// The topic decides, then the canonical shape, then shape alone. On its own topic a rule asks only for what makes
    /// the event; elsewhere for everything by which a message of that upstream is known.
    pub(super) fn recognize(&self, topic: &str, members: &Members<'_>) -> Result<Recognized<'_>, Rejection> {
        let mut of_topic = self.0.iter().filter(|rule| rule.is_about(topic));
        if let Some(rule) = of_topic.find(|rule| rule.missing(members).next().is_none()) {
            return Ok(Recognized::Upstream(rule));
        }
        if canonical::is_canonical(members) {
            return Ok(Recognized::Canonical);
        }
        let mut others = self.0.iter().filter(|rule| !rule.is_about(topic));
        let by_shape = others.find(|rule| rule.text.shape.fits(members));
        by_shape.map(Recognized::Upstream).ok_or_else(|| self.unrecognized(topic, members))
    }

    /// Says what came nearest.
    fn unrecognized(&self, topic: &str, members: &Members<'_>) -> Rejection {
        if let Some(rejection) = canonical::nearly(members) {
            return rejection;
        }
        let of_topic = self.0.iter().filter(|rule| rule.is_about(topic));
        match of_topic.min_by_key(|rule| rule.missing(members).count()) {
            Some(rule) if rule.needs().any(|field| members.get(field).is_some()) => rule.incomplete(members),
            _ => Rejection::new(
                RejectionClass::UnrecognizedShape,
                format!(
                    "no known shape: expected what a known upstream sends, or eventType, source and an object \
                     payload, got an object with {}",
                    listed(members)
                ),
            ),
        }
    }
}

impl Rule {
    fn new(text: RuleText) -> Result<Self, InvalidRules> {
        let invalid = |reason| InvalidRules::Names { rule: text.name.clone(), reason };
        let event_type = EventType::new(text.event_type.clone()).map_err(invalid)?;
        let source = Source::new(text.source.clone()).map_err(invalid)?;
        if text.identity.key.is_empty() {
            return Err(InvalidRules::NoKey { rule: text.name });
        }
        Ok(Self { text, event_type, source })
    }

    pub(super) fn event_type(&self) -> &EventType {
        &self.event_type
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn identity_name(&self) -> &str {
        &self.text.identity.name
    }

    pub(super) fn time_field(&self) -> &str {
        &self.text.time.field
    }

    pub(super) fn added_field(&self) -> &str {
        &self.text.time.added
    }

    /// The values that, with the time, make the event this one.
    pub(super) fn key<'r>(&self, members: &Members<'r>) -> Result<Vec<Cow<'r, str>>, Rejection> {
        self.text.identity.key.iter().map(|field| key_value(field, members)).collect()
    }

    fn is_about(&self, topic: &str) -> bool {
        self.text.topics.iter().any(|own| own == topic)
    }

    /// Without these there is no event: its key and its time.
    fn needs(&self) -> impl Iterator<Item = &str> {
        self.text.identity.key.iter().chain([&self.text.time.field]).map(String::as_str)
    }

    fn missing(&self, members: &Members<'_>) -> impl Iterator<Item = &str> {
        self.needs().filter(|field| members.get(field).is_none())
    }

    fn incomplete(&self, members: &Members<'_>) -> Rejection {
        let missing: Vec<_> = self.missing(members).collect();
        let needs: Vec<_> = self.needs().collect();
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let (missing, needs) = (missing.join(", "), needs.join(", "));
        let sentence = format!("{missing} {verb} missing, {} needs {needs}", self.event_type.as_str());
        Rejection::new(RejectionClass::MissingField, sentence)
    }
}

impl Shape {
    fn fits(&self, members: &Members<'_>) -> bool {
        self.present.iter().all(|field| members.get(field).is_some())
            && self.null.iter().all(|field| members.get_some(field).is_none())
            && self.not_null.iter().all(|field| members.get_some(field).is_some())
    }
}

/// A text that is not empty, or a whole number as it is written. UUIDs are compared without regard to case.
fn key_value<'r>(field: &str, members: &Members<'r>) -> Result<Cow<'r, str>, Rejection> {
    const EXPECTED: &str = "a text or a whole number: it is part of the event's key";
    let refuse =
        |class, what: &str| Err(Rejection::new(class, format!("{field} is {what}, expected {EXPECTED}")));
    let Some(value) = members.get_some(field) else {
        return refuse(RejectionClass::MissingField, "null or missing");
    };
    let whole = value.get().strip_prefix('-').unwrap_or(value.get());
    match text(value) {
        Some(key) if key.is_empty() => refuse(RejectionClass::InvalidField, "empty"),
        Some(key) if unset_uuid(&key).is_some() => {
            refuse(RejectionClass::InvalidField, unset_uuid(&key).unwrap_or_default())
        }
        Some(key) if key.bytes().any(|byte| byte.is_ascii_uppercase()) && is_uuid(&key) => {
            Ok(Cow::Owned(key.to_ascii_lowercase()))
        }
        Some(key) => Ok(key),
        None if whole.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Cow::Borrowed(value.get())),
        None => refuse(RejectionClass::InvalidField, kind(value.get())),
    }
}

/// What the text is called if it is a UUID that nobody set, in any of its forms.
fn unset_uuid(text: &str) -> Option<&'static str> {
    const SHORTEST: usize = 32;
    if text.len() < SHORTEST { None } else { unset(Uuid::try_parse(text).ok()?) }
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The first names, where they look like names: anything else might be what somebody wrote.
fn listed(members: &Members<'_>) -> String {
    let is_name = |name: &&str| {
        (1..=30).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let names: Vec<_> = members.names().filter(is_name).take(5).collect();
    match (names.is_empty(), members.names().nth(names.len()).is_some()) {
        (true, false) => "no member".to_owned(),
        (true, true) => "other members".to_owned(),
        (false, false) => names.join(", "),
        (false, true) => format!("{} and others", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
