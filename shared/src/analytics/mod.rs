//! The immutable [`AnalyticsEvent`] and its value types. Each checks itself in `new`; below it nobody checks again.

mod event;
mod event_id;
mod event_type;
mod source;
mod tenant;
mod actor;
mod payload;
mod invalid;

pub use actor::Actor;
pub use event::{AnalyticsEvent, EventParts};
pub use event_id::{EventId, unset};
pub use event_type::EventType;
pub use invalid::InvalidEvent;
pub use payload::{Payload, PayloadLimits, Storable};
pub use source::Source;
pub use tenant::Tenant;

/// Checks what every short text column demands: a length in characters and no NUL, which PostgreSQL cannot store.
fn check_text(field: &'static str, text: &str, min: usize, max: usize) -> Result<(), InvalidEvent> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(InvalidEvent::NulCharacter { field });
    }
    // A character has at least one byte, so the usual short text needs no counting.
    let length = if text.len() <= max && min <= 1 { text.len() } else { text.chars().count() };
    if (min..=max).contains(&length) { Ok(()) } else { Err(InvalidEvent::Length { field, length, min, max }) }
}
