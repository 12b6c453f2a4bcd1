use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _};

use super::*;
use crate::consume::{StartAt, TopicSelection};

#[derive(clap::Parser)]
pub(super) struct Line {
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// As the command line does, but blind to the environment that the tests happen to run in.
pub(super) fn parse(flags: &[&str]) -> Line {
    let command = Line::command().mut_args(|arg| arg.env(Resettable::Reset));
    Line::from_arg_matches(&command.get_matches_from(flags.iter().copied().map(str::to_owned))).unwrap()
}

/// Flags, then what has no flag.
pub(super) fn check(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let needed = ["worker", "--postgres-user", "u", "--postgres-db", "d"];
    let line = parse(&[&needed, flags].concat());
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    line.settings.check(Environment { variables, ..Environment::default() })
}

#[test]
fn the_defaults_are_good_and_as_documented() {
    let config = check(&[], &[]).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!((config.service.host.as_str(), config.service.port), ("127.0.0.1", 8001));
    assert_eq!(
        (config.batch.lanes, config.batch.max_events, config.batch.backlog_max_events),
        (2, 10_000, 50_000)
    );
    assert_eq!((config.batch.max_bytes, config.batch.memory_budget), (16 << 20, 64 << 20));
    assert_eq!((config.decode.max_bytes, config.decode.max_depth), (1 << 20, 128));
    assert_eq!(config.decode.max_payload_bytes, 8 << 20);
    assert_eq!(config.event_time.max_ahead, TimeDelta::days(366));
    assert_eq!(config.database.target(), "u@localhost:5432/d");
    assert!(config.kafka.topics.subscription().contains(&"analytics.events"));
    assert_eq!(config.kafka.start_at, StartAt::Earliest);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_example_names_the_defaults_of_every_flag() {
    let example = include_str!("../../../.env.example");
    for arg in Line::command().get_arguments() {
        let Some(name) = arg.get_env().and_then(|name| name.to_str()) else { continue };
        let default = arg.get_default_values().first().and_then(|value| value.to_str()).unwrap_or_default();
        let line = example.lines().find(|line| line.trim_start_matches('#').starts_with(&format!("{name}=")));
        let (_, value) =
            line.and_then(|line| line.split_once('=')).unwrap_or_else(|| panic!("{name} is not there"));
        if name != "ANALYTICS_SERVICE_PORT" && name != "ANALYTICS_INGEST_SERVICE_PORT" {
            assert_eq!(value, default, "{name}");
        }
    }
}

#[test]
fn each_wrong_value_is_one_sentence_with_variable_value_and_what_is_allowed() {
    for (flag, value, variable) in [
        ("--api-version", "v2", "ANALYTICS_API_VERSION"),
        ("--service-port", "65536", "ANALYTICS_SERVICE_PORT"),
        ("--ingest-service-port", "-", "ANALYTICS_INGEST_SERVICE_PORT"),
        ("--drain-timeout", "20", "ANALYTICS_DRAIN_TIMEOUT"),
        ("--log", "ingest_worker=loud", "ANALYTICS_LOG"),
        ("--log-format", "xml", "ANALYTICS_LOG_FORMAT"),
        ("--http-commit-timeout", "1ms", "ANALYTICS_HTTP_COMMIT_TIMEOUT"),
        ("--cors-origins", "app.example.org", "ANALYTICS_CORS_ORIGINS"),
        ("--postgres-port", "0", "ANALYTICS_POSTGRES_PORT"),
        ("--postgres-sslmode", "yes", "ANALYTICS_POSTGRES_SSLMODE"),
        ("--postgres-sslrootcert", "/does/not/exist", "ANALYTICS_POSTGRES_SSLROOTCERT"),
        ("--claim-lock-timeout", "10s", "ANALYTICS_CLAIM_LOCK_TIMEOUT"),
        ("--kafka-bootstrap-servers", "a:9092,b", "ANALYTICS_KAFKA_BOOTSTRAP_SERVERS"),
        ("--kafka-topic", "a,,b", "ANALYTICS_KAFKA_TOPIC"),
        ("--kafka-topic", "a,^b", "ANALYTICS_KAFKA_TOPIC"),
        ("--kafka-topic-prefix", "prod/", "ANALYTICS_KAFKA_TOPIC_PREFIX"),
        ("--kafka-auto-offset-reset", "none", "ANALYTICS_KAFKA_AUTO_OFFSET_RESET"),
        ("--kafka-security-protocol", "TLS", "ANALYTICS_KAFKA_SECURITY_PROTOCOL"),
        ("--kafka-sasl-mechanism", "GSSAPI", "ANALYTICS_KAFKA_SASL_MECHANISM"),
        ("--record-max-bytes", "1", "ANALYTICS_RECORD_MAX_BYTES"),
        ("--record-max-depth", "0", "ANALYTICS_RECORD_MAX_DEPTH"),
        ("--payload-max-bytes", "1GiB", "ANALYTICS_PAYLOAD_MAX_BYTES"),
        ("--event-time-min", "yesterday", "ANALYTICS_EVENT_TIME_MIN"),
        ("--event-time-min", "0001-01-01T00:00:00Z", "ANALYTICS_EVENT_TIME_MIN"),
        ("--event-time-min", "+10000-01-01T00:00:00Z", "ANALYTICS_EVENT_TIME_MIN"),
        ("--event-time-max-ahead", "36526d", "ANALYTICS_EVENT_TIME_MAX_AHEAD"),
        ("--event-time-max-ahead", "366", "ANALYTICS_EVENT_TIME_MAX_AHEAD"),
        ("--lanes", "0", "ANALYTICS_LANES"),
        ("--batch-max-events", "ten", "ANALYTICS_BATCH_MAX_EVENTS"),
        ("--batch-backlog-max-events", "10", "ANALYTICS_BATCH_BACKLOG_MAX_EVENTS"),
        ("--batch-max-bytes", "64MiB", "ANALYTICS_BATCH_MAX_BYTES"),
        ("--batch-linger", "50", "ANALYTICS_BATCH_LINGER"),
        ("--memory-budget", "1MiB", "ANALYTICS_MEMORY_BUDGET"),
    ] {
        let faults = check(&[&format!("{flag}={value}")], &[]).err().unwrap_or_default();
        let [fault] = faults.as_slice() else { panic!("{flag}={value}: {faults:?}") };
        assert!(
            fault.starts_with(&format!("{variable} is `{value}`; allowed is "))
                || fault.starts_with(&format!("{variable} is `{value}`; allowed are ")),
            "{fault}"
        );
    }
}

#[test]
fn all_faults_are_reported_at_once_and_secrets_never() {
    let secrets = [
        ("ANALYTICS_DATABASE_URL", "mysql://me:hunter2@host"),
        ("ANALYTICS_KAFKA_PROPERTY_SSL_KEY_PASSWOR", "hunter2"),
    ];
    let faults = check(&["--lanes=none", "--batch-linger=5", "--kafka-topic=a b"], &secrets).err().unwrap();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    assert!(!faults.concat().contains("hunter2"), "{faults:#?}");
    let missing = parse(&["worker"])
        .settings
        .check(Environment { errors: vec!["found before".to_owned()], ..Environment::default() });
    assert_eq!(missing.err().unwrap().len(), 3);
}

#[test]
fn the_url_overrides_the_parts_and_the_writers_port_the_common_one() {
    let url = ("ANALYTICS_DATABASE_URL", "postgresql://me:hunter2@db.example:6432/stats?sslmode=require");
    let config = check(&["--service-port=8000", "--ingest-service-port=0"], &[url]).ok().unwrap();
    assert_eq!(config.database.target(), "me@db.example:6432/stats");
    assert_eq!(format!("{:?}", config.database), "me@db.example:6432/stats");
    assert_eq!(config.service.port, 0);
}

#[test]
fn topics_are_a_list_behind_the_prefix_or_a_pattern() {
    let topics = |flags: &[&str]| check(flags, &[]).ok().unwrap().kafka.topics;
    assert!(topics(&["--kafka-topic-prefix=prod."]).subscription().contains(&"prod.iam.user.registered"));
    // What is named is meant as it is named.
    assert_eq!(topics(&["--kafka-topic=b, a", "--kafka-topic-prefix=prod."]).subscription(), ["a", "b"]);
    assert_eq!(topics(&["--kafka-topic=^a.{1,3}$"]), TopicSelection::Pattern("^a.{1,3}$".to_owned()));
}

#[test]
fn a_rule_on_a_new_topic_is_read_behind_the_prefix() {
    let mut table: serde_json::Value =
        serde_json::from_str(include_str!("../normalize/upstreams.json")).unwrap();
    let mut rule = table[0].clone();
    rule["name"] = "new".into();
    rule["identity"]["name"] = "new/1".into();
    rule["topics"] = serde_json::json!(["brand.new", "iam.user.registered"]);
    table.as_array_mut().unwrap().push(rule);
    let subscribed = |rules: &Rules, flags: &[&str]| -> Vec<String> {
        let needed = ["worker", "--postgres-user", "u", "--postgres-db", "d"];
        let settings = parse(&[&needed, flags].concat()).settings;
        let config = settings.check_with(rules, Environment::default()).ok().unwrap();
        config.kafka.topics.subscription().iter().map(|topic| (*topic).to_owned()).collect()
    };
    let rules = Rules::parse(&table.to_string()).unwrap();
    let mut expected: Vec<_> = subscribed(&Rules::built_in().unwrap(), &["--kafka-topic-prefix=prod."]);
    expected.push("prod.brand.new".to_owned());
    expected.sort();
    assert_eq!(subscribed(&rules, &["--kafka-topic-prefix=prod."]), expected);
    assert_eq!(subscribed(&rules, &["--kafka-topic=other"]), ["other"]);
}

#[test]
fn no_pattern_matches_what_kafka_keeps_for_itself() {
    let never = |flags: &[&str], variables: &[(&str, &str)]| {
        let config = check(flags, variables).ok().unwrap().kafka.client_config();
        config.create_native_config().unwrap();
        config.get("topic.blacklist").map(str::to_owned)
    };
    let own = ("ANALYTICS_KAFKA_PROPERTY_TOPIC_BLACKLIST", "^old");
    assert!(never(&["--kafka-topic=^.*"], &[]).unwrap().starts_with("^__,"));
    assert!(never(&["--kafka-topic=^.*"], &[own]).unwrap().starts_with("^old,^__,"));
    assert_eq!(never(&[], &[]), None);
    let protocol = [("ANALYTICS_KAFKA_PROPERTY_GROUP_PROTOCOL", "consumer")];
    assert_eq!(check(&["--kafka-topic=^.*"], &protocol).ok().unwrap().warnings.len(), 1);
    assert_eq!(check(&["--kafka-topic=a"], &protocol).ok().unwrap().warnings, [""; 0]);
}

#[test]
fn the_kafka_client_is_told_what_correctness_rests_on() {
    let config = check(&[], &[]).ok().unwrap().kafka.client_config();
    for (name, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", "10000"),
        ("queued.max.messages.kbytes", "21845"),
        ("allow.auto.create.topics", "false"),
    ] {
        assert_eq!(config.get(name), Some(value), "{name}");
    }
    config.create_native_config().unwrap();
}

#[test]
fn operators_set_other_properties_but_not_those() {
    let property =
        |name: &str, value: &str| check(&[], &[(&format!("ANALYTICS_KAFKA_PROPERTY_{name}"), value)]);
    let config = property("SESSION_TIMEOUT_MS", "6000").ok().unwrap().kafka.client_config();
    assert_eq!(config.get("session.timeout.ms"), Some("6000"));
    let config = property("GROUP_PROTOCOL", "consumer").ok().unwrap().kafka.client_config();
    assert_eq!((config.get("session.timeout.ms"), config.get("partition.assignment.strategy")), (None, None));
    for name in
        ["ENABLE_AUTO_COMMIT", "ISOLATION_LEVEL", "AUTO_OFFSET_RESET", "ENABLE_PARTITION_EOF", "GROUP_ID"]
    {
        let faults = property(name, "x").err().unwrap();
        assert!(faults.len() == 1 && faults.concat().contains(name), "{faults:?}");
    }
    assert!(property("NO_SUCH_THING", "1").err().unwrap().concat().contains("no.such.thing"));
    assert!(property("SESSION_TIMEOUT_MS", "soon").is_err());
    assert!(property("SESSION_TIMEOUT_MS", "").is_ok());
}

#[test]
fn event_hubs_needs_no_user_name_and_its_traps_are_told() {
    let password = (
        "ANALYTICS_KAFKA_SASL_PASSWORD",
        "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKey=hunter2;EntityPath=one",
    );
    let hubs =
        ["--kafka-bootstrap-servers=ns.servicebus.windows.net:9092", "--kafka-security-protocol=sasl_ssl"];
    let config = check(&hubs, &[password]).ok().unwrap();
    let client = config.kafka.client_config();
    assert_eq!(client.get("sasl.username"), Some("$ConnectionString"));
    assert_eq!(
        (client.get("session.timeout.ms"), client.get("connections.max.idle.ms")),
        (Some("30000"), Some("180000"))
    );
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(!config.warnings.concat().contains("hunter2"));
    let faults = check(&["--kafka-security-protocol=SASL_SSL"], &[]).err().unwrap();
    assert!(faults.concat().contains("ANALYTICS_KAFKA_SASL_USERNAME"), "{faults:?}");
}
