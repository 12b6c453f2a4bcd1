use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::FailPoint;
use crate::consume::PartitionKey;
use crate::write::WriteFailure;

/// What is to happen where; empty until [`arm`] was called.
static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();

const NAMES: [(&str, FailPoint); 12] = [
    ("after-poll", FailPoint::AfterPoll),
    ("after-decode", FailPoint::AfterDecode),
    ("after-begin", FailPoint::AfterBegin),
    ("after-compare", FailPoint::AfterCompare),
    ("mid-copy", FailPoint::MidCopy),
    ("after-copy", FailPoint::AfterCopy),
    ("between-tables", FailPoint::BetweenTables),
    ("before-commit", FailPoint::BeforeCommit),
    ("commit-sent", FailPoint::CommitSent),
    ("after-commit", FailPoint::AfterCommit),
    ("before-kafka-commit", FailPoint::BeforeKafkaCommit),
    ("after-kafka-commit", FailPoint::AfterKafkaCommit),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Abort,
    Sleep(Duration),
    Error,
}

/// `point:action@n`.
#[derive(Debug)]
struct Fault {
    point: FailPoint,
    action: Action,
    /// `None` is each time.
    nth: Option<u64>,
    passed: AtomicU64,
}

/// Reads `FAULT`: `point:action@n`, several with `;` between them. The action is `abort`, `sleep=5s` or `error`, `n` the
/// number of the passing at which it happens (1 if not given) or `*` for each.
///
/// # Errors
/// A sentence for the first one that cannot be read.
pub fn arm() -> Result<(), String> {
    let text = std::env::var("FAULT").unwrap_or_default();
    let faults = parse(&text)?;
    // A second call changes nothing: a process has one set of faults.
    drop(FAULTS.set(faults));
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Fault>, String> {
    text.split(';').map(str::trim).filter(|fault| !fault.is_empty()).map(fault).collect()
}

fn fault(text: &str) -> Result<Fault, String> {
    let (what, nth) = text.split_once('@').unwrap_or((text, "1"));
    let (point, action) = what.split_once(':').unwrap_or((what, ""));
    let point = NAMES.iter().find(|(name, _)| *name == point).map(|(_, point)| *point).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        format!("FAULT names the point `{point}`; allowed are {}", names.join(", "))
    })?;
    let action =
        match action.split_once('=') {
            None if action == "abort" => Action::Abort,
            None if action == "error" && point.is_in_transaction() => Action::Error,
            None if action == "error" => {
                return Err(format!("FAULT is `{text}`; allowed at {} is abort or sleep=5s", point.name()));
            }
            Some(("sleep", length)) => Action::Sleep(duration(length).ok_or_else(|| {
                format!("FAULT sleeps `{length}`; allowed is a duration such as 500ms or 5s")
            })?),
            _ => {
                return Err(format!("FAULT has the action `{action}`; allowed is abort, sleep=5s or error"));
            }
        };
    let nth = match nth {
        "*" => None,
        number => Some(number.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
            format!("FAULT has the number `{number}`; allowed is a whole number from 1, or *")
        })?),
    };
    Ok(Fault { point, action, nth, passed: AtomicU64::new(0) })
}

/// Partitions that this worker takes for its own without asking Kafka's group, as if they had been assigned: the variable
/// `FAULT_ASSIGNMENT`, `topic/partition` with commas between them. Not set: Kafka assigns.
#[must_use]
pub fn feigned_assignment() -> Option<Vec<PartitionKey>> {
    std::env::var("FAULT_ASSIGNMENT").ok().map(|text| partitions(&text))
}

fn partitions(text: &str) -> Vec<PartitionKey> {
    let partition = |text: &str| {
        let (topic, number) = text.trim().rsplit_once('/')?;
        Some(PartitionKey { topic: Arc::from(topic), partition: number.parse().ok()? })
    };
    text.split(',').filter_map(partition).collect()
}

fn duration(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(milliseconds) => Some(Duration::from_millis(milliseconds.parse().ok()?)),
        None => Some(Duration::from_secs(text.strip_suffix('s')?.parse().ok()?)),
    }
}

impl FailPoint {
    fn name(self) -> &'static str {
        NAMES.iter().find(|(_, point)| *point == self).map_or("unnamed", |(name, _)| name)
    }

    /// Where a failure of PostgreSQL can be feigned.
    fn is_in_transaction(self) -> bool {
        !matches!(
            self,
            Self::AfterPoll | Self::AfterDecode | Self::BeforeKafkaCommit | Self::AfterKafkaCommit
        )
    }

    /// Counts the passing; what is to happen now, if anything is.
    fn due(self) -> Option<Action> {
        let mut due = None;
        for fault in FAULTS.get().into_iter().flatten().filter(|fault| fault.point == self) {
            let number = fault.passed.fetch_add(1, Ordering::Relaxed) + 1;
            if fault.nth.is_none_or(|nth| nth == number) {
                due = due.or(Some(fault.action));
            }
        }
        if let Some(action) = due {
            tracing::warn!(point = self.name(), ?action, "fail point");
        }
        due
    }

    /// Passes this point in a task.
    ///
    /// # Errors
    /// A feigned loss of PostgreSQL, if that is to happen here.
    pub async fn pass(self) -> Result<(), WriteFailure> {
        match self.due() {
            None => Ok(()),
            Some(Action::Abort) => std::process::abort(),
            Some(Action::Sleep(length)) => {
                tokio::time::sleep(length).await;
                Ok(())
            }
            Some(Action::Error) => Err(WriteFailure::Unavailable(format!("fail point {}", self.name()))),
        }
    }

    /// Passes this point on a thread that may be blocked.
    pub fn pass_on_thread(self) {
        match self.due() {
            Some(Action::Abort) => std::process::abort(),
            Some(Action::Sleep(length)) => std::thread::sleep(length),
            Some(Action::Error) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let faults = parse("after-begin:abort@3; mid-copy:sleep=250ms;commit-sent:error@*").unwrap();
        let read: Vec<_> = faults.iter().map(|fault| (fault.point, fault.action, fault.nth)).collect();
        assert_eq!(
            read,
            [
                (FailPoint::AfterBegin, Action::Abort, Some(3)),
                (FailPoint::MidCopy, Action::Sleep(Duration::from_millis(250)), Some(1)),
                (FailPoint::CommitSent, Action::Error, None),
            ]
        );
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_feigned_assignment_is_a_list_of_partitions() {
        let names: Vec<_> = partitions("a.b/0, a.b/12").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.b/0", "a.b/12"]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (text, part) in [
            ("before-lunch:abort", "allowed are after-poll, after-decode"),
            ("after-begin:explode", "allowed is abort, sleep=5s or error"),
            ("after-begin", "allowed is abort"),
            ("after-begin:sleep=soon", "a duration"),
            ("after-begin:abort@0", "a whole number from 1"),
            ("after-poll:error", "allowed at after-poll"),
        ] {
            let sentence = parse(text).unwrap_err();
            assert!(sentence.contains(part), "{text}: {sentence}");
        }
    }
}
