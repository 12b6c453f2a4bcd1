//! A JSON object taken apart one level deep. Values stay the text they were: no tree, no `f64`, every digit kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Rejection, RejectionClass};

/// A JSON object: its text without the space around it, and its members.
#[derive(Debug)]
pub struct Document<'r> {
    /// From brace to brace.
    pub text: &'r str,
    /// One level deep.
    pub members: Members<'r>,
}

/// The members of a JSON object in the order of the text; names may repeat.
#[derive(Debug)]
pub struct Members<'r>(Vec<(Cow<'r, str>, &'r RawValue)>);

/// Reads bytes that must be one JSON object; `subject` is what the sentences call them.
///
/// Neither nesting nor the number of members costs more than its length: members are `RawValue`s, which are skipped with
/// a stack on the heap, and only collected.
///
/// # Errors
/// Too long, not UTF-8, a byte order mark, nothing, not JSON, or JSON but no object.
pub fn read<'r>(bytes: &'r [u8], subject: &str, max_bytes: usize) -> Result<Document<'r>, Rejection> {
    let text = unicode(bytes, subject, max_bytes)?;
    match serde_json::from_str(text) {
        Ok(members) => Ok(Document { text: text.trim_ascii(), members }),
        Err(error) => Err(no_object(text, subject, &error)),
    }
}

fn no_object(text: &str, subject: &str, error: &serde_json::Error) -> Rejection {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) if !value.get().starts_with('{') => {
            let sentence = format!("{subject} is {}, not a JSON object", kind(value));
            Rejection::new(RejectionClass::NotAnObject, sentence)
        }
        read => {
            // What is wrong with the text itself, rather than with reading it as an object.
            let error = read.as_ref().err().unwrap_or(error);
            Rejection::new(RejectionClass::NotJson, format!("{subject} is not JSON: {error}"))
        }
    }
}

fn unicode<'r>(bytes: &'r [u8], subject: &str, max_bytes: usize) -> Result<&'r str, Rejection> {
    let refuse = |class, what: String| Err(Rejection::new(class, format!("{subject} {what}")));
    if bytes.len() > max_bytes {
        let what = format!("has {} bytes, allowed are at most {max_bytes}", bytes.len());
        return refuse(RejectionClass::TooLarge, what);
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return refuse(RejectionClass::ByteOrderMark, "begins with a byte order mark, expected `{`".into());
    }
    match std::str::from_utf8(bytes) {
        Err(error) => {
            let what =
                format!("is not UTF-8: wrong byte at position {}, counted from 0", error.valid_up_to());
            refuse(RejectionClass::NotUtf8, what)
        }
        Ok(text) if text.trim_ascii().is_empty() => {
            refuse(RejectionClass::Empty, "is empty, expected a JSON object".into())
        }
        Ok(text) => Ok(text),
    }
}

impl<'r> Members<'r> {
    /// # Errors
    /// The text is no object.
    pub fn of(object: &'r RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(object.get())
    }

    /// The member of this name; of several the last, as in `jsonb`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'r RawValue> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// As `get`, but a null counts as absent.
    #[must_use]
    pub fn get_some(&self, name: &str) -> Option<&'r RawValue> {
        self.get(name).filter(|value| !is_null(value))
    }

    /// The names in the order of the text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(24); // No upstream record has more, so this is the only allocation.
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push((name_of(name), value));
        }
        Ok(Members(members))
    }
}

/// A name that cannot be decoded (half of a surrogate pair) stays as it is written: it is no name that we look for.
fn name_of(name: &RawValue) -> Cow<'_, str> {
    text(name).unwrap_or(Cow::Borrowed(name.get()))
}

/// The decoded text of a JSON string; none for any other value and for half of a surrogate pair.
#[must_use]
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Whether it is `null`.
#[must_use]
pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// What kind of value it is, for sentences.
#[must_use]
pub fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
