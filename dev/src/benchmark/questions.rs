//! What analysts ask most, over HTTP and as the statements behind it, for `pgbench`.

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use shared::{bucket, instant};

const EVENT_COUNTS: &str = include_str!("../../../query-api/src/projections/event_counts.sql");
const EDGE_COUNTS: &str = include_str!("../../../query-api/src/projections/edge_counts.sql");
const EVENTS: &str = include_str!("../../../query-api/src/projections/events.sql");

/// A question and how the reader answers it.
#[derive(Debug, Clone)]
pub struct Question {
    /// For the table.
    pub name: &'static str,
    /// With its query.
    pub path: String,
    /// In their order, with `:name` where the reader has a parameter, as `pgbench` has it.
    pub statements: Vec<String>,
    /// What the names stand for.
    pub values: Vec<(&'static str, String)>,
}

impl Question {
    /// The statements with their values written in.
    pub fn literally(&self) -> impl Iterator<Item = String> {
        self.statements.iter().map(|statement| {
            let values = self.values.iter();
            values.fold(statement.clone(), |text, (name, value)| {
                text.replace(&format!(":{name}"), &format!("'{value}'"))
            })
        })
    }
}

/// About the time before `now`, each at the same moment: its answer could be cached by nobody, since none caches.
#[must_use]
pub fn all(now: DateTime<Utc>) -> [Question; 3] {
    // In the middle of a minute of an hour: both edges are ragged, as they are for whoever asks about "now".
    let reference = now - TimeDelta::nanoseconds(i64::from(now.nanosecond())) - TimeDelta::milliseconds(500);
    [
        summary("summary, 60 minutes", reference, 60),
        summary("summary, 7 days", reference, 7 * 24 * 60),
        Question {
            name: "recent, 50 events",
            path: "/v1/analytics/events/recent?limit=50".to_owned(),
            statements: vec![code(EVENTS).replace("$1", "50").replace("$2", "10485").replace("$3", "8192")],
            values: Vec::new(),
        },
    ]
}

fn summary(name: &'static str, reference: DateTime<Utc>, minutes: u32) -> Question {
    let window = TimeDelta::minutes(i64::from(minutes));
    let minute = TimeDelta::minutes(1);
    let (start, end) = (reference - window, reference);
    let (first, last) = (bucket::ceil(start, minute), bucket::floor(end, minute));
    let width = (minutes / 6).max(5);
    let hours =
        [bucket::hour(first), bucket::hour(last)].map(instant::format).map(|hour| format!("\"{hour}\""));
    let counts = with_names(EVENT_COUNTS, &["first", "last", "width", "origin", "hours"]);
    let edge = |from, to| with_names(EDGE_COUNTS, &[from, to]);
    let values = [
        ("start", instant::format(start)),
        ("end", instant::format(end)),
        ("first", instant::format(first)),
        ("last", instant::format(last)),
        ("width", width.to_string()),
        ("origin", instant::format(bucket::floor(first, TimeDelta::minutes(i64::from(width))))),
        ("hours", format!("{{{}}}", hours.join(","))),
    ];
    Question {
        name,
        path: format!(
            "/v1/analytics/metrics/summary?windowMinutes={minutes}&reference={}",
            instant::format(reference)
        ),
        statements: snapshot(vec![edge("start", "first"), edge("last", "end"), counts]),
        values: values.into(),
    }
}

/// An answer of several statements is of one moment.
fn snapshot(mut statements: Vec<String>) -> Vec<String> {
    statements.insert(0, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned());
    statements.push("COMMIT".to_owned());
    statements
}

/// A statement without its comments.
fn code(statement: &str) -> String {
    statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

/// `$1` becomes `:` and the first name, and so on.
fn with_names(statement: &str, names: &[&str]) -> String {
    (1..).zip(names).fold(code(statement), |text, (number, name)| {
        text.replace(&format!("${number}"), &format!(":{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_parameter_is_left() {
        for question in all(crate::clock::now()) {
            for statement in question.literally() {
                assert!(!statement.contains('$'), "{statement}");
                for (name, _) in &question.values {
                    assert!(!statement.contains(&format!(":{name}")), "{statement}");
                }
            }
        }
    }
}
