//! How the process ends: asked by a signal, hastened by a second one, and never later than a watchdog allows.

use std::{process, sync::mpsc, thread, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The first SIGTERM or SIGINT cancels `stop`; the second ends the process at once. That loses nothing: what was not
/// committed is read again. Returns only if signals cannot be listened to.
///
/// # Errors
/// As the system says.
pub async fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut first = true;
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if !first {
            tracing::warn!(
                signal = name,
                "second signal: ending at once; what was not committed is read again"
            );
            process::exit(1);
        }
        first = false;
        tracing::info!(signal = name, "stopping: committing what is in flight; a second signal ends at once");
        stop.cancel();
    }
}

/// While it lives, the process has `limit` to get done with something; see [`watchdog`].
#[derive(Debug)]
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

/// Ends the process with exit status 1 if the returned guard is not dropped within `limit`. A thread of its own: what
/// it watches may block the runtime, as the Kafka client's close does.
#[must_use]
pub fn watchdog(what: &'static str, limit: Duration) -> Watchdog {
    let (alive, guard) = mpsc::channel::<()>();
    let watch = move || {
        if guard.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!(what, seconds = limit.as_secs_f64(), "did not end in time: ending the process");
            process::exit(1);
        }
    };
    if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(watch) {
        tracing::warn!(what, %error, "no thread for the watchdog");
    }
    Watchdog { _alive: alive }
}
