//! The one place of the workshop that reads the clock.

use chrono::{DateTime, Utc};

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock; everybody else takes time as a parameter")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
