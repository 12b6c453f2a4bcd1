use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};

use crate::consume::{KafkaSettings, TopicPattern, TopicSelection};
use crate::screen::Screen;

const PATIENCE: Duration = Duration::from_secs(10);
const TOPICS_ARE_THEIRS: &str = "topics are made by whoever runs Kafka; the worker starts without them and reads them once they are there";

/// Keeps what the client says about its troubles: the error of a call names only the consequence.
#[derive(Default)]
struct Listening(Mutex<Option<(Option<RDKafkaErrorCode>, String)>>);

impl ClientContext for Listening {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down follows from what was heard before.
        if heard.is_none() || code != Some(RDKafkaErrorCode::AllBrokersDown) {
            // Without the counters in brackets that the client puts at the end.
            let reason = reason.split(" (after ").next().unwrap_or(reason);
            *heard = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Listening {}

pub(super) fn check(kafka: &KafkaSettings, screen: &mut Screen) {
    screen.title("Kafka", &kafka.bootstrap_servers);
    let created =
        kafka.client_config().create_with_context::<_, BaseConsumer<Listening>>(Listening::default());
    let consumer = match created {
        Ok(consumer) => consumer,
        Err(error) => {
            screen.wrong(&format!("the client refuses its settings: {error}"), "check ANALYTICS_KAFKA_…");
            return;
        }
    };
    let Some(metadata) = connect(&consumer, screen) else { return };
    topics(&kafka.topics, &metadata, screen);
    group(&consumer, &kafka.group, screen);
}

fn connect(consumer: &BaseConsumer<Listening>, screen: &mut Screen) -> Option<Metadata> {
    let started = Instant::now();
    let error = loop {
        match consumer.fetch_metadata(None, Duration::from_secs(1)) {
            Ok(metadata) => {
                let brokers = metadata.brokers().len();
                screen.ok(&format!("connected, {}", count(brokers, "broker")));
                return Some(metadata);
            }
            Err(error) => {
                // Delivers what the context is to hear.
                while consumer.poll(Duration::from_millis(50)).is_some() {}
                let heard = consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let hopeless = heard.as_ref().is_some_and(|(code, _)| is_final(*code));
                if hopeless || started.elapsed() > PATIENCE {
                    break heard.unwrap_or_else(|| (error.rdkafka_error_code(), error.to_string()));
                }
            }
        }
    };
    let (code, reason) = error;
    screen.wrong(&format!("cannot connect: {reason}"), remedy(code));
    None
}

fn is_final(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(
        code,
        Some(
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL
        )
    )
}

fn remedy(code: Option<RDKafkaErrorCode>) -> &'static str {
    match code {
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
            "check ANALYTICS_KAFKA_SECURITY_PROTOCOL and ANALYTICS_KAFKA_SASL_MECHANISM, _USERNAME and _PASSWORD"
        }
        Some(RDKafkaErrorCode::SSL) => {
            "check ANALYTICS_KAFKA_SECURITY_PROTOCOL and ANALYTICS_KAFKA_PROPERTY_SSL_CA_LOCATION"
        }
        Some(RDKafkaErrorCode::Resolve) => "check the names in ANALYTICS_KAFKA_BOOTSTRAP_SERVERS",
        _ => {
            "check ANALYTICS_KAFKA_BOOTSTRAP_SERVERS and ANALYTICS_KAFKA_SECURITY_PROTOCOL, and that Kafka runs"
        }
    }
}

/// Of the topics that match, so many are named.
const LISTED: usize = 20;

/// What the pattern matches now, as the Kafka client judges.
fn matching(pattern: &str, wanted: &TopicSelection, metadata: &Metadata, screen: &mut Screen) {
    let compiled = match TopicPattern::new(pattern) {
        Ok(compiled) => compiled,
        Err(reason) => {
            return screen
                .wrong(&format!("{pattern} is no pattern: {reason}"), "correct ANALYTICS_KAFKA_TOPIC");
        }
    };
    let all = metadata.topics();
    let named = |topic: &&MetadataTopic| compiled.matches(topic.name());
    let (read, left_out): (Vec<_>, Vec<_>) =
        all.iter().filter(named).partition(|topic| wanted.admits(topic.name()));
    if read.is_empty() {
        let sentence =
            format!("{pattern} matches none of {} that this login may see", count(all.len(), "topic"));
        screen.warn(
            &sentence,
            "patterns are POSIX extended: [0-9], not \\d; (a|b), not (?i); topics that appear later are read",
        );
        return;
    }
    let partitions = read.iter().map(|topic| topic.partitions().len()).sum();
    let total = format!("{}, {}", count(read.len(), "topic"), count(partitions, "partition"));
    screen.ok(&format!("{pattern} matches {total}; those that appear later are read too"));
    for topic in read.iter().take(LISTED) {
        screen.ok(&format!("topic {}, {}", topic.name(), count(topic.partitions().len(), "partition")));
    }
    if read.len() > LISTED {
        screen.ok(&format!("… and {} more", read.len() - LISTED));
    }
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.iter().take(LISTED).map(|topic| topic.name()).collect();
        screen.ok(&format!("never read, for Kafka and its tools keep their own there: {}", names.join(", ")));
    }
}

fn topics(wanted: &TopicSelection, metadata: &Metadata, screen: &mut Screen) {
    let names = match wanted {
        TopicSelection::List(names) => names,
        TopicSelection::Pattern(pattern) => return matching(pattern, wanted, metadata, screen),
    };
    let mut missing = Vec::new();
    for name in names {
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        match topic.map(|topic| (topic.partitions().len(), topic.error())) {
            Some((partitions, None)) if partitions > 0 => {
                screen.ok(&format!("topic {name}, {}", count(partitions, "partition")));
            }
            Some((_, Some(error))) => {
                screen.warn(&format!("topic {name}: {error:?}"), "check the login's rights")
            }
            _ => missing.push(name.as_str()),
        }
    }
    if !missing.is_empty() {
        let missing = missing.join(", ");
        screen.warn(&format!("not there, or not for this login to see: {missing}"), TOPICS_ARE_THEIRS);
    }
}

fn group(consumer: &BaseConsumer<Listening>, name: &str, screen: &Screen) {
    match consumer.fetch_group_list(Some(name), PATIENCE) {
        Ok(list) => {
            let group = list.groups().iter().find(|group| group.name() == name);
            let members = group.map_or(0, |group| group.members().len());
            let state = group.map(rdkafka::groups::GroupInfo::state).filter(|state| *state != "Dead");
            match state {
                Some(state) => screen.ok(&format!("group {name}, {}, {state}", count(members, "member"))),
                None => screen.ok(&format!("group {name}, not yet used")),
            }
        }
        Err(error) => screen
            .warn(&format!("group {name} cannot be looked at: {error}"), "reading may work all the same"),
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
