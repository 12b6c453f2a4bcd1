//! The connections to PostgreSQL: bounded in number and in time, with a role that can only read, and back by
//! themselves after an outage.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::Status;
use deadpool::managed::PoolError;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{DatabaseConfig, Session};
use super::failure::{QueryFailure, sentence};
use super::pool::{Lent, Pool, is_alive, is_passing, pool, tidy};
use super::privileges::{self, MIGRATE, Privileges};
use super::snapshot::Snapshot;
use super::standing::Standing;
use crate::metrics;
use crate::postgres_session::{BRIEFLY, THOROUGHLY, Unsuitable};

/// How long a request waits for a connection, and a look at PostgreSQL for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before a connection that PostgreSQL would not make is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// How often connections that nobody needs are closed.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Between two looks during an outage.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// While it serves, one proof that sessions are ours alone is enough for so long.
const PROVEN_FOR: Duration = Duration::from_secs(5);

/// Even a new one.
const ENDS_ALL: &str = "PostgreSQL ends each connection at once";

/// The role in effect may write to what is ours, so this process refuses to serve.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.found(), Self::REMEDY)]
pub struct RoleMayWrite {
    role: String,
    tables: Vec<String>,
}

impl RoleMayWrite {
    /// What to do.
    pub const REMEDY: &str = "give it a login that is a member of analytics_reader and of nothing else \
         (ANALYTICS_READ_DATABASE_URL), or make its login a member of analytics_reader";

    /// By what it may write.
    #[must_use]
    pub fn new(privileges: Privileges) -> Self {
        Self { role: privileges.role, tables: privileges.may_write }
    }

    /// Who may write to what.
    #[must_use]
    pub fn found(&self) -> String {
        let (role, tables) = (&self.role, some_of(&self.tables));
        format!("the role {role} may write to {tables} and this process must not be able to")
    }
}

/// Partitions can be many: the first five.
fn some_of(tables: &[String]) -> String {
    let named = tables.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = tables.len().saturating_sub(5);
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// The pool, and what is known about PostgreSQL.
pub struct Database {
    pool: Pool,
    answer_within: Duration,
    standing: Standing,
    suspicion: Notify,
    long: Semaphore,
    proven_at: Mutex<Option<Instant>>,
}

impl Database {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(config: &DatabaseConfig) -> Self {
        Self {
            pool: pool(Session::new(config), config.pool_size),
            // A server that does not even answer is no slow statement: a little more than all waits it can explain.
            answer_within: PATIENCE + config.statement_timeout + Duration::from_secs(1),
            standing: Standing::default(),
            suspicion: Notify::new(),
            long: Semaphore::new((config.pool_size / 2).max(1)),
            proven_at: Mutex::default(),
        }
    }

    /// One answer: bounded in time, whatever PostgreSQL or the network does. A failure that may be an outage has it
    /// looked at.
    ///
    /// # Errors
    /// Those of `work`, or [`QueryFailure::TooSlow`] at the deadline.
    pub async fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, QueryFailure>>,
    ) -> Result<T, QueryFailure> {
        let bounded = timeout(self.answer_within, work).await;
        use QueryFailure::{Away, Busy, NotMigrated};
        if matches!(bounded, Err(_) | Ok(Err(Away(_) | Busy | NotMigrated(_)))) {
            self.suspicion.notify_one();
        }
        bounded.unwrap_or(Err(QueryFailure::TooSlow)).map_err(|failure| match failure {
            NotMigrated(sentence) => NotMigrated(self.looked_for(&sentence)),
            other => other,
        })
    }

    /// Where something was looked for that is not there.
    fn looked_for(&self, sentence: &str) -> String {
        let session = self.pool.manager();
        let (database, place) = (session.database(), session.place());
        format!(
            "{sentence} in schema public of database {database} at {place}: it is not migrated, {MIGRATE}"
        )
    }

    /// A read-only transaction.
    ///
    /// # Errors
    /// PostgreSQL is away or busy.
    pub async fn snapshot(&self) -> Result<Snapshot, QueryFailure> {
        self.standing.admit()?;
        for _ in 0..self.attempts() {
            match timeout(PATIENCE, Snapshot::begin(self.lend().await?)).await {
                Ok(Err(QueryFailure::Away(_))) => {}
                Ok(begun) => return begun,
                Err(_) => return Err(QueryFailure::Away("no answer from PostgreSQL within 2 s".to_owned())),
            }
        }
        Err(QueryFailure::Away(ENDS_ALL.to_owned()))
    }

    /// The answer of one statement. It is of one moment by itself, and two waits shorter than a transaction.
    ///
    /// # Errors
    /// PostgreSQL is away or busy, or that of the statement.
    pub async fn statement<T>(
        &self,
        ask: impl Fn(&mut PgConnection) -> BoxFuture<'_, Result<T, QueryFailure>>,
    ) -> Result<T, QueryFailure> {
        self.standing.admit()?;
        for _ in 0..self.attempts() {
            let mut lent = self.lend().await?;
            let outcome = ask(lent.connection()?).await;
            // Whatever PostgreSQL itself says is the answer; only a connection that is gone is no answer.
            let is_lost =
                matches!(outcome, Err(QueryFailure::Away(_))) && !is_alive(lent.connection()?).await;
            if !is_lost {
                lent.give_back();
                return outcome;
            }
        }
        Err(QueryFailure::Away(ENDS_ALL.to_owned()))
    }

    /// As [`Self::statement`] within the time of an answer, for what is part of a long one: at most half of the connections
    /// do that, so that the other half is there for others.
    ///
    /// # Errors
    /// As those of `statement`; busy if none is free in time.
    pub async fn long_statement<T>(
        &self,
        ask: impl Fn(&mut PgConnection) -> BoxFuture<'_, Result<T, QueryFailure>>,
    ) -> Result<T, QueryFailure> {
        let _turn = match timeout(self.answer_within, self.long.acquire()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(QueryFailure::Busy),
        };
        self.answer(self.statement(ask)).await
    }

    /// Connections that were idle may have died with their server, all of them: the first thing that they are asked
    /// tells, and they are closed.
    fn attempts(&self) -> usize {
        self.pool.status().max_size + 1
    }

    async fn lend(&self) -> Result<Lent, QueryFailure> {
        let connection = async {
            loop {
                match self.pool.get().await {
                    // By then PostgreSQL may have room for one more, or may be there, or one of ours may be back.
                    Err(PoolError::Backend(fault)) if is_passing(&fault) => sleep(TRY_AGAIN).await,
                    outcome => return outcome,
                }
            }
        };
        match timeout(PATIENCE, connection).await {
            Ok(Ok(connection)) => Ok(Lent::new(connection)),
            Ok(Err(PoolError::Backend(fault))) => Err(fault.into()),
            Ok(Err(fault)) => Err(QueryFailure::Away(fault.to_string())),
            // One was being made, and did not come.
            Err(_) if self.pool.status().size < self.pool.status().max_size => {
                Err(QueryFailure::Away("no connection to PostgreSQL within 2 s".to_owned()))
            }
            Err(_) => Err(QueryFailure::Busy),
        }
    }

    /// Why it cannot serve, if so: looked up anew, so that an idle process knows too.
    pub async fn trouble(&self) -> Option<String> {
        if let Some(reason) = self.standing.reason() {
            return Some(reason);
        }
        let asked = self.answer(async {
            let mut snapshot = self.snapshot().await?;
            let privileges = privileges::read(snapshot.connection()?).await?;
            snapshot.finish().await?;
            Ok(privileges)
        });
        match asked.await {
            Ok(privileges) if !privileges.may_write.is_empty() => {
                self.suspicion.notify_one();
                Some(RoleMayWrite::new(privileges).to_string())
            }
            Ok(privileges) => {
                let not_readable = privileges.readable().err();
                if not_readable.is_some() {
                    self.suspicion.notify_one();
                }
                not_readable.map(|not| not.to_string())
            }
            Err(failure) => Some(failure.to_string()),
        }
    }

    /// Looks at PostgreSQL when a request met trouble, every second until it serves, and every minute whether somebody
    /// has put a pooler in between.
    ///
    /// # Errors
    /// The role in effect may write.
    pub async fn watch(&self, mut serving: bool, stop: CancellationToken) -> Result<(), RoleMayWrite> {
        let mut tidied = Instant::now();
        loop {
            let next = async {
                if serving {
                    self.suspicion.notified().await;
                } else {
                    sleep(LOOK_AGAIN).await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(TIDY_EVERY.saturating_sub(tidied.elapsed())) => {
                    tidied = Instant::now();
                    tidy(&self.pool);
                    serving = serving && self.still_suits().await;
                }
                () = next => serving = self.look().await?,
            }
        }
    }

    /// Whether no pooler that shares sessions has been put in between. Only a PostgreSQL that will not do is believed: one
    /// connection more that is not had says nothing of the others.
    pub async fn still_suits(&self) -> bool {
        let seen = self.pool.manager().inspect(PATIENCE, BRIEFLY).await;
        let unsuitable = seen.as_ref().err().and_then(Unsuitable::of);
        if let Some(unsuitable) = unsuitable {
            self.is_unsuitable(unsuitable);
        }
        unsuitable.is_none()
    }

    /// By how many connections it is to be proven that sessions are ours alone. A process that serves and is only too busy
    /// has PostgreSQL looked at again and again.
    fn holders(&self) -> usize {
        let mut proven_at = self.proven_at.lock().unwrap_or_else(PoisonError::into_inner);
        let before = proven_at.filter(|_| self.standing.reason().is_none());
        if before.is_some_and(|at| at.elapsed() < PROVEN_FOR) {
            return 0;
        }
        *proven_at = Some(Instant::now());
        if before.is_some() { BRIEFLY } else { THOROUGHLY }
    }

    fn is_unsuitable(&self, unsuitable: &Unsuitable) {
        self.standing.is_out(format!("PostgreSQL at {}: {unsuitable}", self.pool.manager().place()));
        // Some may have come by the same way.
        self.pool.retain(|_, _| false);
    }

    /// Makes a connection of its own, not of the pool, all of whose may be busy.
    ///
    /// # Errors
    /// The role in effect may write.
    pub async fn look(&self) -> Result<bool, RoleMayWrite> {
        let session = self.pool.manager();
        let privileges = match session.inspect(PATIENCE, self.holders()).await {
            Ok((_, privileges)) => privileges,
            // No connection left for us, but the pool has its own.
            Err(sqlx::Error::Database(fault))
                if fault.code().is_some_and(|c| c == "53300") && self.pool.status().size > 0 =>
            {
                return Ok(true);
            }
            Err(fault) => {
                match Unsuitable::of(&fault) {
                    Some(unsuitable) => self.is_unsuitable(unsuitable),
                    None => self.standing.is_out(format!(
                        "PostgreSQL at {}: {}",
                        session.place(),
                        sentence(&fault)
                    )),
                }
                return Ok(false);
            }
        };
        if !privileges.may_write.is_empty() {
            let refusal = RoleMayWrite::new(privileges);
            self.standing.closes(refusal.to_string());
            return Err(refusal);
        }
        if let Err(not_readable) = privileges.readable() {
            self.standing.is_out(not_readable.to_string());
            return Ok(false);
        }
        self.standing.serves();
        Ok(true)
    }

    /// Connections in use and idle, for the metrics.
    pub fn observe(&self) {
        let Status { size, available, max_size, .. } = self.pool.status();
        metrics::pool(size.saturating_sub(available), available, max_size);
    }
}
