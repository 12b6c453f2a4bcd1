//! Writer and reader cut time with the same knife. All cuts are aligned to the Unix epoch in UTC and round towards the
//! past, also before 1970.

use chrono::{DateTime, TimeDelta, Utc};

/// Minutes in an hour row of `event_counts`.
pub const MINUTES_PER_HOUR: usize = 60;

/// The start of the bucket of `width` that holds `at`; `width` is at least a second and whole seconds.
#[must_use]
pub fn floor(at: DateTime<Utc>, width: TimeDelta) -> DateTime<Utc> {
    let seconds = at.timestamp();
    let start = seconds - seconds.rem_euclid(width.num_seconds().max(1));
    DateTime::from_timestamp(start, 0).unwrap_or(at)
}

/// The start of the first bucket of `width` that begins at or after `at`.
#[must_use]
pub fn ceil(at: DateTime<Utc>, width: TimeDelta) -> DateTime<Utc> {
    let start = floor(at, width);
    if start == at { at } else { start + width }
}

/// The hour that holds `at`.
#[must_use]
pub fn hour(at: DateTime<Utc>) -> DateTime<Utc> {
    floor(at, TimeDelta::hours(1))
}

/// Which of its hour's sixty minutes holds `at`, 0 to 59.
#[must_use]
pub fn minute_of_hour(at: DateTime<Utc>) -> usize {
    usize::try_from(at.timestamp().rem_euclid(3600) / 60).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn buckets_begin_at_the_epoch_and_round_down() {
        let five = TimeDelta::minutes(5);
        assert_eq!(floor(at("2025-11-16T18:14:59.999999Z"), five), at("2025-11-16T18:10:00Z"));
        assert_eq!(floor(at("1969-12-31T23:59:59Z"), five), at("1969-12-31T23:55:00Z"));
        assert_eq!(ceil(at("2025-11-16T18:10:00Z"), five), at("2025-11-16T18:10:00Z"));
        assert_eq!(ceil(at("2025-11-16T18:10:00.000001Z"), five), at("2025-11-16T18:15:00Z"));
    }

    #[test]
    fn a_minute_lies_in_its_hour() {
        let instant = at("2025-11-16T18:14:59.999999Z");
        assert_eq!((hour(instant), minute_of_hour(instant)), (at("2025-11-16T18:00:00Z"), 14));
    }
}
