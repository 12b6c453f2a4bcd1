//! How an instant is written wherever people or programs read one: in answers, in CSV, in the payload's added member.

use chrono::{DateTime, SecondsFormat, Utc};

/// RFC 3339 in UTC as the original service writes it: `2025-11-16T18:14:00+00:00`, with six fraction digits when
/// there is a fraction and none when there is not.
#[must_use]
pub fn format(at: DateTime<Utc>) -> String {
    let digits = if at.timestamp_subsec_micros() == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
    at.to_rfc3339_opts(digits, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_has_six_digits_or_none() {
        for (text, expected) in [
            ("2025-11-16T18:14:00Z", "2025-11-16T18:14:00+00:00"),
            ("2025-11-16T18:14:00.5Z", "2025-11-16T18:14:00.500000+00:00"),
            ("2025-11-16T13:14:00.048931999-05:00", "2025-11-16T18:14:00.048931+00:00"),
        ] {
            let at: DateTime<Utc> = text.parse().unwrap();
            assert_eq!(format(at), expected);
        }
    }
}
