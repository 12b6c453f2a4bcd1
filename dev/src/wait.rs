//! Waiting for what must come about, never for a fixed time.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until there is something, at most this long. A failed look is no end, since servers are stopped on purpose;
/// the last failure is told if the time is over.
///
/// # Errors
/// Nothing came about in time.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut last = None;
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => last = None,
            Ok(Err(failure)) => last = Some(failure),
            Err(_) => {}
        }
        if Instant::now() + PAUSE >= deadline {
            let within = within.as_secs_f32();
            return Err(match last {
                Some(failure) => failure.context(format!("not within {within:.0} s: {what}")),
                None => anyhow!("not within {within:.0} s: {what}"),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`eventually`], for a condition.
///
/// # Errors
/// It did not come true in time.
pub async fn until(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    eventually(what, within, async || Ok(look().await?.then_some(()))).await
}
