//! The process with places at which tests end, freeze or fail it: a name of its own, so that the ordinary binary never
//! has them. Needs the feature `fail-points`; never shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    ingest_worker::cli::main()
}
