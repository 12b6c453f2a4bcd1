//! A worker that faults are done to.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio_util::task::AbortOnDropHandle;

use super::watch::{Readiness, every};
use crate::processes::Process;
use crate::wait::until;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A process of the scene; killed when dropped.
pub struct Worker {
    process: Process,
    _memory: AbortOnDropHandle<()>,
}

impl Worker {
    /// Notes its peak memory in `peak` for as long as it is there.
    pub(super) fn watched(process: Process, peak: Arc<AtomicU64>) -> Self {
        let pid = process.pid();
        let look = move || {
            peak.fetch_max(peak_memory(pid).unwrap_or(0), Ordering::Relaxed);
            std::future::ready(())
        };
        Self { process, _memory: every(LOOK, look) }
    }

    /// The process itself, for anything else.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The end of its log, for an error's sentence.
    #[must_use]
    pub fn last_lines(&self) -> String {
        self.process.last_lines()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It is not within a minute, or ended.
    pub async fn ready(&mut self) -> Result<()> {
        self.process.ready().await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It has not in time.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let status = self.process.ended(within).await;
        status.with_context(|| self.process.last_lines())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It had ended before.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Any signal; `STOP` freezes it, `CONT` lets it go on.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// SIGTERM: must end by itself in time and well.
    ///
    /// # Errors
    /// It does not.
    pub async fn terminate(&mut self, within: Duration) -> Result<()> {
        let status = self.process.terminate(within).await?;
        if status.code() != Some(0) {
            bail!("the worker ended with {status}; {}", self.process.last_lines());
        }
        Ok(())
    }

    /// Waits until its log holds this text.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn says(&self, text: &str, within: Duration) -> Result<()> {
        let log = &self.process.log;
        let said = until("its log tells it", within, async || {
            Ok(tokio::fs::read_to_string(log).await?.contains(text))
        });
        said.await.with_context(|| format!("a line with `{text}`; {}", self.process.last_lines()))
    }

    /// How many lines of its log hold this text.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log_lines(&self, text: &str) -> Result<usize> {
        let log = std::fs::read_to_string(&self.process.log)?;
        Ok(log.lines().filter(|line| line.contains(text)).count())
    }

    /// Samples its readiness from now on.
    #[must_use]
    pub fn watch_readiness(&self) -> Readiness {
        Readiness::of(self.process.server.clone())
    }

    /// The value of a metric, its labels as `/metrics` writes them; the sum if several lines begin so.
    ///
    /// # Errors
    /// It does not answer, or has no such metric.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.process.server.get("/metrics").await?.text;
        let value = |line: &str| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            rest.rsplit_once(' ')?.1.parse::<f64>().ok()
        };
        text.lines()
            .filter_map(value)
            .reduce(|sum, more| sum + more)
            .with_context(|| format!("no metric {name}"))
    }

    /// Seconds of processor that it has used so far.
    ///
    /// # Errors
    /// It does not run.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.process.cpu_seconds()
    }
}

/// Peak resident memory in kilobytes.
fn peak_memory(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
