//! What is looked at again and again while faults happen.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::http::Server;

/// Between two looks at readiness.
const LOOK: Duration = Duration::from_millis(100);

/// One look at `/health/ready`.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Since sampling began.
    pub at: Duration,
    /// `None` is ready; else the reason, or that it does not answer.
    pub not_ready: Option<String>,
}

/// What a process has said of its readiness since sampling began.
pub struct Readiness {
    samples: Arc<Mutex<Vec<Sample>>>,
    _sampling: AbortOnDropHandle<()>,
}

impl Readiness {
    pub(super) fn of(server: Server) -> Self {
        let samples = Arc::new(Mutex::new(Vec::<Sample>::new()));
        let (noted, started) = (Arc::clone(&samples), Instant::now());
        let look = move || {
            let (server, noted) = (server.clone(), Arc::clone(&noted));
            async move {
                let sample = Sample { at: started.elapsed(), not_ready: reason(&server).await };
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        };
        Self { samples, _sampling: every(LOOK, look) }
    }

    /// All samples so far.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When a reason with this text was first seen.
    #[must_use]
    pub fn first(&self, text: &str) -> Option<Duration> {
        let samples = self.samples();
        let has = |sample: &&Sample| sample.not_ready.as_ref().is_some_and(|reason| reason.contains(text));
        samples.iter().find(has).map(|sample| sample.at)
    }

    /// A reason with this text was seen.
    ///
    /// # Errors
    /// It was not; all that were are told.
    pub fn was_not_ready_because(&self, text: &str) -> Result<()> {
        ensure!(
            self.first(text).is_some(),
            "readiness never said `{text}`, only: {}",
            self.reasons().join(" | ")
        );
        Ok(())
    }

    /// No reason held this text.
    ///
    /// # Errors
    /// One did.
    pub fn never_said(&self, text: &str) -> Result<()> {
        if let Some(at) = self.first(text) {
            anyhow::bail!("readiness said `{text}` after {:.1} s", at.as_secs_f32());
        }
        Ok(())
    }

    /// Each reason once, in order.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for reason in self.samples().into_iter().filter_map(|sample| sample.not_ready) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }
}

async fn reason(server: &Server) -> Option<String> {
    match server.get("/health/ready").await {
        Ok(answer) if answer.status.is_success() => None,
        Ok(answer) => {
            let reason = answer.json.get("reason").and_then(|reason| reason.as_str());
            Some(reason.unwrap_or(&answer.text).to_owned())
        }
        Err(error) => Some(format!("no answer: {error:#}")),
    }
}

/// Does this again and again until the handle is dropped.
pub fn every<F>(pause: Duration, mut look: impl FnMut() -> F + Send + 'static) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send,
{
    let looking = async move {
        loop {
            look().await;
            tokio::time::sleep(pause).await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends when its handle is dropped")]
    let task = tokio::spawn(looking);
    AbortOnDropHandle::new(task)
}
