//! Whether the process can do its work, and if not, why. Kept apart from whether it is alive.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Everything that keeps the process from being ready; ready is when there is nothing. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    outages: BTreeMap<String, Outage>,
    stopping: bool,
}

#[derive(Debug)]
struct Outage {
    reason: String,
    since: Instant,
    /// How often it was reported, the first time included; 0 while it is quiet.
    reports: u64,
}

impl Health {
    /// Not ready, and no line for it: it has only just begun, or another outage is the cause.
    pub fn hold_quietly(&self, about: impl Into<String>, reason: impl Into<String>) {
        let outage = Outage { reason: reason.into(), since: Instant::now(), reports: 0 };
        self.lock().outages.insert(about.into(), outage);
    }

    /// Not ready, because. The first report of an outage is one line, those after it only count; `about` is for example
    /// `kafka`, `database lane 0` or `partition iam.user.registered/2`.
    pub fn hold(&self, about: impl Into<String>, reason: impl Into<String>) {
        let (about, reason) = (about.into(), reason.into());
        let mut state = self.lock();
        let known = state.outages.get(&about).filter(|outage| outage.reports > 0);
        let (since, reports) =
            known.map_or_else(|| (Instant::now(), 0), |outage| (outage.since, outage.reports));
        if reports == 0 {
            tracing::warn!(about, reason, "not ready");
        }
        state.outages.insert(about, Outage { reason, since, reports: reports + 1 });
    }

    /// Whether this is a reason for not being ready.
    #[must_use]
    pub fn is_held(&self, about: &str) -> bool {
        self.lock().outages.contains_key(about)
    }

    /// The outage is over: one line that says how long it took.
    pub fn clear(&self, about: &str) {
        if let Some(outage) = self.lock().outages.remove(about).filter(|outage| outage.reports > 0) {
            let seconds = outage.since.elapsed().as_secs_f64();
            tracing::info!(
                about,
                seconds,
                reports = outage.reports,
                last_reason = outage.reason,
                "works again"
            );
        }
    }

    /// From now on the process only finishes what it has begun.
    pub fn stopping(&self) {
        self.lock().stopping = true;
    }

    /// What is not ready and why; empty when ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let stopping = state.stopping.then(|| ("process".to_owned(), "is stopping".to_owned()));
        let outages = state.outages.iter().map(|(about, outage)| (about.clone(), outage.reason.clone()));
        stopping.into_iter().chain(outages).collect()
    }

    /// A thread that panicked with the lock leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_outage_is_over() {
        let health = Health::default();
        health.hold("kafka", "no broker answers");
        health.clone().hold("database lane 0", "connection refused");
        health.hold("kafka", "all brokers down");
        let kafka = ("kafka".to_owned(), "all brokers down".to_owned());
        assert_eq!(health.reasons().last(), Some(&kafka));
        health.clear("database lane 0");
        health.clear("never held");
        assert_eq!(health.reasons(), [kafka]);
        health.clear("kafka");
        assert_eq!(health.reasons(), []);
        health.stopping();
        assert_eq!(health.reasons().len(), 1);
    }
}
