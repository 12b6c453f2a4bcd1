//! What the worker's own steps take by themselves: one thread of this process, and nothing else that runs.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ingest_worker::batch::{Batch, Claim, Fate};
use ingest_worker::consume::{KafkaRecord, RecordTimestamp, TimestampKind};
use ingest_worker::decode::{Decoded, Envelope, Limits, decode};
use ingest_worker::normalize::{EventTimeLimits, Normalizer, Rules};
use ingest_worker::write::CopyBuffer;
use shared::analytics::AnalyticsEvent;

use crate::clock;
use crate::load::LoadRecord;

/// Records of a batch, as under a backlog.
const BATCH: usize = 10_000;

/// How long each step took for all records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    /// Bytes to the members of an object that PostgreSQL will take.
    pub decode: Duration,
    /// Members to an event.
    pub normalize: Duration,
    /// Events into a batch, and their end.
    pub gather: Duration,
    /// Events to the bytes of COPY.
    pub encode: Duration,
}

impl Steps {
    /// By name, in their order.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Duration); 4] {
        [
            ("decode", self.decode),
            ("normalize", self.normalize),
            ("gather", self.gather),
            ("encode", self.encode),
        ]
    }
}

/// Takes the steps, batch by batch.
///
/// # Errors
/// A record becomes no event.
pub fn measure(records: &[LoadRecord]) -> Result<Steps> {
    let earliest: DateTime<Utc> = "2000-01-01T00:00:00Z".parse()?;
    let limits = EventTimeLimits { min: earliest, max_ahead: TimeDelta::days(1) };
    let normalizer = Normalizer::new(Rules::built_in()?, limits, String::new());
    let mut topics = HashMap::new();
    let mut steps = Steps::default();
    for batch in records.chunks(BATCH) {
        let records = batch.iter().zip(0..).map(|(record, offset)| fetched(record, offset, &mut topics));
        take(records.collect(), &normalizer, &mut steps)?;
    }
    Ok(steps)
}

fn fetched(record: &LoadRecord, offset: i64, topics: &mut HashMap<&str, Arc<str>>) -> KafkaRecord {
    KafkaRecord {
        topic: Arc::clone(topics.entry(record.topic).or_insert_with(|| Arc::from(record.topic))),
        partition: 0,
        offset,
        timestamp: Some(RecordTimestamp { at: record.timestamp, kind: TimestampKind::CreateTime }),
        key: Some(Bytes::copy_from_slice(record.key.as_bytes())),
        value: record.value.as_ref().map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
        epoch: 1,
    }
}

fn take(records: Vec<KafkaRecord>, normalizer: &Normalizer, steps: &mut Steps) -> Result<()> {
    let (now, limits) = (clock::now(), Limits::default());

    let started = Instant::now();
    let envelopes: Vec<Envelope<'_>> = records
        .iter()
        .filter_map(|record| match decode(record, &limits) {
            Decoded::Envelope(envelope) => Some(envelope),
            Decoded::Tombstone | Decoded::Refused(_) => None,
        })
        .collect();
    steps.decode += started.elapsed();

    let started = Instant::now();
    let events: Vec<AnalyticsEvent> =
        envelopes.iter().filter_map(|envelope| normalizer.normalize(envelope, now).ok()).collect();
    steps.normalize += started.elapsed();
    drop(envelopes);
    ensure!(events.len() == records.len(), "{} of {} records became events", events.len(), records.len());

    let started = Instant::now();
    let key = records.first().context("a batch without records")?.partition_key();
    let claim = Claim { epoch: 1, incarnation: 1, start_offset: 0, next_offset: 0, last: None };
    let mut batch = Batch::default();
    let range = batch.range(&key, &claim, 0);
    for (record, event) in records.into_iter().zip(events) {
        batch.push(range, record, Fate::Event(event));
    }
    steps.gather += started.elapsed();

    let started = Instant::now();
    let mut buffer = CopyBuffer::new();
    for event in batch.events() {
        buffer.push(&event.event);
        if buffer.is_full() {
            black_box(buffer.as_bytes());
            buffer.clear();
        }
    }
    steps.encode += started.elapsed();

    let started = Instant::now();
    drop(batch);
    steps.gather += started.elapsed();
    Ok(())
}
