use chrono::{DateTime, TimeDelta, Timelike as _, Utc};

/// How much happens in each hour (UTC) of a day. The students live in Lima, UTC−5: they sleep from 5 to 11 and are at
/// their best in the evening, from midnight to 3.
const WEIGHTS: [f64; 24] = [
    9.0, 10.0, 9.0, 6.5, 4.0, 2.0, 1.0, 0.6, 0.4, 0.4, 0.6, 1.0, 2.0, 3.5, 5.0, 6.0, 6.5, 6.0, 5.0, 5.5, 6.0,
    6.5, 7.0, 8.0,
];

/// Days and nights of a stretch of time.
pub(super) struct Rhythm {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// The weight of everything before each hour's end.
    until_hour: Vec<(DateTime<Utc>, f64)>,
}

impl Rhythm {
    pub(super) fn new(from: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        let (mut until_hour, mut sum, mut hour) = (Vec::new(), 0.0, from);
        while hour < until {
            let end = (shared::bucket::hour(hour) + TimeDelta::hours(1)).min(until);
            let weight =
                usize::try_from(hour.hour()).ok().and_then(|hour| WEIGHTS.get(hour)).copied().unwrap_or(1.0);
            sum += weight * (end - hour).as_seconds_f64();
            until_hour.push((end, sum));
            hour = end;
        }
        Self { from, until, until_hour }
    }

    /// The instant before which this share (0 to 1) of everything happens.
    pub(super) fn at(&self, share: f64) -> DateTime<Utc> {
        let whole = self.until_hour.last().map_or(0.0, |(_, sum)| *sum);
        let wanted = share.clamp(0.0, 1.0) * whole;
        let index = self.until_hour.partition_point(|(_, sum)| *sum <= wanted);
        let before = index.checked_sub(1).and_then(|index| self.until_hour.get(index));
        let (start, sum_before) = before.copied().unwrap_or((self.from, 0.0));
        let Some((end, sum)) = self.until_hour.get(index).copied() else { return self.until };
        let inside = (wanted - sum_before) / (sum - sum_before);
        #[expect(clippy::cast_possible_truncation, reason = "an hour has 3.6e12 nanoseconds")]
        let nanos = ((end - start).as_seconds_f64() * 1e9 * inside) as i64;
        start + TimeDelta::nanoseconds(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_within_its_bounds_and_nights_are_quiet() {
        let from: DateTime<Utc> = "2025-11-16T18:14:30Z".parse().unwrap();
        let until = from + TimeDelta::days(2);
        let rhythm = Rhythm::new(from, until);
        let instants: Vec<_> = (0..=10_000).map(|step| rhythm.at(f64::from(step) / 10_000.0)).collect();
        assert!(instants.is_sorted());
        assert_eq!((instants[0], instants[10_000]), (from, until));
        let in_hour = |hour| instants.iter().filter(|at| at.hour() == hour).count();
        assert!(in_hour(1) > 10 * in_hour(8), "{} at night, {} in the evening", in_hour(8), in_hour(1));
    }
}
