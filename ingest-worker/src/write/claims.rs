use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::sync::{Mutex, MutexGuard};

use super::connect::DatabaseSettings;
use super::deadline::{ANSWER, within};
use super::failure::{Statement, WriteFailure};
use super::rule_identities;
use crate::batch::{Claim, LastRecord};
use crate::consume::PartitionKey;
use crate::normalize::RuleIdentity;

/// The PostgreSQL session of a lane: with its start, a pid is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Process id of the backend.
    pub pid: i32,
    /// When it started.
    pub start: DateTime<Utc>,
}

/// Takes partitions for this worker. Every claim is a single auto-committed statement on a connection of its own, so that
/// a client that freezes can never hold one open.
pub struct Claims {
    database: DatabaseSettings,
    group: String,
    worker: String,
    identities: Vec<RuleIdentity>,
    connection: Mutex<Option<PgConnection>>,
    /// Backend of `connection`, to be read while a statement runs there.
    claimant: Mutex<Option<i32>>,
}

/// What a claim of a partition that has no row yet needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// Other partitions of the topic have a row, so this one was added later.
    pub topic_is_known: bool,
}

#[derive(sqlx::FromRow)]
struct ClaimRow {
    epoch: i64,
    incarnation: i32,
    next_offset: i64,
    last_offset: Option<i64>,
    last_fingerprint: Option<Vec<u8>>,
    last_timestamp: Option<DateTime<Utc>>,
}

impl Claims {
    /// Before anything is claimed: what the ids of upstream events are made of must not have changed.
    #[must_use]
    pub fn holding(mut self, identities: Vec<RuleIdentity>) -> Self {
        self.identities = identities;
        self
    }

    /// `worker` names this process: host, process id and start.
    #[must_use]
    pub fn new(database: DatabaseSettings, group: String, worker: String) -> Self {
        Self {
            database,
            group,
            worker,
            identities: Vec::new(),
            connection: Mutex::new(None),
            claimant: Mutex::new(None),
        }
    }

    /// Claims a partition that Kafka has assigned, whoever holds it.
    ///
    /// # Errors
    /// `PredecessorAlive` if its row stays locked; else as [`WriteFailure`] says.
    pub async fn claim(
        &self,
        key: &PartitionKey,
        backend: &Backend,
    ) -> Result<Result<Claim, Unknown>, WriteFailure> {
        let taken = match self.take(key, backend, None).await {
            Err(WriteFailure::PredecessorAlive) => self.take_from_frozen(key, backend).await?,
            taken => taken?,
        };
        if let Some(claim) = taken {
            return Ok(Ok(claim));
        }
        let mut lease = self.lease().await?;
        let known = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM ingest_offsets WHERE consumer_group = $1::text AND topic = $2::text)",
        )
        .bind(&self.group)
        .bind(&*key.topic)
        .fetch_one(&mut lease.connection);
        let known = answered(Statement::Other, known).await;
        let topic_is_known = lease.give_back(known)?;
        Ok(Err(Unknown { topic_is_known }))
    }

    /// Claims again what this worker held under `epoch`; none if another has claimed it since. Waits for a transaction
    /// that is still open, so its answer is also how a commit of unknown outcome went.
    ///
    /// # Errors
    /// As for [`Claims::claim`].
    pub async fn reclaim(
        &self,
        key: &PartitionKey,
        backend: &Backend,
        epoch: i64,
    ) -> Result<Option<Claim>, WriteFailure> {
        self.take(key, backend, Some(epoch)).await
    }

    /// Writes where reading begins, for partitions that have no row.
    ///
    /// # Errors
    /// As [`WriteFailure`] says.
    pub async fn begin(&self, topic: &str, starts: &[(i32, i64)]) -> Result<(), WriteFailure> {
        let mut lease = self.lease().await?;
        let begun = sqlx::query(include_str!("offsets_begin.sql"))
            .bind(&self.group)
            .bind(topic)
            .bind(starts.iter().map(|(partition, _)| *partition).collect::<Vec<_>>())
            .bind(starts.iter().map(|(_, offset)| *offset).collect::<Vec<_>>())
            .execute(&mut lease.connection);
        let begun = answered(Statement::Other, begun).await;
        lease.give_back(begun).map(drop)
    }

    /// The predecessor has held the row for a whole lock time-out. While the claim waits for a second one, the session
    /// that the row names is ended, if that is what the claim waits for; anybody else is only waited for.
    async fn take_from_frozen(
        &self,
        key: &PartitionKey,
        backend: &Backend,
    ) -> Result<Option<Claim>, WriteFailure> {
        let end_predecessor = async {
            tokio::time::sleep(self.database.claim_lock_timeout / 4).await;
            let Some(claimant) = *self.claimant.lock().await else { return Ok(()) };
            let mut connection = self.database.connect().await?;
            let ended: Option<bool> = sqlx::query_scalar(include_str!("claims_end_predecessor.sql"))
                .bind(&self.group)
                .bind(&*key.topic)
                .bind(key.partition)
                .bind(claimant)
                .fetch_optional(&mut connection)
                .await?;
            if ended == Some(true) {
                tracing::warn!(
                    kafka.topic = &*key.topic,
                    kafka.partition = key.partition,
                    "ended a frozen predecessor"
                );
            }
            Ok::<(), sqlx::Error>(())
        };
        let (taken, ended) = tokio::join!(self.take(key, backend, None), end_predecessor);
        match taken {
            Ok(Some(claim)) => Ok(Some(claim)),
            taken => {
                ended?;
                taken
            }
        }
    }

    async fn take(
        &self,
        key: &PartitionKey,
        backend: &Backend,
        epoch: Option<i64>,
    ) -> Result<Option<Claim>, WriteFailure> {
        let mut lease = self.lease().await?;
        let claimed = sqlx::query_as::<_, ClaimRow>(include_str!("claim.sql"))
            .bind(&self.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(backend.pid)
            .bind(backend.start)
            .bind(&self.worker)
            .bind(epoch)
            .fetch_optional(&mut lease.connection);
        let claimed = answered(Statement::Claim, claimed).await;
        Ok(lease.give_back(claimed)?.map(Claim::from))
    }

    /// The connection is out of its place while it is used: a claim that is cancelled or comes too late closes it, so that
    /// nobody meets its answer.
    async fn lease(&self) -> Result<Lease<'_>, WriteFailure> {
        let mut place = self.connection.lock().await;
        let connection = match place.take() {
            Some(connection) => connection,
            None => within(ANSWER, self.connect()).await?,
        };
        Ok(Lease { place, connection })
    }

    async fn connect(&self) -> Result<PgConnection, WriteFailure> {
        let mut fresh = self.database.connect().await?;
        let millis = self.database.claim_lock_timeout.as_millis().to_string();
        sqlx::query("SELECT set_config('lock_timeout', $1::text, false)")
            .bind(millis)
            .execute(&mut fresh)
            .await?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut fresh).await?;
        *self.claimant.lock().await = Some(pid);
        rule_identities::hold(&mut fresh, &self.identities).await?;
        Ok(fresh)
    }
}

/// The claims' connection, in use.
struct Lease<'c> {
    place: MutexGuard<'c, Option<PgConnection>>,
    connection: PgConnection,
}

impl Lease<'_> {
    /// A connection on which something failed is not used again, unless all that happened is that a lock was not had.
    fn give_back<T>(mut self, result: Result<T, WriteFailure>) -> Result<T, WriteFailure> {
        if matches!(result, Ok(_) | Err(WriteFailure::PredecessorAlive)) {
            *self.place = Some(self.connection);
        }
        result
    }
}

/// One statement of a claim, within the deadline.
async fn answered<T>(
    statement: Statement,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, WriteFailure> {
    within(ANSWER, async { answer.await.map_err(|error| WriteFailure::of(statement, &error)) }).await
}

impl From<ClaimRow> for Claim {
    fn from(row: ClaimRow) -> Self {
        let fingerprint = row.last_fingerprint.and_then(|bytes| bytes.try_into().ok());
        let last = row.last_offset.zip(fingerprint).map(|(offset, fingerprint)| LastRecord {
            offset,
            fingerprint,
            timestamp: row.last_timestamp,
        });
        Self { epoch: row.epoch, incarnation: row.incarnation, next_offset: row.next_offset, last }
    }
}
