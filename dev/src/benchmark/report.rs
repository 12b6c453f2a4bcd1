//! What was measured, ratios first.

use serde::Serialize;

/// A figure that is to be reached.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

/// A line of the table: a figure of each repeat.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// `rows/s`, `ms`, or what it is divided by.
    pub unit: &'static str,
    /// In the order of the repeats.
    pub values: Vec<f64>,
    /// To be reached by the median.
    pub bound: Option<Bound>,
}

/// All lines, in the order in which they were first noted.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    lines: Vec<Line>,
}

/// Units of ratios: these lines come first.
pub const RATIO: &str = "×";

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", short(least)),
            Self::AtMost(most) => format!("≤ {}", short(most)),
        }
    }
}

impl Line {
    /// Of an even number what lies halfway between the middle two.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        f64::midpoint(middle(sorted.len().saturating_sub(1) / 2), middle(sorted.len() / 2))
    }

    fn best(&self) -> f64 {
        let less_is_better =
            matches!(self.bound, Some(Bound::AtMost(_))) || matches!(self.unit, "ms" | "µs" | "MiB");
        let better = if less_is_better { f64::min } else { f64::max };
        self.values.iter().copied().reduce(better).unwrap_or(f64::NAN)
    }
}

impl Report {
    /// Adds a repeat's figure to its line.
    pub fn note(&mut self, what: impl Into<String>, unit: &'static str, value: f64, bound: Option<Bound>) {
        let what = what.into();
        match self.lines.iter_mut().find(|line| line.what == what) {
            Some(line) => line.values.push(value),
            None => self.lines.push(Line { what, unit, values: vec![value], bound }),
        }
    }

    /// A ratio.
    pub fn ratio(&mut self, what: impl Into<String>, value: f64, bound: Option<Bound>) {
        self.note(what, RATIO, value, bound);
    }

    /// The median of a line.
    #[must_use]
    pub fn median(&self, what: &str) -> Option<f64> {
        self.lines.iter().find(|line| line.what == what).map(Line::median)
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!("{:>10}  {:>10}  {:<6} {:<9} what\n", "median", "best", "", "wanted");
        let (ratios, others): (Vec<_>, Vec<_>) = self.lines.iter().partition(|line| line.unit == RATIO);
        for line in ratios.into_iter().chain(others) {
            let wanted = line.bound.map(Bound::text).unwrap_or_default();
            let missed = line.bound.is_some_and(|bound| !bound.holds(line.median()));
            let mark = if missed { "  (missed)" } else { "" };
            let (median, best) = (short(line.median()), short(line.best()));
            let (unit, what) = (line.unit, &line.what);
            table += &format!("{median:>10}  {best:>10}  {unit:<6} {wanted:<9} {what}{mark}\n");
        }
        table
    }
}

/// Three digits that tell something.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_come_first_and_what_was_missed_is_said() {
        let mut report = Report::default();
        for value in [5.0, 30.0, 20.0] {
            report.note("summary", "ms", value, Some(Bound::AtMost(10.0)));
        }
        for value in [0.5, 0.90, 0.96, 2.0] {
            report.ratio("random order", value, Some(Bound::AtLeast(0.9)));
        }
        let table = report.table();
        let lines: Vec<_> = table.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "0.93        2.00  ×      ≥ 0.90    random order",
                "20.0        5.00  ms     ≤ 10.0    summary  (missed)"
            ]
        );
        assert_eq!(report.median("summary"), Some(20.0));
    }
}
