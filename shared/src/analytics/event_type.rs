use std::sync::Arc;

use super::{InvalidEvent, check_text};

/// What happened, as its producer names it: 1 to 120 characters. Shared by the events of an upstream's rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(Arc<str>);

impl EventType {
    /// # Errors
    /// The text has another length or holds a NUL character.
    pub fn new(text: String) -> Result<Self, InvalidEvent> {
        check_text("eventType", &text, 1, 120)?;
        Ok(Self(text.into()))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
