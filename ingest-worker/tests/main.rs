//! The write side against a real PostgreSQL, one database per test: what a transaction writes, what it refuses, who may
//! write at all. Run by `make test`, or `dev/stack run cargo test -p ingest-worker --test main`.

#![cfg(test)]

/// Events, records and batches to begin with, and a worker that writes them.
mod given;
/// What the tables hold afterwards.
mod stored;
/// A second server, for what the first one cannot be.
mod own_postgres;

mod statements;
mod transaction;
mod duplicates;
mod conflicts;
mod repeats;
mod payload_bytes;
mod incarnations;
mod fencing;
mod retention;
mod lanes;
mod simulated_faults;
mod refused_rows;
mod refused_elsewhere;
mod http_commands;
mod failure_table;
mod locked_out;
mod claims;
mod migrations;
mod privileges;
mod partition_functions;
mod rule_identities;
mod documents;
mod command_line;
mod sessions;
mod tls;
