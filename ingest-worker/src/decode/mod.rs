//! A record's bytes come in; an [`Envelope`] (a JSON object that `jsonb` will take), a tombstone or a [`Rejection`]
//! goes out. What kind of event it is, is the next room's question.

mod json;
mod rejection;

pub use json::read;
pub use rejection::{Rejection, RejectionClass};

use shared::analytics::Storable;
use shared::json::Members;

use crate::consume::KafkaRecord;

/// What a record's bytes turned out to be.
#[derive(Debug)]
pub enum Decoded<'r> {
    /// A JSON object.
    Envelope(Envelope<'r>),
    /// A null value: in a compacted topic, the news that a key is gone. Counted and passed over.
    Tombstone,
    /// It can never become an event.
    Refused(Rejection),
}

/// How large and how deep a record may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the value.
    pub max_bytes: usize,
    /// Objects and arrays within each other, the outermost counted.
    pub max_depth: u16,
    /// Bytes of the text that PostgreSQL makes of the payload.
    pub max_payload_bytes: u32,
}

impl Default for Limits {
    /// 1 MiB, 128 levels, and payloads that grow to 8 MiB at most.
    fn default() -> Self {
        Self { max_bytes: 1 << 20, max_depth: 128, max_payload_bytes: 8 << 20 }
    }
}

/// A record whose value is a JSON object that `jsonb` accepts.
#[derive(Debug)]
pub struct Envelope<'r> {
    record: &'r KafkaRecord,
    object: Storable<'r>,
    max_payload_bytes: u32,
}

impl<'r> Envelope<'r> {
    /// The record it came in.
    #[must_use]
    pub fn record(&self) -> &'r KafkaRecord {
        self.record
    }

    /// The whole object.
    #[must_use]
    pub fn object(&self) -> &Storable<'r> {
        &self.object
    }

    /// How long PostgreSQL's text of the payload may be, which may be all of the object or a part.
    #[must_use]
    pub fn max_payload_bytes(&self) -> u32 {
        self.max_payload_bytes
    }

    /// The value's members, one level deep.
    #[must_use]
    pub fn members(&self) -> &Members<'r> {
        self.object.members()
    }

    /// The text of the last header of this name; none if there is none or it is null.
    ///
    /// # Errors
    /// Its bytes are not UTF-8.
    pub fn header(&self, name: &str) -> Result<Option<&'r str>, std::str::Utf8Error> {
        let last = self.record.headers.iter().rev().find(|(header, _)| header == name.as_bytes());
        last.and_then(|(_, value)| value.as_deref()).map(std::str::from_utf8).transpose()
    }
}

/// Takes a record's bytes apart, as far as that needs no knowledge of events.
#[must_use]
pub fn decode<'r>(record: &'r KafkaRecord, limits: &Limits) -> Decoded<'r> {
    let Some(value) = &record.value else { return without_value(record) };
    match open(record, value, limits) {
        Ok(envelope) => Decoded::Envelope(envelope),
        Err(rejection) => Decoded::Refused(rejection),
    }
}

/// A CloudEvent in binary mode is an event even without data; it must not be passed over as a tombstone.
fn without_value(record: &KafkaRecord) -> Decoded<'_> {
    if record.headers.iter().any(|(name, _)| name == b"ce_id") {
        Decoded::Refused(Rejection::new(
            RejectionClass::UnrecognizedShape,
            "value is null although there is a header ce_id, expected a JSON object (a tombstone has no such header)",
        ))
    } else {
        Decoded::Tombstone
    }
}

fn open<'r>(record: &'r KafkaRecord, value: &'r [u8], limits: &Limits) -> Result<Envelope<'r>, Rejection> {
    let object = Storable::new(read(value, "value", limits.max_bytes)?, limits.max_depth)?;
    Ok(Envelope { record, object, max_payload_bytes: limits.max_payload_bytes })
}

#[cfg(test)]
mod tests;
