use std::sync::Arc;

use super::{InvalidEvent, check_text};

/// The service that says so: 1 to 120 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(Arc<str>);

impl Source {
    /// # Errors
    /// The text has another length or holds a NUL character.
    pub fn new(text: String) -> Result<Self, InvalidEvent> {
        check_text("source", &text, 1, 120)?;
        Ok(Self(text.into()))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
