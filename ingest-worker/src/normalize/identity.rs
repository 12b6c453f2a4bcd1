//! The id of an event that brings none: time first, then a digest of what makes the event that event, so that the same
//! thing read twice has the same id.
//!
//! Frozen: another framing, order or name changes ids, and a replay would not recognize what is stored.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use shared::analytics::EventId;

use crate::consume::KafkaRecord;

/// From what the event says: the rule's identity name, the time to the nanosecond and the key's values. Topic and
/// offset are left out, since topics are mirrored and made anew, and a producer's retry gives one event two offsets.
pub fn of_natural_key<'k>(
    name: &str,
    occurred_at: DateTime<Utc>,
    key: impl Iterator<Item = &'k str>,
) -> EventId {
    let digest = Parts::new(name.as_bytes()).part(&nanoseconds(occurred_at));
    EventId::derived(occurred_at, key.fold(digest, |digest, value| digest.part(value.as_bytes())).finish())
}

/// From where the record lies and what it holds: two records of equal content are two events. The record's time and
/// bytes are in it because a topic that is made anew starts again at offset 0.
pub fn of_position(occurred_at: DateTime<Utc>, record: &KafkaRecord) -> EventId {
    let timestamp = record.timestamp.map(|timestamp| timestamp.at.timestamp_millis().to_be_bytes());
    let digest = Parts::new(b"") // No rule's identity has this name.
        .part(&nanoseconds(occurred_at))
        .part(record.topic.as_bytes())
        .part(&record.partition.to_be_bytes())
        .part(&record.offset.to_be_bytes())
        .optional(timestamp.as_ref().map(<[u8; 8]>::as_slice))
        .optional(record.key.as_deref())
        .optional(record.value.as_deref());
    EventId::derived(occurred_at, digest.finish())
}

/// A thousand million to the second, 16 bytes, the most significant first.
fn nanoseconds(at: DateTime<Utc>) -> [u8; 16] {
    (i128::from(at.timestamp()) * 1_000_000_000 + i128::from(at.timestamp_subsec_nanos())).to_be_bytes()
}

/// SHA-256 over parts, each after its length, so that no two lists of parts are the same bytes.
struct Parts(Sha256);

impl Parts {
    fn new(name: &[u8]) -> Self {
        Self(Sha256::new()).part(name)
    }

    fn part(mut self, bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(length.to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// None is not the same as empty.
    fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.part(&[0]),
            Some(bytes) => self.part(&[1]).part(bytes),
        }
    }

    fn finish(self) -> [u8; 16] {
        let digest: [u8; 32] = self.0.finalize().into();
        let mut first = [0; 16];
        first.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        first
    }
}
