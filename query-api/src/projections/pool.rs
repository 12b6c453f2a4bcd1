//! The connections that are lent, each for one answer.
//!
//! Not sqlx's own pool: that asks PostgreSQL for a sign of life whenever a connection comes back, which is as long a way
//! as an answer.

use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Manager, Metrics, QueueMode, RecycleError, RecycleResult};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::connection::Session;
use super::failure::QueryFailure;

/// A connection that was not used for longer is tested first.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// One that was not used for longer is closed: fewer are needed.
const IDLE_AFTER: Duration = Duration::from_secs(600);
/// An older one is replaced, since its server process keeps what it has ever cached.
const OLD_AFTER: Duration = Duration::from_secs(1800);
/// How long a connection may take to say that it is there: two of them are tried within the time that a request waits.
const ALIVE_WITHIN: Duration = Duration::from_millis(900);

/// Bounded in number; none is made before it is needed.
pub type Pool = managed::Pool<Session>;

/// So many connections at most. The one used last is lent first.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "only time-outs of the pool's own could be refused, and there are none"
)]
pub fn pool(session: Session, size: usize) -> Pool {
    Pool::builder(session).max_size(size).queue_mode(QueueMode::Lifo).build().expect("no time-outs")
}

impl Manager for Session {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> sqlx::Result<PgConnection> {
        self.open().await
    }

    /// What it is asked first is test enough, and one answer less to wait for, but for one that may have been forgotten on
    /// its way: that would not answer at all.
    async fn recycle(&self, connection: &mut PgConnection, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if metrics.age() > OLD_AFTER {
            return Err(RecycleError::message("it is old"));
        }
        let idle = metrics.last_used();
        if idle < FORGOTTEN_AFTER {
            return Ok(());
        }
        // Found out one after the other, they would take longer than a request waits.
        if !self.forgotten.includes(idle) {
            if is_alive(connection).await {
                return Ok(());
            }
            self.forgotten.note();
        }
        Err(RecycleError::message("it does not answer"))
    }
}

/// When a connection was last found forgotten: all that were idle by then have gone the same way.
#[derive(Default)]
pub struct Forgotten(Mutex<Option<Instant>>);

impl Forgotten {
    /// One was found now.
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that has been idle for so long had been long enough by then.
    fn includes(&self, idle: Duration) -> bool {
        let found = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.is_some_and(|found| idle >= found.elapsed() + FORGOTTEN_AFTER)
    }
}

/// Closes connections that nobody needs.
pub fn tidy(pool: &Pool) {
    pool.retain(|_, metrics| metrics.last_used() < IDLE_AFTER);
}

/// Whether a connection could not be made for a reason that may be gone in a moment: nobody listens, or PostgreSQL is full or
/// starting.
#[must_use]
pub fn is_passing(fault: &sqlx::Error) -> bool {
    match fault {
        sqlx::Error::Io(fault) => fault.kind() == ErrorKind::ConnectionRefused,
        sqlx::Error::Database(fault) => fault.is_transient_in_connect_phase(),
        _ => false,
    }
}

/// Whether the server still answers on this connection.
pub async fn is_alive(connection: &mut PgConnection) -> bool {
    matches!(timeout(ALIVE_WITHIN, connection.ping()).await, Ok(Ok(())))
}

/// A connection for one answer. Dropped without [`Lent::give_back`] (a failure, a deadline, a client that went away) it is
/// closed: returned to the pool, one that hangs would be lost to others.
pub struct Lent(Option<managed::Object<Session>>);

impl Lent {
    /// From the pool.
    #[must_use]
    pub fn new(connection: managed::Object<Session>) -> Self {
        Self(Some(connection))
    }

    /// For the projections.
    ///
    /// # Errors
    /// Never: it is there until it is given back.
    pub fn connection(&mut self) -> Result<&mut PgConnection, QueryFailure> {
        self.0.as_deref_mut().ok_or(QueryFailure::Defect(sqlx::Error::WorkerCrashed))
    }

    /// For the next one.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(managed::Object::take(connection));
        }
    }
}
