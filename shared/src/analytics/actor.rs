use super::{InvalidEvent, check_text};

/// Who did it: at most 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Actor(String);

impl Actor {
    /// # Errors
    /// The text has another length or holds a NUL character.
    pub fn new(text: String) -> Result<Self, InvalidEvent> {
        check_text("actorId", &text, 0, 128)?;
        Ok(Self(text))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
