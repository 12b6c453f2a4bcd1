//! A half-open window of time and how it is cut into what the projections can count. Pure.

use chrono::{DateTime, Datelike as _, SubsecRound as _, TimeDelta, Utc};
use shared::bucket;

const MINUTE: TimeDelta = TimeDelta::minutes(1);
const HOUR: TimeDelta = TimeDelta::hours(1);

/// `[start, end)`, in whole microseconds as PostgreSQL keeps time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Window {
    /// The `minutes` before `end`. Digits of `end` beyond microseconds are cut. `None` if it, or the bucket in which it
    /// begins, would begin before the year 1.
    #[must_use]
    pub fn ending(end: DateTime<Utc>, minutes: u32) -> Option<Self> {
        let end = end.trunc_subsecs(6);
        let start = end.checked_sub_signed(TimeDelta::minutes(i64::from(minutes)))?;
        let window = Self { start, end };
        let first_bucket = BucketWidth::of(window).bucket_of(start);
        (first_bucket.year() >= 1).then_some(window)
    }

    /// The first instant inside.
    #[must_use]
    pub fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// The first instant after.
    #[must_use]
    pub fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// Cuts the window into whole minutes, which are counted already, and at most two edges of less than a minute
    /// each, which are not. Every instant of the window lies in exactly one of them.
    #[must_use]
    pub fn split(self, width: BucketWidth) -> Pieces {
        let first = bucket::ceil(self.start, MINUTE);
        let last = bucket::floor(self.end, MINUTE);
        if first > last {
            // Inside one minute.
            return Pieces { edges: vec![self], minutes: None };
        }
        let edges = [Self { start: self.start, end: first }, Self { start: last, end: self.end }];
        let minutes = (first < last).then(|| WholeMinutes::new(first, last, width));
        Pieces { edges: edges.into_iter().filter(|edge| edge.start < edge.end).collect(), minutes }
    }
}

/// A window, cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// Each inside one minute.
    pub edges: Vec<Window>,
    /// All that lies between.
    pub minutes: Option<WholeMinutes>,
}

/// `[start, end)` of whole minutes, and which of its hours are not whole or not in one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeMinutes {
    /// Start of the first minute.
    pub start: DateTime<Utc>,
    /// End of the last minute.
    pub end: DateTime<Utc>,
    /// Starts of the hours that a border of the window or of a bucket cuts. All other hours that begin in
    /// `[start, end)` lie inside it and inside one bucket.
    pub cut_hours: Vec<DateTime<Utc>>,
}

impl WholeMinutes {
    fn new(start: DateTime<Utc>, end: DateTime<Utc>, width: BucketWidth) -> Self {
        let mut cut_hours = Vec::new();
        let mut hour = bucket::hour(start);
        while hour < end {
            let last_minute = hour + HOUR - MINUTE;
            let whole = start <= hour && hour + HOUR <= end;
            if !whole || width.bucket_of(hour) != width.bucket_of(last_minute) {
                cut_hours.push(hour);
            }
            hour += HOUR;
        }
        Self { start, end, cut_hours }
    }
}

/// How wide the buckets of a summary are: whole minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketWidth(i32);

impl BucketWidth {
    /// A sixth of the window, at least five minutes.
    #[must_use]
    pub fn of(window: Window) -> Self {
        let sixth = (window.end - window.start).num_minutes() / 6;
        Self(i32::try_from(sixth).unwrap_or(i32::MAX).max(5))
    }

    /// In minutes.
    #[must_use]
    pub fn minutes(self) -> i32 {
        self.0
    }

    /// Start of the bucket that holds `at`; buckets are aligned to the Unix epoch, so the first may begin before the
    /// window does.
    #[must_use]
    pub fn bucket_of(self, at: DateTime<Utc>) -> DateTime<Utc> {
        bucket::floor(at, TimeDelta::minutes(i64::from(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn window(start: &str, end: &str) -> Window {
        Window { start: at(start), end: at(end) }
    }

    #[test]
    fn buckets_are_a_sixth_of_the_window_and_at_least_five_minutes() {
        let reference = at("2025-11-16T18:14:00Z");
        for (minutes, width) in [(5, 5), (30, 5), (35, 5), (36, 6), (60, 10), (61, 10), (10_080, 1_680)] {
            assert_eq!(BucketWidth::of(Window::ending(reference, minutes).unwrap()).minutes(), width);
        }
    }

    #[test]
    fn a_window_of_whole_minutes_has_no_edges() {
        let whole = window("2025-11-16T17:14:00Z", "2025-11-16T18:14:00Z");
        let pieces = whole.split(BucketWidth::of(whole));
        assert_eq!(pieces.edges, []);
        let minutes = pieces.minutes.unwrap();
        assert_eq!((minutes.start, minutes.end), (whole.start, whole.end));
        assert_eq!(minutes.cut_hours, [at("2025-11-16T17:00:00Z"), at("2025-11-16T18:00:00Z")]);
    }

    #[test]
    fn a_ragged_window_has_an_edge_at_each_end() {
        let ragged = window("2025-11-16T17:13:59.999999Z", "2025-11-16T18:14:00.000001Z");
        assert_eq!(
            ragged.split(BucketWidth(10)).edges,
            [
                window("2025-11-16T17:13:59.999999Z", "2025-11-16T17:14:00Z"),
                window("2025-11-16T18:14:00Z", "2025-11-16T18:14:00.000001Z"),
            ]
        );
        let inside = window("2025-11-16T17:13:01Z", "2025-11-16T17:13:02Z");
        assert_eq!(inside.split(BucketWidth(5)), Pieces { edges: vec![inside], minutes: None });
    }

    #[test]
    fn only_cut_hours_open_their_minutes() {
        // 28 hours a bucket: its borders are borders of hours.
        let week = window("2025-11-09T18:30:00Z", "2025-11-16T18:30:00Z");
        let minutes = week.split(BucketWidth::of(week)).minutes.unwrap();
        assert_eq!(minutes.cut_hours, [at("2025-11-09T18:00:00Z"), at("2025-11-16T18:00:00Z")]);
    }

    #[test]
    fn the_calendar_has_an_end() {
        assert_eq!(Window::ending(DateTime::<Utc>::MIN_UTC, 5), None);
    }

    fn instants() -> impl Strategy<Value = DateTime<Utc>> {
        let random = -3_000_000_000_000_000_i64..3_000_000_000_000_000;
        // On, just before and just after borders of minutes and hours, where mistakes live.
        let border = (-800_000_i64..800_000, prop_oneof![Just(60_i64), Just(3_600)], -1_i64..=1)
            .prop_map(|(number, seconds, off)| number * seconds * 1_000_000 + off);
        prop_oneof![random, border].prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap())
    }

    fn covering(pieces: &Pieces, instant: DateTime<Utc>, width: BucketWidth) -> usize {
        let edges = pieces.edges.iter().filter(|edge| edge.start <= instant && instant < edge.end).count();
        let Some(minutes) = &pieces.minutes else { return edges };
        let (minute, hour) = (bucket::floor(instant, MINUTE), bucket::hour(instant));
        let opened = minutes.cut_hours.contains(&hour) && minutes.start <= minute && minute < minutes.end;
        let total = !minutes.cut_hours.contains(&hour) && minutes.start <= hour && hour < minutes.end;
        if total {
            assert_eq!(width.bucket_of(hour), width.bucket_of(instant), "a total in another bucket");
        }
        edges + usize::from(opened) + usize::from(total)
    }

    proptest! {
        #[test]
        fn every_instant_of_the_window_is_in_exactly_one_piece_and_no_other_is_in_any(
            end in instants(), minutes in 1_u32..=10_080, width in 5_i32..=1_680, share in 0.0_f64..1.0, off in -2_i64..=2,
        ) {
            let window = Window::ending(end, minutes).unwrap();
            let width = BucketWidth(width);
            let pieces = window.split(width);
            for edge in &pieces.edges {
                prop_assert!(edge.start < edge.end && edge.end - edge.start < MINUTE);
            }
            #[expect(clippy::cast_possible_truncation, reason = "any instant will do")]
            let inside = window.start + TimeDelta::milliseconds((share * f64::from(minutes) * 60_000.0) as i64);
            let near = TimeDelta::microseconds(off);
            let borders = pieces.minutes.iter().flat_map(|minutes| [minutes.start, minutes.end]);
            for instant in [window.start + near, window.end + near, inside].into_iter().chain(borders.map(|b| b + near)) {
                let expected = usize::from(window.start <= instant && instant < window.end);
                prop_assert_eq!(covering(&pieces, instant, width), expected, "{}", instant);
            }
        }

        #[test]
        fn a_reference_beyond_microseconds_is_cut(end in instants(), nanos in 0_i64..1_000) {
            let window = Window::ending(end + TimeDelta::nanoseconds(nanos), 5).unwrap();
            prop_assert_eq!(window.end(), end);
        }
    }
}
