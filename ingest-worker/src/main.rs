//! The process; everything is in the library, so that tests run the real thing.

use std::process::ExitCode;

fn main() -> ExitCode {
    ingest_worker::cli::main()
}
