//! One screen: what is well, what is wrong, and what to do about it.

mod postgres;
mod kafka;

use crate::config::Config;
use crate::screen::Screen;

/// Whether everything is well, warnings aside.
pub(super) async fn check(config: &Config) -> anyhow::Result<bool> {
    let mut screen = Screen::of("ingest-worker", env!("CARGO_PKG_VERSION"));
    for warning in &config.warnings {
        screen.warn(warning, "see ingest-worker --help");
    }
    postgres::check(&config.database, &mut screen).await?;
    let kafka = config.kafka.clone();
    // The client's calls block.
    let screen = tokio::task::spawn_blocking(move || {
        kafka::check(&kafka, &mut screen);
        screen
    });
    Ok(screen.await?.end())
}
