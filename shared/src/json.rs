//! A JSON object taken apart one level deep. Values stay the text they were: no tree, no `f64`, every digit kept.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object in the order of its text; names may repeat.
#[derive(Debug)]
pub struct Members<'t> {
    text: &'t str,
    has_escapes: bool,
    members: Vec<Member<'t>>,
}

/// A member of a JSON object.
#[derive(Debug)]
pub struct Member<'t> {
    /// The name as it was written, between its quotation marks.
    written: &'t str,
    /// The name, if it is not what it looks like.
    decoded: Option<Box<str>>,
    value: &'t RawValue,
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
        let has_escapes = memchr(b'\\', text.as_bytes()).is_some();
        let mut json = serde_json::Deserializer::from_str(text);
        let members = json.deserialize_map(Collector { has_escapes })?;
        json.end()?;
        Ok(Self { text: text.trim_ascii(), has_escapes, members })
    }

    /// The object's text, from brace to brace.
    #[must_use]
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Whether there is a backslash anywhere in the text.
    #[must_use]
    pub fn has_escapes(&self) -> bool {
        self.has_escapes
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

    /// A member's text, from its name's first quotation mark to its value's end.
    #[must_use]
    pub fn text_of(&self, member: &Member<'t>) -> &'t str {
        let offset = |part: &str| part.as_ptr().addr() - self.text.as_ptr().addr();
        let value = member.value.get();
        self.text.get(offset(member.written) - 1..offset(value) + value.len()).unwrap_or_default()
    }
}

impl<'t> Member<'t> {
    /// The name as it was meant. One that cannot be decoded (half of a surrogate pair) stays as it is written: it is no
    /// name that we look for.
    #[must_use]
    pub fn name(&self) -> &str {
        self.decoded.as_deref().unwrap_or(self.written)
    }

    /// What stands behind the colon.
    #[must_use]
    pub fn value(&self) -> &'t RawValue {
        self.value
    }
}

/// Collects members; without any backslash, names are what they look like.
struct Collector {
    has_escapes: bool,
}

impl<'de> Visitor<'de> for Collector {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // No upstream record has more, so this is the only allocation; and what is larger than 1 KiB takes glibc longer.
        let mut members = Vec::with_capacity(21);
        while let Some((written, decoded)) = self.name(&mut map)? {
            members.push(Member { written, decoded, value: map.next_value()? });
        }
        Ok(members)
    }
}

/// As it is written and, if that is not the same, as it is meant.
type Name<'de> = (&'de str, Option<Box<str>>);

impl Collector {
    fn name<'de, A: MapAccess<'de>>(&self, map: &mut A) -> Result<Option<Name<'de>>, A::Error> {
        if !self.has_escapes {
            return Ok(map.next_key()?.map(|name| (name, None)));
        }
        let Some(name) = map.next_key::<&RawValue>()? else { return Ok(None) };
        let decoded = match text(name) {
            Some(Cow::Owned(name)) => Some(name.into_boxed_str()),
            _ => None,
        };
        Ok(Some((inner(name).unwrap_or_default(), decoded)))
    }
}

/// The decoded text of a JSON string; none for any other value and for half of a surrogate pair.
#[must_use]
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = inner(value)?;
    if memchr(b'\\', inner.as_bytes()).is_some() {
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
