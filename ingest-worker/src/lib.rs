//! The write side: domain events come in from Kafka and over HTTP, rows of PostgreSQL go out, nothing lost and nothing
//! twice.
//!
//! The rooms in the order in which an event walks through them: three doors (`consume`, `http`, `cli`), then `decode`,
//! `normalize`, `batch`, `commands` and `write`. The other files are the house's services.

pub mod consume;
pub mod http;
pub mod cli;
pub mod decode;
pub mod normalize;
pub mod batch;
pub mod commands;
pub mod write;

pub mod clock;
pub mod config;
pub mod environment;
pub mod units;
pub mod fail_point;
pub mod health;
pub mod metrics;
pub mod postgres;
pub mod postgres_session;
pub mod problem;
#[cfg(test)]
mod model;
mod run;
pub mod screen;
pub mod shutdown;
pub mod telemetry;

pub use run::run;
