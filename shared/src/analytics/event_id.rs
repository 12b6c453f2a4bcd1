use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{Uuid, Variant};

use super::InvalidEvent;

/// An event's id and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    uuid: Uuid,
    external: bool,
}

impl EventId {
    /// An id that a producer or a client chose. It says nothing about the event's time, so it is also kept in
    /// `event_ids`, which makes it unique whatever `occurred_at` comes with it.
    ///
    /// # Errors
    /// The nil and the max UUID identify nothing: they are what a field holds that nobody set.
    pub fn external(uuid: Uuid) -> Result<Self, InvalidEvent> {
        match unset(uuid) {
            None => Ok(Self { uuid, external: true }),
            Some(found) => Err(InvalidEvent::UnsetId { found }),
        }
    }

    /// `UUIDv8` (RFC 9562, section 5.8): 48 bits of milliseconds as in `UUIDv7`, then 74 bits of `digest`. Ids sort by
    /// time, and an id alone finds its row through the primary key `(occurred_at, id)`.
    #[must_use]
    pub fn derived(occurred_at: DateTime<Utc>, digest: [u8; 16]) -> Self {
        let millis = occurred_at.timestamp_millis().to_be_bytes();
        let mut bytes = digest;
        // The low 48 of the 64 bits: years 1970 to 10889.
        bytes.iter_mut().zip(millis.iter().skip(2)).for_each(|(byte, part)| *byte = *part);
        Self { uuid: uuid::Builder::from_custom_bytes(bytes).into_uuid(), external: false }
    }

    /// The id itself.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.uuid
    }

    /// Whether it came from outside.
    #[must_use]
    pub fn is_external(self) -> bool {
        self.external
    }

    /// The millisecond in which the row with this id lies, as `[start, end)`, if the id is one of ours.
    #[must_use]
    pub fn millisecond(self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        if self.uuid.get_version_num() != 8 || self.uuid.get_variant() != Variant::RFC4122 {
            return None;
        }
        let millis = i64::try_from(self.uuid.as_u128() >> 80).ok()?;
        let start = DateTime::from_timestamp_millis(millis)?;
        Some((start, start.checked_add_signed(TimeDelta::milliseconds(1))?))
    }
}

/// What a UUID is called that nobody set.
#[must_use]
pub fn unset(uuid: Uuid) -> Option<&'static str> {
    match uuid {
        uuid if uuid.is_nil() => Some("the nil UUID"),
        uuid if uuid.is_max() => Some("the max UUID"),
        _ => None,
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_tells_its_millisecond_and_its_version() {
        let at: DateTime<Utc> = "2025-11-16T18:14:00.048931Z".parse().unwrap();
        let id = EventId::derived(at, [0xff; 16]);
        assert_eq!(id.uuid().to_string(), "019a8ddf-b670-8fff-bfff-ffffffffffff");
        let (start, end) = id.millisecond().unwrap();
        assert!(start <= at && at < end);
        assert!(!id.is_external());
    }

    #[test]
    fn other_versions_tell_no_time() {
        for uuid in [Uuid::from_u128(1), uuid::uuid!("6f0c1c6e-3a55-4b1e-9a53-5b6b1f9d1c01")] {
            assert_eq!(EventId::external(uuid).unwrap().millisecond(), None);
        }
    }

    #[test]
    fn what_nobody_set_is_no_id() {
        for (uuid, sentence) in [
            (Uuid::nil(), "id is the nil UUID, which identifies nothing"),
            (Uuid::max(), "id is the max UUID, which identifies nothing"),
        ] {
            assert_eq!(EventId::external(uuid).unwrap_err().to_string(), sentence);
        }
        assert!(EventId::external(Uuid::from_u128(1)).is_ok());
    }
}
