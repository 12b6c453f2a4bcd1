//! What the worker's own steps take of the processor by themselves: one thread, records that are near in memory. What the
//! worker takes beyond is the Kafka client, sorting, statements, sending, its start, and memory that is far.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use chrono::{DateTime, TimeDelta, Utc};
use ingest_worker::batch::{Batch, Claim, Fate};
use ingest_worker::consume::{KafkaRecord, RecordTimestamp, TimestampKind};
use ingest_worker::decode::{Decoded, Envelope, Limits, decode};
use ingest_worker::normalize::{EventTimeLimits, Normalizer, Rules};
use ingest_worker::write::CopyBuffer;
use rustix::time::{ClockId, clock_gettime};
use shared::analytics::AnalyticsEvent;

use crate::clock;
use crate::load::LoadRecord;

/// Records of a batch, as under a backlog.
const BATCH: usize = 10_000;

/// Processor time that each step took for all records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    /// Bytes to the members of an object that PostgreSQL will take.
    pub decode: Duration,
    /// Members to an event.
    pub normalize: Duration,
    /// Events into a batch, and the batch's end.
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
    let mut batch = Batch::default();
    for records in records.chunks(BATCH) {
        let mut memory = BytesMut::new();
        let records = records.iter().zip(0..);
        let records =
            records.map(|(record, offset)| fetched(record, offset, &mut topics, &mut memory)).collect();
        steps.take(records, &normalizer, &mut batch)?;
    }
    Ok(steps)
}

/// As the Kafka thread copies it: keys and values side by side.
fn fetched(
    record: &LoadRecord,
    offset: i64,
    topics: &mut HashMap<&str, Arc<str>>,
    memory: &mut BytesMut,
) -> KafkaRecord {
    let mut keep = |text: &str| {
        memory.extend_from_slice(text.as_bytes());
        memory.split().freeze()
    };
    KafkaRecord {
        topic: Arc::clone(topics.entry(record.topic).or_insert_with(|| Arc::from(record.topic))),
        partition: 0,
        offset,
        timestamp: Some(RecordTimestamp { at: record.timestamp, kind: TimestampKind::CreateTime }),
        key: Some(keep(&record.key)),
        value: record.value.as_deref().map(keep),
        headers: Vec::new(),
        epoch: 1,
    }
}

impl Steps {
    fn take(&mut self, records: Vec<KafkaRecord>, normalizer: &Normalizer, batch: &mut Batch) -> Result<()> {
        let (now, limits) = (clock::now(), Limits::default());
        let mut envelopes: Vec<Envelope<'_>> = Vec::with_capacity(records.len());
        let mut events: Vec<AnalyticsEvent> = Vec::with_capacity(records.len());

        let started = processor();
        for record in &records {
            if let Decoded::Envelope(envelope) = decode(record, &limits) {
                envelopes.push(envelope);
            }
        }
        self.decode += processor() - started;

        let started = processor();
        for envelope in envelopes {
            events.extend(normalizer.normalize(&envelope, now));
        }
        self.normalize += processor() - started;
        ensure!(events.len() == records.len(), "{} of {} became events", events.len(), records.len());

        let started = processor();
        let key = records.first().context("a batch without records")?.partition_key();
        let claim = Claim { epoch: 1, incarnation: 1, start_offset: 0, next_offset: 0, last: None };
        let range = batch.range(&key, &claim, 0);
        for (record, event) in records.into_iter().zip(events) {
            batch.push(range, record, Fate::Event(event));
        }
        let gathered = batch.hand_over();
        self.gather += processor() - started;

        let started = processor();
        let mut buffer = CopyBuffer::new();
        for event in gathered.events() {
            buffer.push(&event.event);
            if buffer.is_full() {
                black_box(buffer.as_bytes());
                buffer.clear();
            }
        }
        self.encode += processor() - started;

        let started = processor();
        drop(gathered);
        self.gather += processor() - started;
        Ok(())
    }
}

/// Of this thread, since it began.
fn processor() -> Duration {
    // The kernel gives neither negative seconds nor a thousand million nanoseconds.
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}
