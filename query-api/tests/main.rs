//! The real process against a real PostgreSQL: one database per test (`DATABASE_URL` says where), a module per promise.
#![cfg(test)]

mod harness;
#[path = "../../ingest-worker/tests/own_postgres.rs"]
mod own_postgres;

mod summary;
mod recent_events;
mod long_answers;
mod refusals;
mod documents;
mod statements;
mod roles;
mod outages;
mod poolers;
mod command_line;
mod tls;
