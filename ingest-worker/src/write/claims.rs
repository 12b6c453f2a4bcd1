use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{PgConnection, Postgres};
use tokio::sync::{Mutex, MutexGuard};

use super::connect::DatabaseSettings;
use super::deadline::{ANSWER, within};
use super::failure::{Statement, WriteFailure};
use super::rule_identities;
use crate::batch::{Claim, LastRecord};
use crate::consume::PartitionKey;
use crate::metrics::{self, Discontinuity, RecordOutcome};
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

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The partition is ours.
    Ours(Claim),
    /// It has no row yet, or no more: PostgreSQL may have been restored from a copy older than the partition.
    Unknown {
        /// Other partitions of the topic have one, so this one was added later.
        topic_is_known: bool,
    },
    /// Another worker has claimed it since.
    Taken,
}

#[derive(sqlx::FromRow)]
struct ClaimRow {
    epoch: i64,
    incarnation: i32,
    start_offset: i64,
    next_offset: i64,
    last_offset: Option<i64>,
    last_fingerprint: Option<Vec<u8>>,
    last_timestamp: Option<DateTime<Utc>>,
}

type ClaimStatement<'s> = QueryAs<'s, Postgres, ClaimRow, PgArguments>;

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

    /// Claims a partition. `held`: none after an assignment by Kafka, whoever holds it; else the epoch under which this
    /// worker held it, and only if nobody has claimed it since. Waits for a transaction that is still open, so its answer
    /// is also how a commit of unknown outcome went.
    ///
    /// # Errors
    /// `PredecessorAlive` if its row stays locked; else as [`WriteFailure`] says.
    pub async fn claim(
        &self,
        key: &PartitionKey,
        backend: &Backend,
        held: Option<i64>,
    ) -> Result<Claimed, WriteFailure> {
        let taken = match self.take(key, backend, held).await {
            Err(WriteFailure::PredecessorAlive) => self.take_from_frozen(key, backend, held).await?,
            taken => taken?,
        };
        match taken {
            Some(claim) => Ok(Claimed::Ours(claim)),
            None => self.why_not(key, held).await,
        }
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

    /// The topic was recreated or truncated, so that nothing of it continues what is stored: reading begins anew at `start`,
    /// the ledger says where the old incarnation ended. None if another worker has claimed since.
    ///
    /// # Errors
    /// As for [`Claims::claim`], but whoever holds the row is waited for.
    pub async fn begin_incarnation(
        &self,
        key: &PartitionKey,
        claim: &Claim,
        start: i64,
    ) -> Result<Option<Claim>, WriteFailure> {
        let statement = sqlx::query_as(include_str!("claim_incarnation.sql"))
            .bind(&self.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(claim.epoch)
            .bind(start);
        let begun = self.ask(statement).await?;
        if let Some(begun) = &begun {
            metrics::discontinuity(Discontinuity::NewIncarnation);
            tracing::warn!(
                kafka.topic = &*key.topic,
                kafka.partition = key.partition,
                incarnation = begun.incarnation,
                start,
                "the topic was recreated or truncated: reading begins anew"
            );
        }
        Ok(begun)
    }

    /// Retention has passed the stored offset: what is gone becomes a gap, reading goes on at `low`. The last record stays
    /// known; should the topic be recreated, it still tells. None if another worker has claimed since, or if something was
    /// written under `claim`.
    ///
    /// # Errors
    /// As for [`Claims::begin_incarnation`].
    pub async fn pass_retention(
        &self,
        key: &PartitionKey,
        claim: &Claim,
        low: i64,
    ) -> Result<Option<Claim>, WriteFailure> {
        if low <= claim.next_offset {
            return Ok(Some(claim.clone())); // Nothing is gone.
        }
        let statement = sqlx::query_as(include_str!("claim_after_retention.sql"))
            .bind(&self.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(claim.epoch)
            .bind(claim.next_offset)
            .bind(low);
        let passed = self.ask(statement).await?;
        if passed.is_some() {
            let gone = low - claim.next_offset;
            metrics::discontinuity(Discontinuity::Retention);
            metrics::records(RecordOutcome::Gap, gone.unsigned_abs());
            tracing::warn!(
                kafka.topic = &*key.topic,
                kafka.partition = key.partition,
                from = claim.next_offset,
                to = low,
                gone,
                "retention has passed the stored offset: what is gone is a gap"
            );
        }
        Ok(passed)
    }

    /// The predecessor has held the row for a whole lock time-out. While the claim waits for a second one, the session
    /// that the row names is ended, if that is what the claim waits for and if it is not the very lane that claims: that one
    /// is not frozen, it writes. Anybody else is only waited for.
    async fn take_from_frozen(
        &self,
        key: &PartitionKey,
        backend: &Backend,
        held: Option<i64>,
    ) -> Result<Option<Claim>, WriteFailure> {
        let end_predecessor = async {
            tokio::time::sleep(self.database.claim_lock_timeout / 4).await;
            let Some(claimant) = *self.claimant.lock().await else { return Ok(()) };
            let mut connection = self.database.session().await?;
            let ended: Option<bool> = sqlx::query_scalar(include_str!("claims_end_predecessor.sql"))
                .bind(&self.group)
                .bind(&*key.topic)
                .bind(key.partition)
                .bind(claimant)
                .bind(backend.pid)
                .bind(backend.start)
                .fetch_optional(&mut connection)
                .await?;
            if ended == Some(true) {
                tracing::warn!(
                    kafka.topic = &*key.topic,
                    kafka.partition = key.partition,
                    "ended a frozen predecessor"
                );
            }
            Ok(())
        };
        let (taken, ended) = tokio::join!(self.take(key, backend, held), within(ANSWER, end_predecessor));
        match taken {
            // Why it could not be ended says more than that it is still there.
            Err(WriteFailure::PredecessorAlive) => ended.and(taken),
            taken => taken,
        }
    }

    async fn take(
        &self,
        key: &PartitionKey,
        backend: &Backend,
        held: Option<i64>,
    ) -> Result<Option<Claim>, WriteFailure> {
        let statement = sqlx::query_as(include_str!("claim.sql"))
            .bind(&self.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(backend.pid)
            .bind(backend.start)
            .bind(&self.worker)
            .bind(held);
        self.ask(statement).await
    }

    /// No row came back.
    async fn why_not(&self, key: &PartitionKey, held: Option<i64>) -> Result<Claimed, WriteFailure> {
        let mut lease = self.lease().await?;
        let known = sqlx::query_as(include_str!("claims_known.sql"))
            .bind(&self.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .fetch_one(&mut lease.connection);
        let known = answered(Statement::Other, known).await;
        let (partition_is_known, topic_is_known): (bool, bool) = lease.give_back(known)?;
        // Whoever holds nothing and finds a row now was not the first to begin: it claims again.
        Ok(if partition_is_known && held.is_some() {
            Claimed::Taken
        } else {
            Claimed::Unknown { topic_is_known }
        })
    }

    /// One statement that claims: auto-committed, so that nobody can hold it open.
    async fn ask(&self, statement: ClaimStatement<'_>) -> Result<Option<Claim>, WriteFailure> {
        let mut lease = self.lease().await?;
        let claimed = answered(Statement::Claim, statement.fetch_optional(&mut lease.connection)).await;
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
        let mut fresh = self.database.session().await?;
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
        let ClaimRow { epoch, incarnation, start_offset, next_offset, .. } = row;
        Self { epoch, incarnation, start_offset, next_offset, last }
    }
}
