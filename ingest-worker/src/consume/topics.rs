use super::pattern::TopicPattern;
use crate::config::Faults;

const TOPIC: &str = "ANALYTICS_KAFKA_TOPIC";
const PREFIX: &str = "ANALYTICS_KAFKA_TOPIC_PREFIX";
/// Topics that begin so are not for events: what Kafka, a schema registry, Confluent's platform or `MirrorMaker` keep for
/// themselves. Reading `__consumer_offsets`, a worker would feed itself with its own commits for ever.
const INTERNAL_BEGIN: [&str; 4] = ["__", "_schemas", "_confluent", "mm2-"];
/// Topics that end so: Kafka Connect's and `MirrorMaker`'s.
const INTERNAL_END: [&str; 4] =
    ["connect-configs", "connect-offsets", "connect-status", ".checkpoints.internal"];
/// Topics that end so are mostly a tool's, as `MirrorMaker` holds too: they must be named.
const UNLIKELY_END: [&str; 2] = [".internal", "-internal"];

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicSelection {
    /// These topics, prefix included.
    List(Vec<String>),
    /// Topics that match, those that appear later too.
    Pattern(String),
}

impl TopicSelection {
    /// As the Kafka client's `subscribe` takes it.
    #[must_use]
    pub fn subscription(&self) -> Vec<&str> {
        match self {
            Self::List(names) => names.iter().map(String::as_str).collect(),
            Self::Pattern(pattern) => vec![pattern],
        }
    }

    /// Whether a topic is read once Kafka has assigned it. [`Self::never_matched`] keeps the client from asking for others;
    /// this also holds when the broker matches by itself (KIP-848), and tells `check` what is left out.
    #[must_use]
    pub fn admits(&self, topic: &str) -> bool {
        match self {
            Self::List(_) => true,
            Self::Pattern(_) => !is_internal(topic) && !UNLIKELY_END.iter().any(|end| topic.ends_with(end)),
        }
    }

    /// As the Kafka client's `topic.blacklist` takes it; nothing for a list.
    #[must_use]
    pub fn never_matched(&self) -> Option<String> {
        let Self::Pattern(_) = self else { return None };
        let begin = INTERNAL_BEGIN.iter().map(|text| format!("^{text}"));
        let ends = INTERNAL_END.iter().chain(&UNLIKELY_END);
        let end = ends.map(|text| format!("{}$", text.replace('.', "[.]")));
        Some(begin.chain(end).collect::<Vec<_>>().join(","))
    }
}

/// Of what `ANALYTICS_KAFKA_TOPIC` says, or of the topics that rules are about behind their prefix.
pub(super) fn select<'a>(
    value: Option<&str>,
    prefix: &str,
    defaults: impl Iterator<Item = &'a str>,
    faults: &mut Faults,
) -> TopicSelection {
    let value = value.map(str::trim);
    if let Some(pattern) = value.filter(|value| value.starts_with('^')) {
        check_pattern(pattern, faults);
        return TopicSelection::Pattern(pattern.to_owned());
    }
    let (setting, mut names): (_, Vec<String>) = match value {
        Some(value) => (TOPIC, value.split(',').map(|name| name.trim().to_owned()).collect()),
        None => (PREFIX, defaults.map(|name| format!("{prefix}{name}")).collect()),
    };
    let value = value.unwrap_or(prefix);
    if !names.iter().all(|name| is_name(name)) {
        let allowed = if setting == PREFIX {
            "letters, digits and . _ -, so that no topic's name has more than 249"
        } else {
            "topic names (letters, digits and . _ -, 249 at most) separated by commas, or one regular expression that \
             begins with ^"
        };
        faults.error(format!("{setting} is `{value}`; allowed are {allowed}"));
    } else if let Some(name) = names.iter().find(|name| is_internal(name)) {
        faults.error(format!(
            "{setting} is `{value}`; allowed is no `{name}`: Kafka or one of its tools keeps its own there, no events"
        ));
    }
    names.sort();
    names.dedup();
    TopicSelection::List(names)
}

fn check_pattern(pattern: &str, faults: &mut Faults) {
    let allowed = "one POSIX extended regular expression, as the Kafka client takes it";
    if let Err(reason) = TopicPattern::new(pattern) {
        faults.error(format!("{TOPIC} is `{pattern}`; allowed is {allowed}: {reason}"));
    } else if pattern.split(['{', '}']).step_by(2).any(|outside| outside.contains(',')) {
        faults.error(format!(
            "{TOPIC} is `{pattern}`; allowed is {allowed}, several as ^(one|other): no name has a comma"
        ));
    }
}

/// As Kafka takes it.
fn is_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_internal(name: &str) -> bool {
    INTERNAL_BEGIN.iter().any(|begin| name.starts_with(begin))
        || INTERNAL_END.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(value: Option<&str>, prefix: &str) -> (TopicSelection, Vec<String>) {
        let mut faults = Faults::default();
        let topics = select(value, prefix, ["of.a.rule", "analytics.events"].into_iter(), &mut faults);
        (topics, faults.errors)
    }

    #[test]
    fn what_kafka_and_its_tools_keep_is_neither_matched_nor_named() {
        let internal = [
            "__consumer_offsets",
            "__transaction_state",
            "__share_group_state",
            "__strimzi_store_topic",
            "_schemas",
            "_confluent-metrics",
            "connect-configs",
            "my-connect-offsets",
            "connect-status",
            "mm2-offsets.a.internal",
            "a.checkpoints.internal",
        ];
        let (pattern, faults) = selected(Some("^.*"), "");
        assert_eq!(faults, [""; 0]);
        let never = pattern.never_matched().unwrap();
        let never: Vec<_> = never.split(',').map(|text| TopicPattern::new(text).unwrap()).collect();
        let matched = |name: &str| !never.iter().any(|pattern| pattern.matches(name));
        for name in internal {
            assert!(!pattern.admits(name) && !matched(name), "{name}");
            let (_, faults) = selected(Some(&format!("orders,{name}")), "");
            assert!(faults.len() == 1 && faults.concat().contains(&format!("no `{name}`")), "{faults:?}");
        }
        for name in ["orders", "iam.user.registered", "my__topic", "connect-configs.v2", "x-checkpoints"] {
            assert!(pattern.admits(name) && matched(name), "{name}");
            assert_eq!(selected(Some(name), "").1, [""; 0]);
        }
        // A pattern does not, a name does.
        assert!(!pattern.admits("team.internal") && !matched("team.internal"));
        assert_eq!(
            selected(Some("team.internal"), ""),
            (TopicSelection::List(vec!["team.internal".to_owned()]), vec![])
        );
    }

    #[test]
    fn a_wrong_list_pattern_or_prefix_is_refused_with_one_sentence() {
        let long = "x".repeat(250);
        for value in [
            "a,,b",
            "a,",
            ",",
            ".",
            "..",
            "a b",
            "orders.*",
            "a,^b",
            "^[a",
            "^(?i)a",
            "^a,^b",
            "^a, b",
            long.as_str(),
        ] {
            let (_, faults) = selected(Some(value), "");
            let named = format!("{TOPIC} is `{value}`; allowed ");
            assert!(matches!(faults.as_slice(), [fault] if fault.starts_with(&named)), "{value}: {faults:?}");
        }
        for prefix in ["prod/", "__", "_confluent.", &long[..240]] {
            let (_, faults) = selected(None, prefix);
            assert!(
                matches!(faults.as_slice(), [fault] if fault.starts_with(PREFIX)),
                "{prefix}: {faults:?}"
            );
        }
        assert_eq!(selected(Some("^a{1,3}$"), "").1, [""; 0]);
        let (topics, _) = selected(Some(" b, a,b "), "prod.");
        assert_eq!(topics.subscription(), ["a", "b"]);
        assert_eq!(selected(None, "prod.").0.subscription(), ["prod.analytics.events", "prod.of.a.rule"]);
    }
}
