//! Faults on purpose, against a real Kafka and a real PostgreSQL: `dev/faults`, which brings both.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use dev::faults::runner::{self, Plan};
use tokio::signal::unix::{SignalKind, signal};

/// Does to the service what the world does, and asks afterwards whether anything was lost, doubled or counted wrongly.
#[derive(Parser)]
#[command(name = "faults")]
struct Options {
    /// Scenarios to run, by a part of their names; all if none is given.
    names: Vec<String>,

    /// Name them all.
    #[arg(long)]
    list: bool,

    /// Decides everything that is random; a failure tells its own.
    #[arg(long)]
    seed: Option<u64>,

    /// The part for `make test`.
    #[arg(long)]
    quick: bool,

    /// Rounds of each, instead of its own number.
    #[arg(long)]
    rounds: Option<u32>,

    /// So many at a time; those that disturb the servers are run by themselves all the same.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    jobs: u8,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if options.list {
        runner::list();
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan {
        // Short enough to be typed again.
        seed: options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        quick: options.quick,
        rounds: options.rounds,
        jobs: usize::from(options.jobs),
        names: options.names,
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // What is dropped by a signal kills its processes.
    let good = tokio::select! {
        good = runner::run(&plan) => good?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
