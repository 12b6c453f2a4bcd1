//! SIGTERM and SIGINT ask the process to stop: it accepts no more, answers what is open and ends.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first signal; a second one ends the process at once, as people expect of Ctrl-C.
///
/// # Errors
/// The signals cannot be listened for.
#[expect(
    clippy::disallowed_methods,
    reason = "waits for the whole life of the process: nothing to wait for at its end"
)]
pub fn on_signal(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if !first {
                tracing::warn!("{name} again: ending without waiting for open requests");
                std::process::exit(1);
            }
            tracing::info!("{name}: no more connections, answering what is open");
            stop.cancel();
        }
    });
    Ok(())
}
