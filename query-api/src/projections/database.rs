//! The connections to PostgreSQL: bounded in number and in time, with a role that can only read, and back by
//! themselves after an outage.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, Postgres};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{DatabaseConfig, Session};
use super::failure::{NOT_MIGRATED, QueryFailure, sentence};
use super::privileges;
use super::snapshot::{Lent, Snapshot};
use super::standing::Standing;
use crate::metrics;

/// How long a request waits for a connection, and a look at PostgreSQL for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks during an outage.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A connection that was idle for longer is tested first.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// How long a connection may take to say that it is there: two of them are tried within [`PATIENCE`].
const ALIVE_WITHIN: Duration = Duration::from_millis(900);
/// Even a new one.
const ENDS_ALL: &str = "PostgreSQL ends each connection at once";

/// The role in effect may write to tables of ours, so this process refuses to serve.
#[derive(Debug, thiserror::Error)]
#[error(
    "the role {role} may write to {} and this process must not be able to: give it a login that is a member of \
     analytics_reader and of nothing else (ANALYTICS_READ_DATABASE_URL), or make its login a member of analytics_reader",
    some_of(tables)
)]
pub struct RoleMayWrite {
    role: String,
    tables: Vec<String>,
}

/// Partitions can be many: the first five.
fn some_of(tables: &[String]) -> String {
    let named = tables.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = tables.len().saturating_sub(5);
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// The pool, and what is known about PostgreSQL.
pub struct Database {
    pool: PgPool,
    session: Session,
    answer_within: Duration,
    standing: Standing,
    suspicion: Notify,
}

impl Database {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(config: &DatabaseConfig) -> Self {
        let session = Session::new(config);
        let prepared = Arc::new(session.clone());
        let pool = PgPoolOptions::new()
            .max_connections(config.pool_size)
            .acquire_timeout(PATIENCE)
            // What it is asked first is test enough, and one answer less to wait for, but for one that may have been
            // forgotten on its way: that would not answer at all.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                let is_fresh = meta.idle_for < FORGOTTEN_AFTER;
                Box::pin(async move { Ok(is_fresh || is_alive(connection).await) })
            })
            .after_connect(move |connection, _| {
                let session = prepared.clone();
                Box::pin(async move { session.prepare(connection).await })
            })
            .connect_lazy_with(session.connect.clone());
        Self {
            pool,
            session,
            // A server that does not even answer is no slow statement: a little more than all waits it can explain.
            answer_within: PATIENCE + config.statement_timeout + Duration::from_secs(1),
            standing: Standing::default(),
            suspicion: Notify::new(),
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
        if matches!(bounded, Err(_) | Ok(Err(QueryFailure::Away(_) | QueryFailure::Busy))) {
            self.suspicion.notify_one();
        }
        bounded.unwrap_or(Err(QueryFailure::TooSlow))
    }

    /// A read-only transaction.
    ///
    /// # Errors
    /// PostgreSQL is away or busy.
    pub async fn snapshot(&self) -> Result<Snapshot, QueryFailure> {
        self.standing.admit()?;
        for _ in 0..self.attempts() {
            match timeout(PATIENCE, Snapshot::begin(Lent::new(self.connection().await?))).await {
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
            let mut lent = Lent::new(self.connection().await?);
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

    /// Connections that were idle may have died with their server, all of them: the first thing that they are asked
    /// tells, and they are closed.
    fn attempts(&self) -> u32 {
        self.pool.options().get_max_connections() + 1
    }

    async fn connection(&self) -> Result<PoolConnection<Postgres>, QueryFailure> {
        self.pool.acquire().await.map_err(|fault| match fault {
            sqlx::Error::PoolTimedOut if self.pool.size() < self.pool.options().get_max_connections() => {
                // The pool tries again in silence when it is refused.
                QueryFailure::Away("no connection to PostgreSQL within 2 s".to_owned())
            }
            fault => fault.into(),
        })
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
                Some(RoleMayWrite { role: privileges.role, tables: privileges.may_write }.to_string())
            }
            Ok(_) => None,
            Err(failure) => Some(failure.to_string()),
        }
    }

    /// Looks at PostgreSQL when a request met trouble, and every second until it serves.
    ///
    /// # Errors
    /// The role in effect may write.
    pub async fn watch(&self, mut serving: bool, stop: CancellationToken) -> Result<(), RoleMayWrite> {
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
                () = next => serving = self.look().await?,
            }
        }
    }

    /// Makes a connection of its own, not of the pool, which retries in silence and loses the reason.
    ///
    /// # Errors
    /// The role in effect may write.
    pub async fn look(&self) -> Result<bool, RoleMayWrite> {
        let seen = timeout(PATIENCE, self.session.privileges()).await;
        let privileges = match seen {
            Ok(Ok(privileges)) => privileges,
            // No connection left for us, but the pool has its own.
            Ok(Err(sqlx::Error::Database(fault)))
                if fault.code().is_some_and(|c| c == "53300") && self.pool.size() > 0 =>
            {
                return Ok(true);
            }
            Ok(Err(fault)) => {
                self.standing.is_out(format!("PostgreSQL at {}: {}", self.session.place(), sentence(&fault)));
                return Ok(false);
            }
            Err(_) => {
                self.standing.is_out(format!("PostgreSQL at {}: no answer within 2 s", self.session.place()));
                return Ok(false);
            }
        };
        if privileges.not_migrated {
            self.standing.is_out(NOT_MIGRATED.to_owned());
            return Ok(false);
        }
        if !privileges.may_write.is_empty() {
            let refusal = RoleMayWrite { role: privileges.role, tables: privileges.may_write };
            self.standing.closes(refusal.to_string());
            return Err(refusal);
        }
        if !privileges.may_not_read.is_empty() {
            let (role, tables) = (privileges.role, privileges.may_not_read.join(", "));
            self.standing.is_out(format!(
                "the role {role} may not read {tables}: make it a member of analytics_reader"
            ));
            return Ok(false);
        }
        self.standing.serves();
        Ok(true)
    }

    /// Connections in use and idle, for the metrics.
    pub fn observe(&self) {
        let idle = self.pool.num_idle();
        let open = usize::try_from(self.pool.size()).unwrap_or(usize::MAX);
        metrics::pool(open.saturating_sub(idle), idle, self.pool.options().get_max_connections());
    }
}

async fn is_alive(connection: &mut PgConnection) -> bool {
    matches!(timeout(ALIVE_WITHIN, connection.ping()).await, Ok(Ok(())))
}
