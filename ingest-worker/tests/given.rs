use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ingest_worker::batch::{Batch, Claim, Fate, LastRecord};
use ingest_worker::commands::{Advanced, RecordFailure, Recorded, Recorder};
use ingest_worker::consume::{KafkaRecord, PartitionKey, RecordTimestamp, TimestampKind};
use ingest_worker::decode::{Rejection, RejectionClass};
use ingest_worker::postgres::Tls;
use ingest_worker::write::{Claimed, Claims, DatabaseSettings, WriteFailure};
use shared::analytics::{
    Actor, AnalyticsEvent, EventId, EventParts, EventType, Payload, PayloadLimits, Source, Tenant,
};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

pub const GROUP: &str = "analytics-test";
pub const TOPIC: &str = "challenges.solution-completed";
pub const NOON: &str = "2025-11-16T12:00:00Z";

pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: Arc::from(TOPIC), partition }
}

pub fn uuid(number: u128) -> Uuid {
    uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
}

/// Looks again and again, for half a minute at most.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap_or_else(|_| panic!("still not so: {what}"));
}

/// How a worker connects to the test's database.
pub fn database(pool: &PgPool) -> DatabaseSettings {
    settings((*pool.connect_options()).clone())
}

pub fn settings(options: PgConnectOptions) -> DatabaseSettings {
    DatabaseSettings { options, tls: Tls::default(), claim_lock_timeout: Duration::from_secs(1) }
}

/// The claim that was made.
pub fn ours(claimed: Result<Claimed, WriteFailure>) -> Claim {
    match claimed {
        Ok(Claimed::Ours(claim)) => claim,
        other => panic!("not ours: {other:?}"),
    }
}

/// The parts of an event, to be changed before it is made.
#[derive(Clone)]
pub struct Draft {
    digest: [u8; 16],
    id: Option<Uuid>,
    event_type: &'static str,
    at: DateTime<Utc>,
    says_when: bool,
    tenant: Option<&'static str>,
    payload: String,
}

/// Event `number`, that many seconds after noon, with an id that is derived from its time.
pub fn an_event(number: u32) -> Draft {
    Draft {
        digest: (u128::from(number) << 8).to_be_bytes(),
        id: None,
        event_type: "challenges.solution-completed",
        at: instant(NOON) + TimeDelta::seconds(number.into()),
        says_when: true,
        tenant: None,
        payload: format!(r#"{{"number":{number},"points":1.50}}"#),
    }
}

impl Draft {
    pub fn at(mut self, text: &str) -> Self {
        self.at = instant(text);
        self
    }

    /// Without a time of its own: it has the record's.
    pub fn came_at(mut self, text: &str) -> Self {
        self.says_when = false;
        self.at(text)
    }

    /// With an id that came from outside.
    pub fn external(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    pub fn of_type(mut self, event_type: &'static str) -> Self {
        self.event_type = event_type;
        self
    }

    pub fn of_tenant(mut self, tenant: &'static str) -> Self {
        self.tenant = Some(tenant);
        self
    }

    pub fn with_payload(mut self, json: &str) -> Self {
        json.clone_into(&mut self.payload);
        self
    }

    pub fn make(&self) -> AnalyticsEvent {
        let external = self.id.map(|id| EventId::external(id).unwrap());
        let id = external.unwrap_or_else(|| EventId::derived(self.at, self.digest));
        AnalyticsEvent::new(EventParts {
            id,
            event_type: EventType::new(self.event_type.to_owned()).unwrap(),
            source: Source::new("challenges-service".to_owned()).unwrap(),
            occurred_at: self.at,
            says_when: self.says_when,
            tenant: self.tenant.map(|tenant| Tenant::new(tenant.to_owned()).unwrap()),
            actor: Some(Actor::new("student-1".to_owned()).unwrap()),
            payload: Payload::new(&self.payload, PayloadLimits::NONE).unwrap(),
        })
    }
}

/// One connection, one worker's claims, and where each of its partitions has come to.
pub struct Worker {
    pub recorder: Recorder,
    pub claims: Claims,
    pub positions: BTreeMap<i32, (Claim, i64)>,
}

impl Worker {
    /// Holds the partitions, whoever held them before.
    pub async fn holding(pool: &PgPool, partitions: &[i32]) -> Self {
        Self::connected(database(pool), partitions).await
    }

    pub async fn connected(database: DatabaseSettings, partitions: &[i32]) -> Self {
        Self::of_group(database, GROUP, partitions).await
    }

    pub async fn of_group(database: DatabaseSettings, group: &str, partitions: &[i32]) -> Self {
        let recorder = Recorder::connect(&database, Arc::from(group), Arc::from("test")).await.unwrap();
        let claims = Claims::new(database, group.to_owned(), "test".to_owned());
        let mut worker = Self { recorder, claims, positions: BTreeMap::new() };
        for partition in partitions {
            worker.claim(*partition).await;
        }
        worker
    }

    pub async fn claim(&mut self, partition: i32) -> Claim {
        self.claims.begin(TOPIC, &[(partition, 0)]).await.unwrap();
        let claim = ours(self.claims.claim(&key(partition), self.recorder.backend(), None).await);
        self.positions.insert(partition, (claim.clone(), claim.next_offset));
        claim
    }

    /// Under which claim it holds the partition.
    pub fn epoch(&self, partition: i32) -> i64 {
        self.positions[&partition].0.epoch
    }

    /// An empty batch that goes on where this worker's partitions are.
    pub fn batch(&self) -> Records {
        Records { positions: self.positions.clone(), batch: Batch::default(), gaps: BTreeMap::new() }
    }

    /// Writes the batch and moves on.
    pub async fn record(&mut self, records: Records) -> Recorded {
        self.try_record(records).await.unwrap()
    }

    pub async fn try_record(&mut self, mut records: Records) -> Result<Recorded, RecordFailure> {
        let recorded = self.recorder.handle(&mut records.batch).await?;
        for Advanced { key, next_offset: next, .. } in &recorded.advanced {
            if let Some((_, position)) = self.positions.get_mut(&key.partition) {
                *position = *next;
            }
        }
        Ok(recorded)
    }

    /// These events, one after the other in partition 0.
    pub async fn record_events(&mut self, drafts: &[Draft]) -> Recorded {
        self.record(self.batch().events(0, drafts)).await
    }
}

/// A batch that is being put together, each record at its partition's next offset.
pub struct Records {
    positions: BTreeMap<i32, (Claim, i64)>,
    gaps: BTreeMap<i32, i64>,
    pub batch: Batch,
}

impl Records {
    pub fn event(self, partition: i32, draft: &Draft) -> Self {
        let event = draft.make();
        let value = event.payload().to_string().into_bytes();
        self.push(partition, Some(value), Fate::Event(event))
    }

    pub fn events(self, partition: i32, drafts: &[Draft]) -> Self {
        drafts.iter().fold(self, |records, draft| records.event(partition, draft))
    }

    pub fn refused(self, partition: i32, value: &[u8]) -> Self {
        let rejection = Rejection::new(RejectionClass::NotJson, "expected value at line 1 column 1");
        self.push(partition, Some(value.to_vec()), Fate::Rejected(rejection))
    }

    /// The record of this event, which came too early.
    pub fn too_early(self, partition: i32, draft: &Draft) -> Self {
        let value = draft.make().payload().to_string().into_bytes();
        let rejection = Rejection::new(RejectionClass::TimeOutOfRange, "occurredAt is too far ahead");
        self.push(partition, Some(value), Fate::Rejected(rejection))
    }

    pub fn tombstone(self, partition: i32) -> Self {
        self.push(partition, None, Fate::Tombstone)
    }

    /// So many offsets are not delivered before the partition's next record.
    pub fn gap(mut self, partition: i32, length: i64) -> Self {
        self.gaps.insert(partition, length);
        self
    }

    /// The end of the partition lies `length` beyond its last record.
    pub fn end_beyond(mut self, partition: i32, length: i64) -> Self {
        let (claim, next) = self.positions.get_mut(&partition).unwrap();
        self.batch.reach(&key(partition), claim, *next, *next + length);
        *next += length;
        self
    }

    /// Moves the partition, so that the batch does not begin where the table is.
    pub fn at(mut self, partition: i32, offset: i64) -> Self {
        self.positions.get_mut(&partition).unwrap().1 = offset;
        self
    }

    fn push(mut self, partition: i32, value: Option<Vec<u8>>, fate: Fate) -> Self {
        let (claim, next) = self.positions.get_mut(&partition).unwrap();
        let hole = self.gaps.remove(&partition);
        let record = a_record(partition, *next + hole.unwrap_or(0), claim.epoch, value);
        let last = LastRecord::of(&record);
        let range = self.batch.range(&key(partition), claim, *next);
        *next = record.offset + 1;
        self.batch.push(range, record, fate);
        self.batch.note_last(range, last);
        self
    }
}

fn a_record(partition: i32, offset: i64, epoch: i64, value: Option<Vec<u8>>) -> KafkaRecord {
    KafkaRecord {
        topic: Arc::from(TOPIC),
        partition,
        offset,
        timestamp: Some(RecordTimestamp { at: instant(NOON), kind: TimestampKind::CreateTime }),
        key: Some(Bytes::from_static(b"k\0\xff")),
        value: value.map(Bytes::from),
        headers: vec![
            (b"trace\0id".to_vec(), Some(vec![0, 255])),
            (b"none".to_vec(), None),
            (b"b\xc3".to_vec(), None),
        ],
        epoch,
    }
}
