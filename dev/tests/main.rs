//! Both real processes against a real Kafka and a real PostgreSQL: a module per invariant, one binary.
//! `dev/stack up`, then `dev/stack run cargo test -p dev`.

#![cfg(test)]

mod golden;
mod nothing_lost;
mod nothing_twice;
mod patterns;
mod poison;
mod headers;
mod drain;
mod http_commands;
mod long_answers;
mod documents;
mod frame;
mod read_models_agree;
mod reader_cannot_write;
mod poolers;
mod sessions;
mod settings;
mod oracle;
mod faults_oracle;

use chrono::TimeDelta;
use dev::clock;
use dev::load::{Load, LoadPlan, LoadRecord, Order};
use dev::processes::Settings;

/// Records of the last three days in any order, five of a thousand of them broken.
fn a_load(seed: u64, records: usize) -> Vec<LoadRecord> {
    let until = clock::now();
    let from = until - TimeDelta::days(3);
    Load::new(LoadPlan { seed, records, from, until, order: Order::Random, faults_per_mille: 5 }).collect()
}

/// Many small batches, so that a process that is killed has done a part of its work and no more.
fn in_small_batches(mut settings: Settings) -> Settings {
    for name in ["ANALYTICS_BATCH_MAX_EVENTS", "ANALYTICS_BATCH_BACKLOG_MAX_EVENTS"] {
        settings.insert(name.to_owned(), "200".to_owned());
    }
    settings
}
