//! The demonstration: `make demo` runs it when both servers are up and both binaries are built.

use std::process::ExitCode;

use clap::Parser;
use dev::demo;

/// Shows the service at work: on a terminal until Ctrl-C, elsewhere until the answers are checked.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    #[command(flatten)]
    options: demo::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    match demo::run(&Arguments::parse().options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
