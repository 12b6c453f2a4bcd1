//! How fast the service is: `make bench`, which brings the servers and the release builds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the benchmark talks to people")]

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use dev::benchmark::{self, PARTS, Plan};

/// Measures both processes against what PostgreSQL does by itself, in the same run, on the same machine.
#[derive(Parser)]
#[command(name = "benchmark")]
struct Options {
    /// Parts to run; all if none is given.
    #[arg(value_parser = PARTS)]
    parts: Vec<String>,

    /// Times that each measurement is repeated.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=20))]
    repeats: u8,

    /// Records of each run from Kafka.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    records: u32,

    /// Reads from ten million events too: some ten minutes more.
    #[arg(long)]
    large: bool,

    /// Write every figure of every repeat to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(!cfg!(debug_assertions), "this is a debug build, whose figures say nothing: run `make bench`");
    let plan = Plan {
        repeats: usize::from(options.repeats),
        records: usize::try_from(options.records)?,
        large: options.large,
        parts: options.parts,
    };
    let report = benchmark::run(&plan, &mut |line| eprintln!("{line}")).await?;
    print!("{}", report.table());
    if let Some(file) = options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}
