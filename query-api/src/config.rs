//! All settings of the process, checked together before anything connects.

use std::time::Duration;

use clap::{ArgMatches, Command};

use crate::faults::Faults;
use crate::http::HttpConfig;
use crate::projections::connection::DatabaseConfig;
use crate::settings::{Setting, Values};
use crate::telemetry::Telemetry;
use crate::{http, projections, telemetry, units};

const APP_NAME: Setting =
    Setting::new("ANALYTICS_APP_NAME", "NAME", "analytics-service").help("How the log names it");
const ENVIRONMENT: Setting =
    Setting::new("ANALYTICS_ENVIRONMENT", "NAME", "development").help("Where it runs, for the log");
const API_VERSION: Setting =
    Setting::new("ANALYTICS_API_VERSION", "VERSION", "v1").help("The version in the paths; there is only v1");
const DRAIN_TIMEOUT: Setting = Setting::new("ANALYTICS_DRAIN_TIMEOUT", "DURATION", "20s")
    .help("How long open requests may take after SIGTERM or SIGINT");

const SETTINGS: &[Setting] = &[APP_NAME, ENVIRONMENT, API_VERSION, DRAIN_TIMEOUT];

const EXIT_CODES: &str = "\
Exit codes:
  0  stopped by SIGTERM or SIGINT, or printed what was asked
  1  stopped by a fault
  2  wrong settings or usage, or a database role that may write
  3  check found something wrong";

/// Everything the process can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// How the log names it.
    pub app_name: String,
    /// Where it runs, for the log.
    pub environment: String,
    /// How long open requests may take at the end.
    pub drain_timeout: Duration,
    /// Routes and address.
    pub http: HttpConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// The log.
    pub telemetry: Telemetry,
    /// What is allowed but probably not meant; logged at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads flags, environment and `.env`.
    ///
    /// # Errors
    /// Every fault there is, a sentence each.
    pub fn load(matches: &ArgMatches) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let values = Values::load(matches, &all_settings(), &mut faults);
        let app_name = faults.take(&values, &APP_NAME, units::name);
        let environment = faults.take(&values, &ENVIRONMENT, units::name);
        faults.take(&values, &API_VERSION, |text| units::word(text, &["v1"]));
        let drain_timeout = faults.take(&values, &DRAIN_TIMEOUT, |text| units::duration(text, units::DRAIN));
        let http = HttpConfig::check(&values, &mut faults);
        let database = DatabaseConfig::check(&values, &mut faults);
        let telemetry = Telemetry::check(&values, &mut faults);
        match (app_name, environment, drain_timeout, http, database, telemetry) {
            (
                Some(app_name),
                Some(environment),
                Some(drain_timeout),
                Some(http),
                Some(database),
                Some(telemetry),
            ) if faults.none() => {
                let database = database.named(&format!("{app_name} query-api"));
                let warnings = faults.warnings;
                Ok(Self { app_name, environment, drain_timeout, http, database, telemetry, warnings })
            }
            _ => Err(faults),
        }
    }
}

/// The command line.
#[must_use]
pub fn command() -> Command {
    let settings = all_settings();
    let secrets: Vec<String> = settings.iter().filter_map(Setting::secret_line).collect();
    Command::new("query-api")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Answers questions about analytics events over HTTP, from PostgreSQL, with a role that can only read")
        .subcommand(Command::new("serve").about("Answer requests until SIGTERM or SIGINT (the default)"))
        .subcommand(Command::new("check").about("Connect to PostgreSQL and say what is wrong and what to do"))
        .subcommand(Command::new("openapi").about("Print the OpenAPI document and end"))
        .args(settings.iter().filter_map(Setting::arg))
        .next_line_help(true)
        .max_term_width(110)
        .after_help(format!(
            "Secrets (from the variable, or from the file that …_FILE names):\n{}\n\n\
             Flags win over variables, variables over a file .env here or in a folder above. An empty variable counts \
             as unset. Durations: 500ms, 5s, 2m, 1h, 30d.\n\n{EXIT_CODES}",
            secrets.join("\n"),
        ))
}

fn all_settings() -> Vec<Setting> {
    [
        SETTINGS,
        http::SETTINGS,
        &http::long_answers::SETTINGS,
        projections::connection::SETTINGS,
        telemetry::SETTINGS,
    ]
    .concat()
}
