use std::collections::BTreeMap;

use rdkafka::ClientConfig;

use super::topics::{TopicSelection, select};
use crate::config::{Faults, Secret};

const PROPERTY: &str = "ANALYTICS_KAFKA_PROPERTY_";
/// What the worker's correctness rests on, and what has a variable of its own.
const REFUSED: [&str; 9] = [
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    // Partitions are claimed one by one, which only cooperative assignment allows.
    "partition.assignment.strategy",
    "statistics.interval.ms",
];
/// Consumer groups of the platform's other services: sharing one would split the partitions with them.
const FOREIGN_GROUPS: [&str; 2] = ["analytics-consumer-group", "user-registration-analytics-group"];
const EVENT_HUBS_USER: &str = "$ConnectionString";

/// Where Kafka is and what is read there.
#[derive(clap::Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// host:port, several separated by commas
    #[arg(
        long,
        env = "ANALYTICS_KAFKA_BOOTSTRAP_SERVERS",
        default_value = "localhost:9092",
        value_name = "LIST"
    )]
    kafka_bootstrap_servers: String,
    /// Topics separated by commas, or one ^regex; default: those that `ingest-worker topics` prints
    #[arg(long, env = "ANALYTICS_KAFKA_TOPIC", value_name = "LIST")]
    kafka_topic: Option<String>,
    /// Put before the default topics, and taken off before a topic's rules are looked up
    #[arg(long, env = "ANALYTICS_KAFKA_TOPIC_PREFIX", value_name = "TEXT")]
    kafka_topic_prefix: Option<String>,
    /// Consumer group; PostgreSQL keeps the offsets under this name
    #[arg(
        long,
        env = "ANALYTICS_KAFKA_CONSUMER_GROUP",
        default_value = "analytics-service",
        value_name = "NAME"
    )]
    kafka_consumer_group: String,
    /// earliest or latest: where a topic begins that was never read
    #[arg(long, env = "ANALYTICS_KAFKA_AUTO_OFFSET_RESET", default_value = "earliest", value_name = "WORD")]
    kafka_auto_offset_reset: String,
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
    #[arg(long, env = "ANALYTICS_KAFKA_SECURITY_PROTOCOL", default_value = "PLAINTEXT", value_name = "WORD")]
    kafka_security_protocol: String,
    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
    #[arg(long, env = "ANALYTICS_KAFKA_SASL_MECHANISM", default_value = "PLAIN", value_name = "WORD")]
    kafka_sasl_mechanism: String,
    /// User name; $ConnectionString if empty and the password is an Event Hubs connection string
    #[arg(long, env = "ANALYTICS_KAFKA_SASL_USERNAME", value_name = "NAME")]
    kafka_sasl_username: Option<String>,
}

/// Where a topic begins that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At its first record.
    Earliest,
    /// After its last record.
    Latest,
}

/// [`KafkaArgs`], checked. No `Debug`: it holds a password.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// What is read.
    pub topics: TopicSelection,
    /// Taken off a topic's name before rules are looked up; often empty.
    pub topic_prefix: String,
    /// Consumer group, in Kafka and in `ingest_offsets`.
    pub group: String,
    /// Where a topic begins that was never read.
    pub start_at: StartAt,
    security: Security,
    /// Bytes that the client may fetch ahead.
    prefetch: usize,
    /// The operator's own librdkafka properties.
    properties: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Security {
    protocol: &'static str,
    mechanism: &'static str,
    username: Option<String>,
    password: Option<Secret>,
    event_hubs: bool,
}

impl KafkaArgs {
    /// Notes each fault. A third of `memory_budget` is for records fetched ahead; `topics` are those that are read where
    /// nothing is said.
    pub fn check<'a>(
        self,
        memory_budget: usize,
        topics: impl Iterator<Item = &'a str>,
        faults: &mut Faults,
    ) -> KafkaSettings {
        let prefix = self.kafka_topic_prefix.as_deref().unwrap_or_default().trim().to_owned();
        let start_at = faults.word(
            "ANALYTICS_KAFKA_AUTO_OFFSET_RESET",
            &self.kafka_auto_offset_reset,
            &["earliest", "latest"],
        );
        let settings = KafkaSettings {
            bootstrap_servers: servers(&self.kafka_bootstrap_servers, faults),
            topics: select(self.kafka_topic.as_deref(), &prefix, topics, faults),
            topic_prefix: prefix,
            group: group(&self.kafka_consumer_group, faults),
            start_at: if start_at == "latest" { StartAt::Latest } else { StartAt::Earliest },
            security: self.security(faults),
            prefetch: memory_budget / 3,
            properties: properties(faults),
        };
        settings.check_properties(faults);
        if settings.has_new_protocol() && matches!(settings.topics, TopicSelection::Pattern(_)) {
            faults.warn(
                "ANALYTICS_KAFKA_TOPIC is a pattern, which with group.protocol=consumer the broker matches by itself: \
                 as RE2/J does, against whole names",
            );
        }
        settings
    }

    fn security(self, faults: &mut Faults) -> Security {
        let protocols = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
        let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
        let password = faults.secret("ANALYTICS_KAFKA_SASL_PASSWORD");
        let mut security = Security {
            protocol: faults.word(
                "ANALYTICS_KAFKA_SECURITY_PROTOCOL",
                &self.kafka_security_protocol,
                &protocols,
            ),
            mechanism: faults.word("ANALYTICS_KAFKA_SASL_MECHANISM", &self.kafka_sasl_mechanism, &mechanisms),
            username: self.kafka_sasl_username,
            password,
            event_hubs: self.kafka_bootstrap_servers.contains(".servicebus.windows.net"),
        };
        security.complete(&self.kafka_bootstrap_servers, faults);
        security
    }
}

impl Security {
    /// Event Hubs' traps: dotenv and compose make nothing of `$ConnectionString`; its Kafka port is another.
    fn complete(&mut self, servers: &str, faults: &mut Faults) {
        let connection_string =
            self.password.as_ref().is_some_and(|text| text.expose().starts_with("Endpoint=sb://"));
        self.event_hubs |= connection_string;
        if connection_string && self.username.is_none() {
            self.username = Some(EVENT_HUBS_USER.to_owned());
        }
        if self.event_hubs && servers.contains(".servicebus.windows.net:9092") {
            faults.warn("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS has port 9092, Event Hubs listens on 9093");
        }
        if self.event_hubs && self.protocol != "SASL_SSL" {
            faults.warn(format!(
                "ANALYTICS_KAFKA_SECURITY_PROTOCOL is `{}`, Event Hubs accepts only SASL_SSL",
                self.protocol
            ));
        }
        if connection_string
            && self.password.as_ref().is_some_and(|text| text.expose().contains("EntityPath="))
        {
            faults.warn("ANALYTICS_KAFKA_SASL_PASSWORD has an EntityPath: it admits to that one topic only");
        }
        let sasl = self.protocol.starts_with("SASL");
        if sasl && self.mechanism != "OAUTHBEARER" && (self.username.is_none() || self.password.is_none()) {
            faults.error(format!(
                "ANALYTICS_KAFKA_SASL_USERNAME or ANALYTICS_KAFKA_SASL_PASSWORD is not set, {} needs both",
                self.protocol
            ));
        }
        if !sasl && !self.event_hubs && self.password.is_some() {
            faults.warn(format!(
                "ANALYTICS_KAFKA_SASL_PASSWORD is not used: ANALYTICS_KAFKA_SECURITY_PROTOCOL is `{}`",
                self.protocol
            ));
        }
    }
}

fn servers(value: &str, faults: &mut Faults) -> String {
    let is_server = |server: &str| {
        server
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    let servers: Vec<&str> = value.split(',').map(str::trim).collect();
    if !servers.iter().all(|server| is_server(server)) {
        faults.error(format!(
            "ANALYTICS_KAFKA_BOOTSTRAP_SERVERS is `{value}`; allowed is host:port, several separated by commas"
        ));
    }
    servers.join(",")
}

fn group(value: &str, faults: &mut Faults) -> String {
    if FOREIGN_GROUPS.contains(&value) {
        faults.warn(format!(
            "ANALYTICS_KAFKA_CONSUMER_GROUP is `{value}`, which another service of the platform uses: \
             the two would share the partitions"
        ));
    }
    value.to_owned()
}

fn properties(faults: &mut Faults) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (variable, value) in faults.environment.clone() {
        let Some(name) = variable.strip_prefix(PROPERTY).filter(|_| !value.is_empty()) else { continue };
        let name = name.to_ascii_lowercase().replace('_', ".");
        if REFUSED.contains(&name.as_str()) {
            faults.error(format!("{variable} is set; the worker itself decides {name}"));
        } else {
            properties.insert(name, value);
        }
    }
    properties
}

impl KafkaSettings {
    /// All librdkafka properties, the operator's on top.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in self.fixed().into_iter().chain(self.defaults()) {
            config.set(name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        if let Some(never) = self.topics.never_matched() {
            let own = self.properties.get("topic.blacklist").map(|own| format!("{own},"));
            config.set("topic.blacklist", own.unwrap_or_default() + &never);
        }
        if self.has_new_protocol() {
            // The broker decides these, the client refuses them.
            for name in ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"] {
                config.remove(name);
            }
        }
        config
    }

    /// KIP-848.
    fn has_new_protocol(&self) -> bool {
        self.properties.get("group.protocol").is_some_and(|protocol| protocol == "consumer")
    }

    fn fixed(&self) -> Vec<(&'static str, String)> {
        let mut fixed = vec![
            ("bootstrap.servers", self.bootstrap_servers.clone()),
            ("group.id", self.group.clone()),
            // PostgreSQL is the authority on offsets; a gap is recorded, never jumped over.
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("auto.offset.reset", "error".to_owned()),
            ("isolation.level", "read_committed".to_owned()),
            ("enable.partition.eof", "true".to_owned()),
            // Readiness and lag are read from them.
            ("statistics.interval.ms", "1000".to_owned()),
            ("security.protocol", self.security.protocol.to_owned()),
        ];
        if self.security.protocol.starts_with("SASL") {
            fixed.push(("sasl.mechanism", self.security.mechanism.to_owned()));
            if self.security.mechanism != "OAUTHBEARER" {
                fixed.extend(self.security.username.clone().map(|name| ("sasl.username", name)));
                let password = self.security.password.as_ref();
                fixed.extend(password.map(|text| ("sasl.password", text.expose().to_owned())));
            }
        }
        fixed
    }

    fn defaults(&self) -> Vec<(&'static str, String)> {
        let (session, socket) =
            if self.security.event_hubs { ("30000", "60000") } else { ("10000", "30000") };
        let defaults = [
            ("client.id", "ingest-worker"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", session),
            ("heartbeat.interval.ms", "3000"),
            ("max.poll.interval.ms", "300000"),
            ("socket.timeout.ms", socket),
            // Azure cuts connections that are idle for 240 s.
            ("socket.keepalive.enable", "true"),
            ("connections.max.idle.ms", "180000"),
            ("metadata.max.age.ms", "180000"),
            // So that a topic which was missing is found soon.
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("reconnect.backoff.max.ms", "5000"),
            ("allow.auto.create.topics", "false"),
            ("log.connection.close", "false"),
            // A broker answers one question after the other, and this long none while there is nothing to fetch.
            ("fetch.wait.max.ms", "100"),
            // A full queue must not show as a pause of a second.
            ("fetch.queue.backoff.ms", "20"),
            ("queued.min.messages", "20000"),
            // Of one partition in one answer. Partitions of one lane may come one after the other, while the other lane
            // has nothing to do: little of each, so that none waits for long. A partition alone and far away is read no
            // faster than this each round trip.
            ("fetch.message.max.bytes", "65536"),
        ];
        let mut defaults = defaults.map(|(name, value)| (name, value.to_owned())).to_vec();
        defaults
            .push(("queued.max.messages.kbytes", (self.prefetch >> 10).clamp(1024, 2_097_151).to_string()));
        // One answer of a broker. It is unpacked as a whole, whatever is waiting already, and JSON shrinks to a fourth or
        // less: the default of 50 MiB is far more than we may have.
        defaults.push(("fetch.max.bytes", (self.prefetch / 8).clamp(1 << 20, 50 << 20).to_string()));
        defaults
    }

    /// The client itself knows its properties' names and values; nothing is connected.
    fn check_properties(&self, faults: &mut Faults) {
        for (name, value) in &self.properties {
            let mut config = ClientConfig::new();
            if let Err(error) = config.set(name, value).create_native_config() {
                let variable = name.to_ascii_uppercase().replace('.', "_");
                // The value may be a secret.
                let reason = error.to_string().replace(value.as_str(), "…");
                faults.error(format!("{PROPERTY}{variable} is refused by the Kafka client: {reason}"));
            }
        }
    }
}
