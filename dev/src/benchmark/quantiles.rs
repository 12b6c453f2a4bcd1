//! Durations, all of them kept.

use std::time::Duration;

/// Durations of which quantiles are asked.
#[derive(Debug, Clone, Default)]
pub struct Quantiles(Vec<Duration>);

impl Quantiles {
    /// One more.
    pub fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// How many.
    #[must_use]
    pub fn number(&self) -> f64 {
        f64::from(u32::try_from(self.0.len()).unwrap_or(u32::MAX))
    }

    /// The smallest duration that so much of all does not exceed, in milliseconds (nearest rank); 0 of none.
    #[must_use]
    pub fn millis(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
        let rank = (share * self.number()).ceil().max(1.0) as usize;
        sorted.get(rank - 1).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
    }
}

impl FromIterator<Self> for Quantiles {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_durations() {
        let mut quantiles = Quantiles::default();
        assert!(quantiles.millis(0.5).abs() < f64::EPSILON);
        (1..=200).rev().map(Duration::from_millis).for_each(|duration| quantiles.add(duration));
        for (share, expected) in [(0.0, 1.0), (0.5, 100.0), (0.99, 198.0), (1.0, 200.0)] {
            assert!((quantiles.millis(share) - expected).abs() < 1e-9, "{share}");
        }
    }
}
