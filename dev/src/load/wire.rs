//! How each upstream service's serializer writes an instant, to the letter.

use chrono::{DateTime, Datelike as _, FixedOffset, SecondsFormat, Timelike as _, Utc};

/// Jackson's `LocalDateTime`: five integers, the sixth only if there are seconds or nanoseconds, the seventh only if
/// there are nanoseconds.
pub(super) fn jackson_array(at: DateTime<Utc>) -> String {
    let (second, nano) = (at.second(), at.nanosecond());
    let minute = format!("{},{},{},{},{}", at.year(), at.month(), at.day(), at.hour(), at.minute());
    match (second, nano) {
        (0, 0) => format!("[{minute}]"),
        (_, 0) => format!("[{minute},{second}]"),
        _ => format!("[{minute},{second},{nano}]"),
    }
}

/// Jackson's `Instant`: decimal seconds since 1970, always nine decimals.
pub(super) fn decimal_epoch(at: DateTime<Utc>) -> String {
    format!("{}.{:09}", at.timestamp(), at.timestamp_subsec_nanos())
}

/// Go's `time.RFC3339Nano`: trailing zeros of the fraction trimmed, `Z` for an offset of nothing.
pub(super) fn rfc3339_nano(at: DateTime<Utc>, offset: FixedOffset) -> String {
    let text = at.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::Nanos, true);
    let Some((seconds, rest)) = text.split_once('.') else { return text };
    let (fraction, zone) = rest.split_at(rest.len().min(9));
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds}{zone}"),
        fraction => format!("{seconds}.{fraction}{zone}"),
    }
}

/// A string as Jackson writes it.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A string as Go's `encoding/json` writes it: fit for HTML.
pub(super) fn go_string(text: &str) -> String {
    json_string(text).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn java_drops_the_parts_that_are_zero() {
        for (instant, expected) in [
            ("2025-11-16T18:13:45.123456789Z", "[2025,11,16,18,13,45,123456789]"),
            ("2025-11-16T18:13:45Z", "[2025,11,16,18,13,45]"),
            ("2025-11-16T18:13:00Z", "[2025,11,16,18,13]"),
            ("2025-11-16T18:13:00.000000005Z", "[2025,11,16,18,13,0,5]"),
        ] {
            assert_eq!(jackson_array(at(instant)), expected);
        }
    }

    #[test]
    fn java_instants_have_nine_decimals() {
        assert_eq!(decimal_epoch(at("2025-11-16T18:14:00.123456789Z")), "1763316840.123456789");
        assert_eq!(decimal_epoch(at("2025-11-16T18:14:00Z")), "1763316840.000000000");
    }

    #[test]
    fn go_trims_zeros_and_keeps_its_offset() {
        let lima = FixedOffset::west_opt(5 * 3600).unwrap();
        let utc = FixedOffset::west_opt(0).unwrap();
        for (instant, offset, expected) in [
            ("2025-11-16T23:14:00.048926291Z", lima, "2025-11-16T18:14:00.048926291-05:00"),
            ("2025-11-16T23:14:00.5Z", lima, "2025-11-16T18:14:00.5-05:00"),
            ("2025-11-16T23:14:00Z", utc, "2025-11-16T23:14:00Z"),
            ("2025-11-16T23:14:00.000000001Z", utc, "2025-11-16T23:14:00.000000001Z"),
        ] {
            assert_eq!(rfc3339_nano(at(instant), offset), expected);
        }
        assert_eq!(go_string("a<b> & \"c\""), r#""a\u003cb\u003e \u0026 \"c\"""#);
    }
}
