//! Log lines: pretty on a terminal, one JSON object each elsewhere; floods become one line and a count.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, stderr},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{config::RDKafkaLogLevel, error::KafkaError};
use tracing_subscriber::EnvFilter;

use crate::{config::Faults, units};

/// How the process speaks.
#[derive(clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// error, warn, info, debug or trace; also per module: info,ingest_worker::write=debug
    #[arg(long, env = "ANALYTICS_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// pretty, json, or auto: pretty on a terminal, json elsewhere
    #[arg(long, env = "ANALYTICS_LOG_FORMAT", default_value = "auto", value_name = "WORD")]
    log_format: String,
}

/// [`LogArgs`], checked.
#[derive(Debug, Clone)]
pub struct LogSettings {
    filter: String,
    json: bool,
}

impl LogArgs {
    /// Notes each fault.
    pub fn check(self, faults: &mut Faults) -> LogSettings {
        let format = faults.word("ANALYTICS_LOG_FORMAT", &self.log_format, &["auto", "pretty", "json"]);
        LogSettings {
            filter: faults.take("ANALYTICS_LOG", &self.log, units::log_filter),
            json: format == "json" || (format == "auto" && !stderr().is_terminal()),
        }
    }
}

/// Sends every line to the standard error from now on; a second call changes nothing.
pub fn install(settings: &LogSettings) {
    // The HTTP library's lines say what ours say; the operator may still ask for them.
    let filter = EnvFilter::new(format!("poem=warn,{}", settings.filter));
    // A line that the standard error does not take would be told there, which panics: at a signal too, which then is lost.
    let lines =
        tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter).with_writer(stderr);
    let installed = if settings.json {
        lines.json().flatten_event(true).with_span_list(false).try_init()
    } else {
        lines.with_ansi(stderr().is_terminal()).try_init()
    };
    if let Err(error) = installed {
        tracing::debug!(%error, "log lines go elsewhere already");
    }
}

/// Lets one line through per period and counts those between.
#[derive(Debug)]
pub struct Throttle {
    period: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl Throttle {
    /// One line per `period`.
    #[must_use]
    pub const fn new(period: Duration) -> Self {
        Self { period, state: Mutex::new((None, 0)) }
    }

    /// If a line may be written now: how many were not since the last.
    pub fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|last| last.elapsed() < self.period) {
            state.1 += 1;
            return None;
        }
        let suppressed = state.1;
        *state = (Some(Instant::now()), 0);
        Some(suppressed)
    }
}

/// One throttle per kind of line; the client's kinds are a closed list of some thirty.
fn kafka_throttle(kind: &str) -> Option<u64> {
    static KINDS: LazyLock<Mutex<HashMap<String, Throttle>>> = LazyLock::new(Mutex::default);
    let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
    kinds.entry(kind.to_owned()).or_insert_with(|| Throttle::new(Duration::from_secs(30))).pass()
}

/// A log line of the Kafka client, for `ClientContext::log`. What it calls an error it also recovers from by itself.
pub fn kafka_log(level: RDKafkaLogLevel, kind: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", kind, "{line}"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
            tracing::info!(target: "librdkafka", kind, "{line}")
        }
        _ => {
            if let Some(suppressed) = kafka_throttle(kind) {
                tracing::warn!(target: "librdkafka", kind, suppressed, "{line}");
            }
        }
    }
}

/// An error that concerns the whole Kafka client, for `ClientContext::error`.
pub fn kafka_error(error: &KafkaError, reason: &str) {
    if let Some(suppressed) = kafka_throttle(&format!("{:?}", error.rdkafka_error_code())) {
        tracing::warn!(target: "librdkafka", %error, suppressed, "{reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_and_a_count() {
        let throttle = Throttle::new(Duration::from_secs(3600));
        assert_eq!((throttle.pass(), throttle.pass(), throttle.pass()), (Some(0), None, None));
        let at_once = Throttle::new(Duration::ZERO);
        assert_eq!((at_once.pass(), at_once.pass()), (Some(0), Some(0)));
    }
}
