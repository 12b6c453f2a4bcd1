//! The six messages, member by member as their serializers write them.

use chrono::{DateTime, FixedOffset, TimeDelta, Timelike as _, Utc};
use uuid::Uuid;

use super::Fact;
use super::people::{Challenge, Person};
use super::wire::{decimal_epoch, go_string, jackson_array, json_string, rfc3339_nano};

/// A message before it is sent.
pub(super) struct Made {
    pub(super) topic: &'static str,
    pub(super) key: String,
    pub(super) value: String,
    /// The event's time with all its nanoseconds.
    pub(super) at: DateTime<Utc>,
    /// The natural key, time included.
    pub(super) identity: String,
    pub(super) fact: Fact,
}

/// Events keep microseconds; what is beyond is cut.
fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    at.with_nanosecond(at.nanosecond() / 1000 * 1000).unwrap_or(at)
}

fn nanos(at: DateTime<Utc>) -> String {
    decimal_epoch(at)
}

fn nullable(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), json_string)
}

/// `iam.user.registered`. An OAuth sign-up is announced twice: first as `local`, then by its provider.
pub(super) fn user_registered(person: &Person, provider: &str, at: DateTime<Utc>) -> Made {
    let local = provider == "local";
    let email = if local { person.email.to_lowercase() } else { person.email.clone() };
    let avatar = if local { None } else { person.avatar.as_deref() };
    let value = format!(
        r#"{{"userId":"{}","email":{},"firstName":{},"lastName":{},"profileUrl":{},"provider":"{provider}","registeredAt":{}}}"#,
        person.user_id,
        json_string(&email),
        json_string(person.first_name),
        json_string(person.last_name),
        nullable(avatar),
        jackson_array(at),
    );
    Made {
        topic: "iam.user.registered",
        key: person.user_id.to_string(),
        value,
        at,
        // The provider is no part of the rule's key: both announcements in one instant are one event.
        identity: format!("{} {}", person.user_id, nanos(at)),
        fact: Fact {
            event_type: "iam.user-registered",
            source: "iam-service",
            occurred_at: micros(at),
            actor: Some(person.user_id.to_string()),
            iso_member: "registeredAtIso",
        },
    }
}

/// Which of the two community topics, which carry the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    Registered,
    /// As the very first version wrote it: neither `username` nor `profileUrl`.
    RegisteredV1,
    Updated,
}

/// `community.registration` and `community.profile.updated`.
pub(super) fn profile(person: &Person, which: Profile, at: DateTime<Utc>) -> Made {
    let described = match which {
        Profile::RegisteredV1 => String::new(),
        Profile::Registered | Profile::Updated => format!(
            r#""username":{},"profileUrl":{},"#,
            json_string(&person.username),
            nullable(person.avatar.as_deref())
        ),
    };
    let value = format!(
        r#"{{"userId":"{}","profileId":"{}",{described}"occurredOn":{}}}"#,
        person.user_id,
        person.profile_id,
        jackson_array(at)
    );
    let (topic, event_type) = match which {
        Profile::Updated => ("community.profile.updated", "community.profile-updated"),
        _ => ("community.registration", "community.user-registered"),
    };
    Made {
        topic,
        key: person.user_id.to_string(),
        value,
        at,
        identity: format!("{} {}", person.profile_id, nanos(at)),
        fact: Fact {
            event_type,
            source: "community-service",
            occurred_at: micros(at),
            actor: Some(person.user_id.to_string()),
            iso_member: "occurredOnIso",
        },
    }
}

/// `guides.challenge.added.v1`.
pub(super) fn challenge_linked(guide: Uuid, challenge: &Challenge, at: DateTime<Utc>) -> Made {
    let value = format!(
        r#"{{"guideId":"{guide}","challengeId":"{}","occurredAt":{}}}"#,
        challenge.id,
        decimal_epoch(at)
    );
    Made {
        topic: "guides.challenge.added.v1",
        key: guide.to_string(),
        value,
        at,
        identity: format!("{guide} {} {}", challenge.id, nanos(at)),
        fact: Fact {
            event_type: "guides.challenge-linked",
            source: "guides-service",
            occurred_at: micros(at),
            actor: None,
            iso_member: "occurredAtIso",
        },
    }
}

/// How a run of a student's program ended.
pub(super) enum Run {
    /// So many tests passed; with the results of each, or without as a machine without Docker sends it.
    Tested {
        passed: usize,
        with_results: bool,
    },
    DoesNotCompile,
    TimedOut,
}

/// A run of a student's program.
pub(super) struct Execution<'a> {
    pub(super) id: Uuid,
    pub(super) challenge: &'a Challenge,
    pub(super) student: Uuid,
    pub(super) run: Run,
    pub(super) milliseconds: u32,
    pub(super) offset: FixedOffset,
    pub(super) server: &'a str,
    pub(super) at: DateTime<Utc>,
}

/// `execution.analytics`; for three quarters of an hour in its history on `challenge.completed`.
pub(super) fn executed(execution: &Execution<'_>, topic: &'static str) -> Made {
    let Execution { id, challenge, student, at, .. } = execution;
    let value = format!(
        r#"{{"execution_id":"{id}","challenge_id":"{0}","code_version_id":"{0}","student_id":"{student}","language":"cpp","status":"{1}","timestamp":"{2}","execution_time_ms":{3},{4}"server_instance":{5}}}"#,
        challenge.id,
        if matches!(execution.run, Run::TimedOut) { "timed_out" } else { "completed" },
        rfc3339_nano(*at, execution.offset),
        execution.milliseconds,
        outcome(execution),
        go_string(execution.server),
    );
    Made {
        topic,
        key: id.to_string(),
        value,
        at: *at,
        identity: format!("{id} {}", nanos(*at)),
        fact: Fact {
            event_type: "execution.analytics",
            source: "execution-service",
            occurred_at: micros(*at),
            actor: Some(student.to_string()),
            iso_member: "timestampIso",
        },
    }
}

/// Go leaves out what is zero, empty or false under `omitempty`.
fn outcome(execution: &Execution<'_>) -> String {
    match execution.run {
        Run::Tested { passed, with_results } => {
            let total = execution.challenge.tests.len();
            let exit_code = if passed == total { "" } else { r#""exit_code":1,"# };
            let results =
                if with_results { results(&execution.challenge.tests, passed) } else { String::new() };
            format!(
                r#"{exit_code}"total_tests":{total},"passed_tests":{passed},"failed_tests":{},"success":{},{results}"#,
                total - passed,
                passed == total
            )
        }
        Run::DoesNotCompile => {
            let message = go_string(
                "Compilation error: main.cpp:7:24: error: no match for 'operator<<' in 'std::vector<int> & v'",
            );
            format!(
                r#""exit_code":1,"total_tests":0,"passed_tests":0,"failed_tests":0,"success":false,"error_message":{message},"error_type":"compilation_error","#
            )
        }
        Run::TimedOut => concat!(
            r#""total_tests":0,"passed_tests":0,"failed_tests":0,"success":false,"#,
            r#""error_message":"Execution timed out after 0 seconds","error_type":"timeout","#
        )
        .to_owned(),
    }
}

fn results(tests: &[Uuid], passed: usize) -> String {
    let result = |(index, test): (usize, &Uuid)| {
        let error = if index < passed {
            String::new()
        } else {
            format!(r#","error_message":{}"#, go_string("CHECK( f(2) == 4 ) is NOT correct & so is f(1) < 2"))
        };
        format!(r#"{{"test_id":"{test}","test_name":"{test}","passed":{}{error}}}"#, index < passed)
    };
    let results: Vec<_> = tests.iter().enumerate().map(result).collect();
    format!(r#""test_results":[{}],"#, results.join(","))
}

/// A solved challenge.
pub(super) struct Completion<'a> {
    pub(super) student: Uuid,
    pub(super) challenge: &'a Challenge,
    pub(super) solution: Uuid,
    /// Percent: 100, 80, 60, 40, 20.
    pub(super) multiplier: u32,
    pub(super) milliseconds: u32,
    pub(super) seconds: u32,
    /// Not told by messages of the first two versions.
    pub(super) already_completed: Option<bool>,
    pub(super) at: DateTime<Utc>,
}

/// `challenge.completed`.
pub(super) fn completed(completion: &Completion<'_>) -> Made {
    let Completion { student, challenge, solution, multiplier, at, .. } = completion;
    let penalty = *multiplier < 100;
    let reason = if penalty { "Solved with a moderate time penalty" } else { "Solved in time: full score" };
    let repeated =
        completion.already_completed.map_or_else(String::new, |yes| format!(r#""alreadyCompleted":{yes},"#));
    let value = format!(
        r#"{{"studentId":"{student}","challengeId":"{}","solutionId":"{solution}","experiencePointsEarned":{},"totalExperiencePoints":{},"passedTests":{tests},"totalTests":{tests},"allTestsPassed":true,"executionTimeMs":{},"solutionTimeSeconds":{},"scoreMultiplier":{multiplier},"timePenaltyApplied":{penalty},"scoringReason":"{reason}",{repeated}"completedAt":{},"occurredOn":{},"successRate":100.0,"successfulCompletion":true}}"#,
        challenge.id,
        (challenge.points * multiplier / 100).max(1),
        challenge.points,
        completion.milliseconds,
        completion.seconds,
        jackson_array(*at - TimeDelta::nanoseconds(5_000)),
        jackson_array(*at),
        tests = challenge.tests.len(),
    );
    Made {
        topic: "challenge.completed",
        key: student.to_string(),
        value,
        at: *at,
        identity: format!("{solution} {}", nanos(*at)),
        fact: Fact {
            event_type: "challenges.solution-completed",
            source: "challenges-service",
            occurred_at: micros(*at),
            actor: Some(student.to_string()),
            iso_member: "occurredOnIso",
        },
    }
}
