//! Log lines: pretty on a terminal, JSON elsewhere.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::faults::Faults;
use crate::settings::{Setting, Values};
use crate::units;

const LOG: Setting = Setting::new("ANALYTICS_LOG", "FILTER", "info")
    .help("What is logged: error, warn, info, debug or trace, also by module, e.g. info,query_api=debug");
const LOG_FORMAT: Setting = Setting::new("ANALYTICS_LOG_FORMAT", "FORMAT", "auto")
    .help("auto, pretty or json; auto is pretty on a terminal and json elsewhere");

/// What this service reads.
pub const SETTINGS: &[Setting] = &[LOG, LOG_FORMAT];

/// How to log.
#[derive(Debug, Clone)]
pub struct Telemetry {
    filter: String,
    json: bool,
}

impl Telemetry {
    /// Checks the settings.
    pub fn check(values: &Values, faults: &mut Faults) -> Option<Self> {
        let filter = faults.take(values, &LOG, units::log_filter);
        let format = faults.take(values, &LOG_FORMAT, |text| units::word(text, &["auto", "pretty", "json"]));
        let json = format.map(|word| word == "json" || (word == "auto" && !std::io::stderr().is_terminal()));
        Some(Self { filter: filter?, json: json? })
    }
}

/// Begins to log to the standard error; the standard output belongs to the commands that print.
pub fn start(telemetry: &Telemetry) {
    // What the libraries tell at info, ours tell already; naming them in the setting brings their lines back.
    let filter = EnvFilter::new(format!("poem=warn,sqlx=warn,{}", telemetry.filter));
    // A line that the standard error does not take would be told there, which panics: at a signal too, which then is lost.
    let builder = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if telemetry.json {
        builder.json().flatten_event(true).with_span_list(false).init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
}
