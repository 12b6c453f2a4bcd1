//! When a record's timestamp is a yardstick.

use shared::instant;

use super::*;

/// What a record of 1 December 2025 becomes with this timestamp, in milliseconds, and this time of its own.
fn stamped(millis: i64, occurred_at: &str) -> Result<AnalyticsEvent, Rejection> {
    let member =
        if occurred_at.is_empty() { String::new() } else { format!(r#""occurredAt":{occurred_at},"#) };
    let mut record =
        a_record("analytics.events", &format!(r#"{{{member}"eventType":"a","source":"b","payload":{{}}}}"#));
    let at = DateTime::from_timestamp_millis(millis).unwrap();
    record.timestamp = Some(RecordTimestamp { at, kind: TimestampKind::LogAppendTime });
    become_of(&normalizer(), &record)
}

/// Seconds or microseconds where milliseconds belong, never set, far ahead, just not plausible.
const IMPLAUSIBLE: [i64; 8] = [
    1_763_316_840,
    1_763_316_840_000_000,
    0,
    253_402_300_799_999,
    8_210_266_876_799_999, // The last that chrono has.
    946_684_799_999,
    1_764_633_600_001,
    -62_135_596_800_000,
];

#[test]
fn a_record_timestamp_that_is_not_plausible_is_no_yardstick() {
    for millis in IMPLAUSIBLE {
        assert!(stamped(millis, "\"2025-11-16T18:14:00Z\"").is_ok(), "{millis}");
        assert!(stamped(millis, "\"2026-12-02T00:00:00Z\"").is_ok(), "{millis}");
        let late = stamped(millis, "\"2026-12-02T00:00:01Z\"").unwrap_err();
        let sentence = "occurredAt is 2026-12-02T00:00:01+00:00, expected 2000-01-01T00:00:00+00:00 to 2026-12-02T00:00:00+00:00";
        assert_eq!((late.class(), late.sentence()), (RejectionClass::TimeOutOfRange, sentence), "{millis}");
    }
    // The last that is plausible, a day beyond the clock, and the first.
    assert!(stamped(1_764_633_600_000, "\"2026-12-03T00:00:00Z\"").is_ok());
    assert!(stamped(946_684_800_000, "\"2001-01-01T00:00:00Z\"").is_ok());
    assert!(stamped(946_684_800_000, "\"2001-01-02T00:00:01Z\"").is_err());
}

#[test]
fn a_record_timestamp_that_is_not_plausible_does_not_stand_in_for_the_events() {
    for millis in IMPLAUSIBLE {
        let rejection = stamped(millis, "").unwrap_err();
        let at = instant::format(DateTime::from_timestamp_millis(millis).unwrap());
        let sentence = format!(
            "occurredAt is missing or null, and the record's timestamp is {at}, expected 2000-01-01T00:00:00+00:00 to 2025-12-02T00:00:00+00:00"
        );
        assert_eq!((rejection.class(), rejection.sentence()), (RejectionClass::TimeOutOfRange, &*sentence));
    }
    assert!(stamped(1_764_633_600_000, "").is_ok() && stamped(946_684_800_000, "").is_ok());
}

/// Limits as wide as they may be set, and a clock that is wrong as well.
#[test]
fn the_range_is_never_empty_and_its_months_are_bounded() {
    let min = at("1970-01-01T00:00:00Z");
    for (min, max_ahead, now) in [
        (min, TimeDelta::days(36_525), at("2025-12-01T00:00:00Z")),
        (at("2000-01-01T00:00:00Z"), TimeDelta::days(366), min),
        (at("9999-12-31T23:59:59Z"), TimeDelta::days(9_000), at("2025-12-01T00:00:00Z")),
        (min, TimeDelta::MAX, DateTime::<Utc>::MAX_UTC),
    ] {
        let limits = EventTimeLimits { min, max_ahead };
        let normalizer = Normalizer::new(Rules::built_in().unwrap(), limits, String::new());
        for timestamp in
            [DateTime::<Utc>::MIN_UTC, min, now, at("9999-12-31T00:00:00Z"), DateTime::<Utc>::MAX_UTC]
        {
            let mut record = a_record("iam.user.registered", r#"{"userId":"u","registeredAt":[1,1,1]}"#);
            record.timestamp = Some(RecordTimestamp { at: timestamp, kind: TimestampKind::CreateTime });
            let Decoded::Envelope(envelope) = decode(&record, &Limits::default()) else { panic!("refused") };
            let rejection = normalizer.normalize(&envelope, now).unwrap_err();
            let (_, range) = rejection.sentence().split_once("expected ").unwrap();
            let (from, to) = range.split_once(" to ").unwrap();
            assert!(at(from) < at(to) || at(from) == at("9999-12-31T23:59:59Z"), "{rejection}");
            let day = TimeDelta::days(1);
            let last = now.max(min).checked_add_signed(day).and_then(|at| at.checked_add_signed(max_ahead));
            assert!(last.is_none_or(|last| at(to) <= last), "{rejection}");
        }
    }
}
