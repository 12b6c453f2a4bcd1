use super::{InvalidEvent, check_text};

/// Whose data it is: at most 64 characters. Empty is a tenant of its own, not the same as none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(String);

impl Tenant {
    /// # Errors
    /// The text has another length or holds a NUL character.
    pub fn new(text: String) -> Result<Self, InvalidEvent> {
        check_text("tenantId", &text, 0, 64)?;
        Ok(Self(text))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
