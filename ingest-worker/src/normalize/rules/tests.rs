use super::*;

const RULE: &str = r#"{"name":"x","topics":["t"],"shape":{"present":["when","who"]},"eventType":"e","source":"s",
    "time":{"field":"when","added":"whenIso"},"identity":{"name":"x/1","key":["who"]}}"#;

fn key(value: &str) -> Result<String, RejectionClass> {
    let json = format!(r#"{{"who":{value}}}"#);
    let members = Members::of(&json).unwrap();
    key_value("who", &members).map(Cow::into_owned).map_err(|rejection| rejection.class())
}

#[test]
fn the_built_in_table_is_in_order() {
    let rules = Rules::built_in().unwrap();
    let topics: Vec<_> = rules.topics().collect();
    let expected = [
        "iam.user.registered",
        "guides.challenge.added.v1",
        "execution.analytics",
        "challenge.completed",
        "community.registration",
        "community.profile.updated",
    ];
    assert_eq!(topics, expected);
}

/// Whoever must change this list changes ids: what is stored would be counted again on a replay.
#[test]
fn identities_are_frozen() {
    let rules = Rules::built_in().unwrap();
    let identity = |rule: &Rule| {
        let identity = &rule.text.identity;
        format!("{} = {} at {}", identity.name, identity.key.join(" "), rule.time_field())
    };
    let identities: Vec<_> = rules.0.iter().map(identity).collect();
    let frozen = [
        "iam.user-registered/1 = userId at registeredAt",
        "guides.challenge-linked/1 = guideId challengeId at occurredAt",
        "execution.analytics/1 = execution_id at timestamp",
        "community.user-registered/1 = profileId at occurredOn",
        "community.profile-updated/1 = profileId at occurredOn",
        "challenges.solution-completed/1 = solutionId at occurredOn",
    ];
    assert_eq!(identities, frozen);
}

#[test]
fn a_table_with_a_fault_is_refused_with_the_rule_that_has_it() {
    let twice = format!("[{RULE},{RULE}]");
    for (json, sentence) in [
        (twice.as_str(), "rule x: its name and its identity name must be its own and not empty"),
        (
            &format!("[{}]", RULE.replace(r#""key":["who"]"#, r#""key":[]"#)),
            "rule x: identity.key is empty, expected at least one field",
        ),
        (
            &format!("[{}]", RULE.replace(r#""eventType":"e""#, r#""eventType":"""#)),
            "rule x: eventType has 0 characters, allowed are 1 to 120",
        ),
        (
            &format!("[{}]", RULE.replace("topics", "topcis")),
            "the table of rules cannot be read: unknown field `topcis`, expected one of `name`, `topics`, `shape`, `eventType`, `source`, `time`, `identity` at line 1 column 21",
        ),
    ] {
        assert_eq!(Rules::parse(json).unwrap_err().to_string(), sentence);
    }
}

#[test]
fn another_upstream_is_another_entry_of_the_table() {
    let rules = Rules::parse(&format!("[{RULE}]")).unwrap();
    let members = Members::of(r#"{"when":1,"who":2}"#).unwrap();
    for topic in ["t", "analytics.events"] {
        assert!(
            matches!(rules.recognize(topic, &members), Ok(Recognized::Upstream(rule)) if rule.event_type().as_str() == "e")
        );
    }
}

#[test]
fn a_key_is_a_text_or_a_whole_number() {
    assert_eq!(key(r#""challenge-123""#).unwrap(), "challenge-123");
    assert_eq!(key(r#""\u0061B""#).unwrap(), "aB");
    assert_eq!(
        key(r#""6F0C1C6E-3A55-4B1E-9A53-5B6B1F9D1C01""#).unwrap(),
        "6f0c1c6e-3a55-4b1e-9a53-5b6b1f9d1c01"
    );
    assert_eq!(
        key(r#""6F0C1C6E-3A55-4B1E-9A53-5B6B1F9D1C0X""#).unwrap(),
        "6F0C1C6E-3A55-4B1E-9A53-5B6B1F9D1C0X"
    );
    assert_eq!(key("-42").unwrap(), "-42");
    for refused in [r#""""#, "1.0", "1e3", "true", "[]", "{}"] {
        assert_eq!(key(refused), Err(RejectionClass::InvalidField), "{refused}");
    }
    assert_eq!(key("null"), Err(RejectionClass::MissingField));
}

#[test]
fn only_what_looks_like_a_name_is_repeated() {
    let names = |json: &str| listed(&Members::of(json).unwrap());
    assert_eq!(names(r#"{"a":1,"b_2":2}"#), "a, b_2");
    assert_eq!(names(r#"{"ana@example.org":1}"#), "other members");
    assert_eq!(names(r#"{"ana@example.org":1,"a":1}"#), "a and others");
    assert_eq!(names("{}"), "no member");
}
