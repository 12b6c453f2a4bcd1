//! The command line: `query-api [serve]`, `query-api check` and `query-api openapi`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line talks to people")]

use std::process::ExitCode;
use std::time::Duration;

use query_api::config::{self, Config};
use query_api::projections::database::RoleMayWrite;
use query_api::{check, http, postgres, run, shutdown, telemetry};
use tokio_util::sync::CancellationToken;

/// Stopped by a fault.
const FAULT: u8 = 1;
/// Wrong settings or usage.
const WRONG_SETTINGS: u8 = 2;
/// `check` found something wrong.
const WRONG: u8 = 3;

fn main() -> ExitCode {
    postgres::forget_libpq_variables();
    // Wrong usage ends here, with clap's exit code 2.
    let matches = config::command().get_matches();
    if matches.subcommand_name() == Some("openapi") {
        return print_openapi();
    }
    let config = match Config::load(&matches) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("query-api cannot start with these settings:\n{faults}");
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    telemetry::start(&config.telemetry);
    if matches.subcommand_name() == Some("check") {
        return match on_runtime(Duration::from_secs(1), async { Ok(check::check(&config).await) }) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(WRONG),
            Err(fault) => {
                eprintln!("query-api cannot start: {fault}");
                ExitCode::from(FAULT)
            }
        };
    }
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tracing::error!("stopped: {fault:#}");
            ExitCode::from(if fault.is::<RoleMayWrite>() { WRONG_SETTINGS } else { FAULT })
        }
    }
}

fn print_openapi() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => {
            println!("{}", runtime.block_on(async { http::openapi() }));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("query-api cannot start: {fault}");
            ExitCode::from(FAULT)
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    on_runtime(config.drain_timeout.min(Duration::from_secs(1)), async {
        let stop = CancellationToken::new();
        shutdown::on_signal(stop.clone())?;
        run(config, stop).await
    })
}

fn on_runtime<T>(limit: Duration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A name look-up or a half-open connection must not hold the process.
    runtime.shutdown_timeout(limit);
    outcome
}
