//! A JSON object taken apart one level deep. Values stay the text they were: no tree, no `f64`, every digit kept.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object in the order of its text; names may repeat.
#[derive(Debug)]
pub struct Members<'t> {
    text: &'t str,
    members: Vec<Member<'t>>,
}

/// A member of a JSON object.
#[derive(Debug)]
pub struct Member<'t> {
    written: &'t RawValue,
    value: &'t RawValue,
    /// The name, if it is not what it looks like.
    decoded: Option<Box<str>>,
}

impl<'t> Members<'t> {
    /// Of a text that must be one JSON object.
    ///
    /// Neither nesting nor the number of members costs more than its length: members are `RawValue`s, which are skipped
    /// with a stack on the heap, and only collected.
    ///
    /// # Errors
    /// It is not.
    pub fn of(text: &'t str) -> Result<Self, serde_json::Error> {
        let Collected(members) = serde_json::from_str(text)?;
        Ok(Self { text: text.trim_ascii(), members })
    }

    /// The object's text, from brace to brace.
    #[must_use]
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The member of this name; of several the last, as in `jsonb`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'t RawValue> {
        self.members.iter().rev().find(|member| member.name() == name).map(|member| member.value)
    }

    /// As `get`, but a null counts as absent.
    #[must_use]
    pub fn get_some(&self, name: &str) -> Option<&'t RawValue> {
        self.get(name).filter(|value| !is_null(value))
    }

    /// The names in the order of the text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(Member::name)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Member<'t>> {
        self.members.iter()
    }

    /// Where a member stands in the text, from its name's first quotation mark to its value's end.
    #[must_use]
    pub fn place(&self, member: &Member<'_>) -> Range<usize> {
        let offset = |part: &RawValue| part.get().as_ptr().addr() - self.text.as_ptr().addr();
        offset(member.written)..offset(member.value) + member.value.get().len()
    }
}

impl<'t> Member<'t> {
    fn new(written: &'t RawValue, value: &'t RawValue) -> Self {
        let decoded = text(written).and_then(|name| match name {
            Cow::Borrowed(_) => None,
            Cow::Owned(name) => Some(name.into_boxed_str()),
        });
        Self { written, value, decoded }
    }

    /// The name as it was meant. One that cannot be decoded (half of a surrogate pair) stays as it is written: it is no
    /// name that we look for.
    #[must_use]
    pub fn name(&self) -> &str {
        self.decoded.as_deref().or(inner(self.written)).unwrap_or_default()
    }

    /// The name as it was written, with its quotation marks.
    #[must_use]
    pub fn written(&self) -> &'t RawValue {
        self.written
    }

    /// What stands behind the colon.
    #[must_use]
    pub fn value(&self) -> &'t RawValue {
        self.value
    }
}

/// What the deserializer knows: it does not hand out the text.
struct Collected<'t>(Vec<Member<'t>>);

impl<'de> Deserialize<'de> for Collected<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collector)
    }
}

struct Collector;

impl<'de> Visitor<'de> for Collector {
    type Value = Collected<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(21); // No upstream record has more, so this is the only allocation.
        while let Some((written, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push(Member::new(written, value));
        }
        Ok(Collected(members))
    }
}

/// The decoded text of a JSON string; none for any other value and for half of a surrogate pair.
#[must_use]
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = inner(value)?;
    if inner.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// What stands between the quotation marks.
fn inner(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

/// Whether it is `null`.
#[must_use]
pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// What kind of value it is, for sentences.
#[must_use]
pub fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
