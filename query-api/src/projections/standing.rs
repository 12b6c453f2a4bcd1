//! Whether PostgreSQL serves at present. An outage is one line in the log when it begins and one when it ends.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::failure::QueryFailure;

/// Shared by requests, which ask before they wait for a connection, and by the watch, which knows.
pub struct Standing(Mutex<State>);

enum State {
    /// No connection was looked at yet.
    Unknown,
    Serving,
    Out {
        reason: String,
        since: Instant,
        refused: u64,
    },
}

impl Default for Standing {
    fn default() -> Self {
        Self(Mutex::new(State::Unknown))
    }
}

impl Standing {
    /// Refuses at once while PostgreSQL is known not to serve: a request that waits for nothing helps nobody.
    ///
    /// # Errors
    /// PostgreSQL is away, with the reason.
    pub fn admit(&self) -> Result<(), QueryFailure> {
        match &mut *self.state() {
            State::Serving => Ok(()),
            State::Unknown => Err(QueryFailure::Away("PostgreSQL has not been looked at yet".to_owned())),
            State::Out { reason, refused, .. } => {
                *refused += 1;
                Err(QueryFailure::Away(reason.clone()))
            }
        }
    }

    /// Why it does not serve, if so.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &*self.state() {
            State::Serving => None,
            State::Unknown => Some("PostgreSQL has not been looked at yet".to_owned()),
            State::Out { reason, .. } => Some(reason.clone()),
        }
    }

    pub(super) fn serves(&self) {
        let mut state = self.state();
        match &*state {
            State::Serving => return,
            State::Unknown => tracing::info!("connected to PostgreSQL"),
            State::Out { since, refused, .. } => {
                let seconds = since.elapsed().as_secs();
                tracing::warn!(
                    refused,
                    seconds,
                    "PostgreSQL serves again after {seconds} s; {refused} requests were refused meanwhile"
                );
            }
        }
        *state = State::Serving;
    }

    pub(super) fn is_out(&self, reason: String) {
        let mut state = self.state();
        if let State::Out { reason: known, .. } = &mut *state {
            // Another reason on the way back (refused, starting up) is the same outage.
            *known = reason;
            return;
        }
        tracing::warn!("PostgreSQL does not serve, requests get 503 until it does: {reason}");
        *state = State::Out { reason, since: Instant::now(), refused: 0 };
    }

    /// For good: the process ends, and says why itself.
    pub(super) fn closes(&self, reason: String) {
        *self.state() = State::Out { reason, since: Instant::now(), refused: 0 };
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
