//! Twin: the one place that reads the clock; everything below takes `now` as a parameter.

use chrono::{DateTime, Utc};

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
#[must_use]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
