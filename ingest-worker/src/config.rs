//! The settings: each room owns its own part, here they come together and are checked, all before anything connects.

mod faults;

use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};

use crate::{
    batch::{BatchArgs, BatchSettings},
    consume::{KafkaArgs, KafkaSettings},
    decode::Limits,
    environment::Environment,
    http::{HttpArgs, HttpSettings},
    normalize::{CANONICAL_TOPIC, EventTimeLimits, Rules},
    telemetry::{LogArgs, LogSettings},
    units,
    write::{DatabaseArgs, DatabaseSettings},
};
pub use faults::{Faults, Secret};

/// What the command line and the environment say, not yet checked.
#[derive(clap::Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    batch: BatchArgs,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Service")]
struct ServiceArgs {
    /// Name of the service in log lines and on PostgreSQL's list of sessions
    #[arg(long, env = "ANALYTICS_APP_NAME", default_value = "analytics-service", value_name = "NAME")]
    app_name: String,
    /// Where it runs, for log lines: development, staging, production …
    #[arg(long, env = "ANALYTICS_ENVIRONMENT", default_value = "development", value_name = "NAME")]
    environment: String,
    /// Version of the HTTP API; there is one
    #[arg(long, env = "ANALYTICS_API_VERSION", default_value = "v1", value_name = "WORD")]
    api_version: String,
    /// Address to listen on; 0.0.0.0 is everywhere
    #[arg(long, env = "ANALYTICS_SERVICE_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    service_host: String,
    /// Port to listen on, 8001 if not set; 0 takes a free one; wins over ANALYTICS_SERVICE_PORT
    #[arg(long, env = "ANALYTICS_INGEST_SERVICE_PORT", value_name = "PORT")]
    ingest_service_port: Option<String>,
    /// The same, if ANALYTICS_INGEST_SERVICE_PORT is not set
    #[arg(long, env = "ANALYTICS_SERVICE_PORT", default_value = "8001", value_name = "PORT")]
    service_port: String,
    /// How long a stop may take: commit what is in flight, answer open requests, leave the group
    #[arg(long, env = "ANALYTICS_DRAIN_TIMEOUT", default_value = "20s", value_name = "DURATION")]
    drain_timeout: String,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Records and events")]
struct EventArgs {
    /// Larger records become dead letters
    #[arg(long, env = "ANALYTICS_RECORD_MAX_BYTES", default_value = "1MiB", value_name = "SIZE")]
    record_max_bytes: String,
    /// Records nested deeper become dead letters
    #[arg(long, env = "ANALYTICS_RECORD_MAX_DEPTH", default_value = "128", value_name = "N")]
    record_max_depth: String,
    /// Payloads that take more when PostgreSQL writes their numbers out in full become dead letters; the reader's too
    #[arg(long, env = "ANALYTICS_PAYLOAD_MAX_BYTES", default_value = "8MiB", value_name = "SIZE")]
    payload_max_bytes: String,
    /// Earlier events become dead letters; from 1970 on
    #[arg(
        long,
        env = "ANALYTICS_EVENT_TIME_MIN",
        default_value = "2000-01-01T00:00:00Z",
        value_name = "INSTANT"
    )]
    event_time_min: String,
    /// Events this far beyond their record's timestamp (the clock, where that is not plausible) become dead letters
    #[arg(long, env = "ANALYTICS_EVENT_TIME_MAX_AHEAD", default_value = "366d", value_name = "DURATION")]
    event_time_max_ahead: String,
}

/// All settings of the process, checked.
#[derive(Clone)]
pub struct Config {
    /// The process itself.
    pub service: ServiceSettings,
    /// Log lines.
    pub log: LogSettings,
    /// The second door.
    pub http: HttpSettings,
    /// Where events go.
    pub database: DatabaseSettings,
    /// Where records come from.
    pub kafka: KafkaSettings,
    /// How large and deep a record may be.
    pub decode: Limits,
    /// When an event may have occurred.
    pub event_time: EventTimeLimits,
    /// How records are gathered.
    pub batch: BatchSettings,
    /// What is allowed but probably not meant; logged at start.
    pub warnings: Vec<String>,
}

/// The process itself.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Name in log lines.
    pub app_name: String,
    /// Where it runs.
    pub environment: String,
    /// Address to listen on.
    pub host: String,
    /// Port to listen on, 0 for a free one.
    pub port: u16,
    /// How long a stop may take.
    pub drain_timeout: Duration,
}

impl ConfigArgs {
    /// # Errors
    /// A sentence for each fault, then what is only suspicious: it may be why.
    pub fn check(self, environment: Environment) -> Result<Config, Vec<String>> {
        let rules = Rules::built_in().map_err(|fault| vec![fault.to_string()])?;
        self.check_with(&rules, environment)
    }

    /// The topics of the rules are read by default, and the canonical one.
    fn check_with(self, rules: &Rules, environment: Environment) -> Result<Config, Vec<String>> {
        let topics = rules.topics().chain([CANONICAL_TOPIC]);
        let Environment { variables, errors, warnings } = environment;
        let mut faults = Faults { environment: variables, errors, warnings };
        let batch = self.batch.check(&mut faults);
        let (decode, event_time) = self.events.check(&mut faults);
        if decode.max_bytes > batch.max_bytes && batch.max_bytes > 0 {
            faults.error("ANALYTICS_RECORD_MAX_BYTES is more than ANALYTICS_BATCH_MAX_BYTES; allowed is that much at most");
        }
        if decode.max_bytes > decode.max_payload_bytes as usize && decode.max_payload_bytes > 0 {
            faults.error("ANALYTICS_RECORD_MAX_BYTES is more than ANALYTICS_PAYLOAD_MAX_BYTES; allowed is that much at most");
        }
        let service = self.service.check(&mut faults);
        let config = Config {
            log: self.log.check(&mut faults),
            http: self.http.check(&mut faults),
            database: self.database.check(&format!("{} ingest-worker", service.app_name), &mut faults),
            kafka: self.kafka.check(batch.memory_budget, topics, &mut faults),
            service,
            decode,
            event_time,
            batch,
            warnings: faults.warnings,
        };
        if faults.errors.is_empty() {
            return Ok(config);
        }
        faults.errors.extend(config.warnings);
        Err(faults.errors)
    }
}

impl ServiceArgs {
    fn check(self, faults: &mut Faults) -> ServiceSettings {
        faults.word("ANALYTICS_API_VERSION", &self.api_version, &["v1"]);
        let port = match &self.ingest_service_port {
            Some(port) => faults.number("ANALYTICS_INGEST_SERVICE_PORT", port, 0..=u16::MAX),
            None => faults.number("ANALYTICS_SERVICE_PORT", &self.service_port, 0..=u16::MAX),
        };
        ServiceSettings {
            app_name: faults.take("ANALYTICS_APP_NAME", &self.app_name, units::name),
            environment: faults.take("ANALYTICS_ENVIRONMENT", &self.environment, units::name),
            host: faults.take("ANALYTICS_SERVICE_HOST", &self.service_host, units::host),
            port,
            drain_timeout: faults.duration("ANALYTICS_DRAIN_TIMEOUT", &self.drain_timeout, units::DRAIN),
        }
    }
}

impl EventArgs {
    fn check(self, faults: &mut Faults) -> (Limits, EventTimeLimits) {
        // jsonb's own text ends at 1 GiB.
        let payload_max =
            faults.size("ANALYTICS_PAYLOAD_MAX_BYTES", &self.payload_max_bytes, 64 << 10..=512 << 20);
        let limits = Limits {
            max_bytes: faults.size("ANALYTICS_RECORD_MAX_BYTES", &self.record_max_bytes, 1 << 10..=256 << 20),
            // PostgreSQL's own stack ends near six thousand.
            max_depth: faults.number("ANALYTICS_RECORD_MAX_DEPTH", &self.record_max_depth, 1..=1_000),
            max_payload_bytes: u32::try_from(payload_max).unwrap_or(u32::MAX),
        };
        let min: DateTime<Utc> = faults.read(
            "ANALYTICS_EVENT_TIME_MIN",
            &self.event_time_min,
            "an instant from 1970-01-01T00:00:00Z on: each month may become a partition",
            |value| value.parse().ok().filter(|at: &DateTime<Utc>| (1970..=9999).contains(&at.year())),
        );
        let ahead = Duration::from_secs(1)..=Duration::from_secs(36_525 * 86_400);
        let max_ahead = faults.duration("ANALYTICS_EVENT_TIME_MAX_AHEAD", &self.event_time_max_ahead, ahead);
        let max_ahead = TimeDelta::from_std(max_ahead).unwrap_or(TimeDelta::MAX);
        (limits, EventTimeLimits { min, max_ahead })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod database_tests;
