//! Sends records and knows that the broker has them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::{DateTime, Utc};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::time::Instant;

use crate::load::LoadRecord;
use crate::wait::until;

/// A record as Kafka takes it.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The whole name, prefix included.
    pub topic: String,
    /// `None` leaves the choice to the key.
    pub partition: Option<i32>,
    /// `None` is no key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// `None` leaves it to the client.
    pub timestamp: Option<DateTime<Utc>>,
    /// In this order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    /// A record of the load, for its topic behind the prefix.
    #[must_use]
    pub fn of_load(prefix: &str, record: &LoadRecord) -> Self {
        Self {
            topic: format!("{prefix}{}", record.topic),
            partition: None,
            key: Some(record.key.clone().into_bytes()),
            value: record.value.clone().map(String::into_bytes),
            timestamp: Some(record.timestamp),
            headers: Vec::new(),
        }
    }
}

/// Counts what the broker has acknowledged.
#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    failure: Mutex<Option<String>>,
}

#[derive(Clone, Default)]
struct Acknowledgements(Arc<Deliveries>);

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.0.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                if let Ok(mut failure) = self.0.failure.lock() {
                    failure.get_or_insert_with(|| error.to_string());
                }
            }
        }
    }
}

/// The upstream services' producers: the Spring services', and CodeRunner's with Snappy.
pub struct Producer {
    spring: ThreadedProducer<Acknowledgements>,
    code_runner: ThreadedProducer<Acknowledgements>,
    deliveries: Arc<Deliveries>,
    sent: u64,
}

impl Producer {
    /// # Errors
    /// A client cannot be made.
    pub fn of(bootstrap: &str) -> Result<Self> {
        let acknowledgements = Acknowledgements::default();
        let with_codec = |codec: &str| {
            rdkafka::ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("acks", "all")
                .set("enable.idempotence", "true")
                // A second request may reach a partition that was just made before the first one is retried, whose
                // sequence numbers the broker then takes for a repetition: acknowledged, and not there.
                .set("max.in.flight.requests.per.connection", "1")
                .set("compression.codec", codec)
                .set("linger.ms", "10")
                // Compressed about what Java fills a batch to, 16 KiB.
                .set("batch.size", "65536")
                .set("partitioner", "murmur2_random") // Java's.
                .set("message.max.bytes", "5000000") // More than the topics take: Kafka decides.
                .set("message.timeout.ms", "60000")
                .set("log_level", "3")
                .create_with_context(acknowledgements.clone())
                .context("no Kafka producer")
        };
        Ok(Self {
            spring: with_codec("lz4")?,
            code_runner: with_codec("snappy")?,
            deliveries: Arc::clone(&acknowledgements.0),
            sent: 0,
        })
    }

    /// Hands a record to the client, which sends it soon; waits while its buffer is full.
    ///
    /// # Errors
    /// The client refuses it, or an earlier record failed.
    pub async fn send(&mut self, record: &Record) -> Result<()> {
        self.check()?;
        let producer =
            if record.topic.ends_with("execution.analytics") { &self.code_runner } else { &self.spring };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match producer.send(base_record(record)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err((error, _)) => {
                    return Err(error).context(format!("Kafka takes no record for {}", record.topic));
                }
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Sends a record of the load to its topic behind the prefix. CodeRunner ignores its key: any of the partitions.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_load(&mut self, prefix: &str, partitions: i32, record: &LoadRecord) -> Result<()> {
        let anywhere = record.topic == "execution.analytics";
        let partition =
            anywhere.then(|| i32::try_from(self.sent % 1_000_003).unwrap_or(0) % partitions.max(1));
        self.send(&Record { partition, ..Record::of_load(prefix, record) }).await
    }

    /// How many records the broker has.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.deliveries.acknowledged.load(Ordering::Relaxed)
    }

    /// The same for somebody else to look at.
    pub fn watch(&self) -> impl Fn() -> u64 + use<> {
        let deliveries = Arc::clone(&self.deliveries);
        move || deliveries.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until the broker has all that was sent.
    ///
    /// # Errors
    /// It does not within a minute.
    pub async fn flush(&mut self) -> Result<()> {
        let sent = self.sent;
        until("Kafka acknowledges all records", Duration::from_secs(60), async || {
            Ok(self.acknowledged() == sent || self.check().is_err())
        })
        .await?;
        self.check()?;
        ensure!(self.acknowledged() == sent, "{} of {sent} records acknowledged", self.acknowledged());
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if let Ok(failure) = self.deliveries.failure.lock()
            && let Some(failure) = failure.as_ref()
        {
            bail!("a record did not reach Kafka: {failure}");
        }
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // What is left is of no use any more; its thread would go on for a minute.
        for producer in [&self.spring, &self.code_runner] {
            producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        }
    }
}

pub(crate) fn base_record(record: &Record) -> BaseRecord<'_, [u8], [u8]> {
    let mut base = BaseRecord::to(&record.topic);
    base.partition = record.partition;
    base.key = record.key.as_deref();
    base.payload = record.value.as_deref();
    base.timestamp = record.timestamp.map(|at| at.timestamp_millis());
    if !record.headers.is_empty() {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: as_text(name), value: value.as_deref() })
        });
        base.headers = Some(headers);
    }
    base
}

/// Names of headers are text to the client library, but it hands on whatever bytes they are.
#[expect(unsafe_code, reason = "other clients send any bytes, and so must we, to see what becomes of them")]
fn as_text(name: &[u8]) -> &str {
    // SAFETY: goes into `OwnedHeaders::insert` alone, which takes its address and length and nothing else.
    unsafe { std::str::from_utf8_unchecked(name) }
}

/// Keeps a pace: so many a second, from the first call on.
pub struct Pace {
    started: Instant,
    done: u64,
    per_second: Option<f64>,
}

impl Pace {
    /// `None` is as fast as it goes.
    #[must_use]
    pub fn of(per_second: Option<f64>) -> Self {
        Self { started: Instant::now(), done: 0, per_second }
    }

    /// Waits until the next one is due.
    pub async fn next(&mut self) {
        if let Some(per_second) = self.per_second {
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
            let due = self.started + Duration::from_secs_f64(self.done as f64 / per_second.max(0.001));
            tokio::time::sleep_until(due).await;
        }
        self.done += 1;
    }
}
