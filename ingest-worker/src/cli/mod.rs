//! The third door: the command line. It reads the settings, does what its verb says and ends with an exit status for
//! scripts.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line talks to people")]

mod migrate;
mod check;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use sqlx::Executor as _;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigArgs};
use crate::environment::Environment;
use crate::normalize::Rules;
use crate::postgres_session::Unsuitable;
use crate::write::rule_identities;
use crate::{postgres, shutdown, telemetry};

/// Stopped by a fault.
const FAULT: u8 = 1;
/// Wrong settings; wrong usage is clap's and has the same status.
const WRONG_SETTINGS: u8 = 2;
/// `check` found something wrong.
const WRONG: u8 = 3;

const AFTER_HELP: &str = "\
Secrets, from the variable or from the file that …_FILE names:
  ANALYTICS_DATABASE_URL         postgres://user:password@host:port/database?sslmode=…; overrides ANALYTICS_POSTGRES_…
  ANALYTICS_POSTGRES_PASSWORD    password of the login
  ANALYTICS_KAFKA_SASL_PASSWORD  password, or the connection string of Event Hubs

Any property of the Kafka client (librdkafka), upper case, underscores for dots:
  ANALYTICS_KAFKA_PROPERTY_SSL_CA_LOCATION=/etc/ssl/kafka.pem

Flags win over variables, variables over a file .env here or in a folder above. An empty variable counts as unset.
Durations: 500ms, 5s, 2m, 1h, 30d. Sizes: 512KiB, 16MiB, 1GiB.

Exit codes:
  0  stopped by SIGTERM or SIGINT, or done
  1  stopped by a fault
  2  wrong settings or usage
  3  check found something wrong";

/// Writes analytics events from Kafka and HTTP into PostgreSQL, each exactly once.
#[derive(Parser)]
#[command(name = "ingest-worker", version, after_help = AFTER_HELP, next_line_help = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    settings: ConfigArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Read Kafka and answer HTTP until SIGTERM or SIGINT (the default)
    Run {
        /// Make or update the tables first; for development
        #[arg(long)]
        migrate: bool,
    },
    /// Make or update the tables; any number of times, also by several processes at once
    Migrate {
        /// Accept that upstream events are identified otherwise than those stored: a replay will store them again
        #[arg(long)]
        accept_rules: bool,
    },
    /// Connect to PostgreSQL and Kafka and say what is wrong and what to do
    Check,
    /// Print the topics that are read, one a line, or the pattern of their names
    Topics,
}

/// The whole process.
#[must_use]
pub fn main() -> ExitCode {
    // Before any thread: it changes the environment.
    postgres::forget_libpq_variables();
    let environment = Environment::load();
    #[cfg(feature = "fail-points")]
    let environment = Environment {
        errors: environment.errors.into_iter().chain(crate::fail_point::arm().err()).collect(),
        ..environment
    };
    let cli = parse(&environment.variables);
    let config = match cli.settings.check(environment) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("ingest-worker cannot start with these settings:\n  {}", faults.join("\n  "));
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    telemetry::install(&config.log);
    match cli.verb.unwrap_or(Verb::Run { migrate: false }) {
        Verb::Run { migrate } => run(config, migrate),
        Verb::Migrate { accept_rules } => finish(on_runtime(async {
            let migrated = migrate::apply(&config.database).await?;
            println!("{migrated}");
            if accept_rules {
                let mut connection = config.database.connect().await?;
                connection.execute("RESET ROLE").await?; // As whom the tables were made.
                rule_identities::accept(&mut connection, &Rules::built_in()?.identities()).await?;
                println!("the identities of this release's rules are accepted");
            }
            Ok(())
        })),
        Verb::Topics => {
            config.kafka.topics.subscription().iter().for_each(|topic| println!("{topic}"));
            ExitCode::SUCCESS
        }
        Verb::Check => match on_runtime(check::check(&config)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(WRONG),
            fault => finish(fault.map(drop)),
        },
    }
}

/// As derived, but: settings are allowed after the verb too, and variables, `.env` with them, come as flags before those of
/// the command line, which win.
fn parse(variables: &BTreeMap<String, String>) -> Cli {
    let command = Cli::command().args_override_self(true).mut_args(|arg| {
        let arg = arg.global(true).hide_env_values(true);
        let set = arg.get_env().filter(|name| std::env::var_os(name).is_some());
        // What counts as unset is no value.
        let unset = set.is_some_and(|name| name.to_str().is_none_or(|name| !variables.contains_key(name)));
        if unset { arg.env(Resettable::Reset) } else { arg }
    });
    let flag = |arg: &Arg| {
        let value = variables.get(arg.get_env()?.to_str()?)?;
        Some(OsString::from(format!("--{}={value}", arg.get_long()?)))
    };
    let flags: Vec<OsString> = command.get_arguments().filter_map(flag).collect();
    let mut line = std::env::args_os();
    let line = line.next().into_iter().chain(flags).chain(line);
    Cli::from_arg_matches(&command.get_matches_from(line)).unwrap_or_else(|error| error.exit())
}

fn run(config: Config, migrate: bool) -> ExitCode {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let outcome = on_runtime(async move {
        if migrate {
            let migrated = migrate::apply(&config.database).await?;
            tracing::info!("{migrated}");
        }
        let stop = CancellationToken::new();
        let signals = shutdown::on_signal(stop.clone());
        tokio::select! {
            outcome = crate::run(config, stop) => outcome,
            // Only if signals cannot be listened to: without them nobody could stop the process in order.
            outcome = signals => Err(outcome.err().map_or_else(|| anyhow::anyhow!("no signals"), Into::into)),
        }
    });
    if let Err(fault) = outcome {
        tracing::error!("stopped: {fault:#}");
        return ExitCode::from(FAULT);
    }
    ExitCode::SUCCESS
}

fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    if let Err(fault) = outcome {
        eprintln!("{fault:#}");
        return ExitCode::from(FAULT);
    }
    ExitCode::SUCCESS
}

fn on_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A name look-up or a half-open connection must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// PostgreSQL's own sentence and code, without the place in its source that `sqlx` adds.
fn sentence(error: &sqlx::Error) -> String {
    if let Some(unsuitable) = Unsuitable::of(error) {
        return unsuitable.to_string();
    }
    match (error, error.as_database_error()) {
        (_, Some(database)) => format!("{} ({})", database.message(), database.code().unwrap_or_default()),
        (sqlx::Error::Tls(fault), _) => fault.to_string(),
        _ => error.to_string(),
    }
}
