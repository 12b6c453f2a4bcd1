//! A worker that is asked to end commits what is in flight and ends well, in time.

use std::time::Duration;

use anyhow::{Result, ensure};
use dev::bench::{Bench, SETTLES};
use dev::wait::until;

use super::{a_load, in_small_batches};

/// `ANALYTICS_DRAIN_TIMEOUT` and a little for the system.
const DRAIN: Duration = Duration::from_secs(22);

#[tokio::test]
async fn a_worker_stopped_mid_load_ends_well_and_its_successor_finishes() -> Result<()> {
    let bench = Bench::new("drain").await?;
    let sent = a_load(31, 20_000);
    bench.produce(&sent, None).await?;
    let mut worker = bench.start_worker(in_small_batches(bench.worker_settings(&bench.group)))?;
    until("the worker makes progress", SETTLES, async || Ok(bench.accounted(&bench.group).await? > 0))
        .await?;
    let status = worker.terminate(DRAIN).await?;
    ensure!(status.code() == Some(0), "the worker ended with {status}; {}", worker.last_lines());
    let stored = bench.accounted(&bench.group).await?;
    ensure!(stored < i64::try_from(sent.len())?, "all was stored before the end: not mid-load");

    let mut successor = bench.worker().await?;
    bench.settled(&bench.group, sent.len()).await?;
    bench.check(&bench.group, &sent).await?;
    successor.terminate(DRAIN).await?;
    bench.remove().await
}
