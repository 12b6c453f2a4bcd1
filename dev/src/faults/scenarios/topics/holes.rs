//! Offsets without records: markers, aborted transactions, what compaction has taken.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{DefaultProducerContext, Producer as _, ThreadedProducer};

use super::{CHUNK, TOLD, VICTIM, begun, of_victim, padded, partitions};
use crate::faults::{DRAIN, Scene, Worker};
use crate::load::{LoadRecord, Outcome};
use crate::produce::{Record, base_record};
use crate::wait::until;

/// Transactions of a round.
const TRANSACTIONS: usize = 60;
/// For anything that a transaction's coordinator does.
const REQUEST: Duration = Duration::from_secs(20);

pub(super) async fn transactions(scene: &mut Scene) -> Result<()> {
    scene.to_the_end = true;
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    for round in 1..=scene.rounds {
        let some = some_transactions(scene, &worker, round).await;
        some.with_context(|| format!("round {round}; {}", worker.last_lines()))?;
    }
    worker.terminate(DRAIN).await?;
    let (claims, holes) = (scene.ledger("consumed").await?, scene.ledger("not_delivered").await?);
    let gaps: i64 = holes.iter().map(|row| row.totals.gaps).sum();
    let least = i64::from(scene.rounds) * i64::try_from(TRANSACTIONS)?;
    ensure!(gaps > least, "{gaps} offsets without a record are not as many as there were transactions");
    ensure!(holes.len() <= claims.len(), "{} rows tell of holes, for {} claims", holes.len(), claims.len());
    Ok(())
}

async fn some_transactions(scene: &mut Scene, worker: &Worker, round: u32) -> Result<()> {
    let id = format!("{}transactions", scene.bench.prefix);
    let producer = Transactions::of(scene, &id).await?;
    for number in 0..TRANSACTIONS {
        let size = scene.random.usize(1..6);
        let records = scene.strangers(size, |_| true);
        producer.begin().await?;
        producer.send(scene, &records)?;
        if number % 3 == 0 {
            producer.abort().await?;
        } else {
            producer.commit().await?;
            scene.expect_records(records);
        }
        scene.produce(2).await?;
    }
    scene.healed();
    scene.caught_up().await.context("small transactions")?;

    // What lies behind an open one is not for us yet, and no reason to be behind.
    let slow = scene.strangers(20, |_| true);
    producer.begin().await?;
    producer.send(scene, &slow)?;
    producer.flush().await?;
    scene.produce(CHUNK).await?;
    until("nothing is left to read", TOLD, async || Ok(lag(worker).await? < 0.5)).await?;
    let stored = scene.bench.accounted(&scene.bench.group).await?;
    let sent = i64::try_from(scene.sent().len())?;
    ensure!(stored < sent, "{stored} of {sent} records are accounted for, though a transaction is open");
    producer.commit().await?;
    scene.expect_records(slow);
    scene.healed();
    scene.caught_up().await.context("a slow transaction")?;

    // Its producer is gone in the middle of another; the next one of the same name ends it.
    producer.begin().await?;
    producer.send(scene, &scene.strangers(20, |_| true))?;
    producer.flush().await?;
    drop(producer);
    scene.produce(CHUNK).await?;
    drop(Transactions::of(scene, &id).await?);
    scene.healed();
    scene.caught_up().await.with_context(|| format!("a producer that died in round {round}"))?;
    until("nothing is left to read", TOLD, async || Ok(lag(worker).await? < 0.5)).await
}

/// Over all partitions.
async fn lag(worker: &Worker) -> Result<f64> {
    worker.metric("analytics_ingest_lag_records").await
}

/// A producer of transactions.
struct Transactions(Arc<ThreadedProducer<DefaultProducerContext>>);

impl Transactions {
    /// Ends what another one of this name has left open.
    async fn of(scene: &Scene, id: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &scene.bench.stack.bootstrap)
            .set("transactional.id", id)
            .set("linger.ms", "1")
            .set("log_level", "3")
            .create()
            .context("no Kafka producer")?;
        let producer = Self(Arc::new(producer));
        producer.ask("begin at all", |producer| producer.init_transactions(REQUEST)).await?;
        Ok(producer)
    }

    async fn begin(&self) -> Result<()> {
        self.ask("begin", |producer| producer.begin_transaction()).await
    }

    fn send(&self, scene: &Scene, records: &[LoadRecord]) -> Result<()> {
        for record in records {
            let record = Record::of_load(&scene.bench.prefix, record);
            self.0.send(base_record(&record)).map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.ask("send", |producer| producer.flush(REQUEST)).await
    }

    async fn commit(&self) -> Result<()> {
        self.ask("commit", |producer| producer.commit_transaction(REQUEST)).await
    }

    async fn abort(&self) -> Result<()> {
        self.ask("abort", |producer| producer.abort_transaction(REQUEST)).await
    }

    async fn ask(
        &self,
        what: &'static str,
        question: impl FnOnce(&ThreadedProducer<DefaultProducerContext>) -> KafkaResult<()> + Send + 'static,
    ) -> Result<()> {
        let producer = Arc::clone(&self.0);
        let answer = tokio::task::spawn_blocking(move || question(&producer)).await?;
        answer.with_context(|| format!("a transaction does not {what}"))
    }
}

/// Keys of the compacted topic: each comes again and again.
const KEYS: usize = 25;
/// Bytes of padding, so that the broker soon has segments to compact.
const PADDING: usize = 4 << 10;
/// Records of one step, some segments of a megabyte for each partition.
const MANY: usize = 1_500;

pub(super) async fn compacted(scene: &mut Scene) -> Result<()> {
    let topic = scene.topic(VICTIM);
    scene.bench.topics.delete_wholly(&topic).await?;
    let settings =
        [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")];
    scene.bench.topics.create_with(&[(topic.clone(), scene.bench.partitions)], &settings).await?;
    for round in 1..=scene.rounds {
        churn(scene, &topic).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

async fn churn(scene: &mut Scene, topic: &str) -> Result<()> {
    superseding(scene).await?;
    let ends = scene.bench.topics.ends(topic).await?.into_values().sum::<i64>();
    until("the broker compacts the topic", TOLD, async || {
        Ok(i64::try_from(scene.bench.topics.records(topic).await?.len())? < ends * 3 / 4)
    })
    .await?;
    let mut worker = scene.start(scene.settings())?;
    // More, while it reads.
    superseding(scene).await?;
    scene.healed();
    scene.caught_up().await.with_context(|| worker.last_lines())?;
    begun(scene, partitions(scene)?).await?;
    worker.terminate(DRAIN).await?;
    let (stored, missing) = scene.fleeting().await?;
    let gaps: i64 = scene.ledger("not_delivered").await?.iter().map(|row| row.totals.gaps).sum();
    ensure!(
        gaps == i64::try_from(missing.len())?,
        "the ledger tells of {gaps} holes, {} records are missing",
        missing.len()
    );
    ensure!(!missing.is_empty() && !stored.is_empty(), "nothing was compacted away, or everything");
    let last: HashMap<_, _> =
        scene.sent_fleeting().into_iter().map(|record| (record.key, record.value)).collect();
    let missing: HashSet<_> = missing.into_iter().map(|record| record.value).collect();
    let lost = last.iter().find(|(_, value)| missing.contains(*value));
    ensure!(lost.is_none(), "the last record of a key is not stored: {lost:?}");
    Ok(())
}

/// Records of few keys, and some tombstones that nothing supersedes.
async fn superseding(scene: &mut Scene) -> Result<()> {
    let strangers = of_victim(scene, MANY);
    let mut records = padded(scene, strangers, PADDING);
    for (record, number) in records.iter_mut().zip(0..) {
        record.key = format!("key {}", number % KEYS);
    }
    scene.send_fleeting(records).await?;
    let before = scene.sent().len();
    let tombstone = |(number, record): (usize, LoadRecord)| LoadRecord {
        key: format!("tombstone {}", before + number),
        value: None,
        becomes: Outcome::Tombstone,
        ..record
    };
    let tombstones: Vec<_> = of_victim(scene, 10).into_iter().enumerate().map(tombstone).collect();
    scene.send(tombstones).await
}
