//! Every record ends as what it must become, after any crash.

use std::time::Duration;

use anyhow::{Result, ensure};
use dev::bench::{Bench, SETTLES};
use dev::wait::until;

use super::{a_load, in_small_batches};

#[tokio::test]
async fn a_worker_killed_five_times_loses_nothing() -> Result<()> {
    let bench = Bench::new("killed").await?;
    let sent = a_load(11, 20_000);
    let kills = async {
        for round in 1..=5 {
            let before = bench.accounted(&bench.group).await?;
            let mut worker = bench.start_worker(in_small_batches(bench.worker_settings(&bench.group)))?;
            let mut stored = before;
            until("the worker makes progress", SETTLES, async || {
                stored = bench.accounted(&bench.group).await?;
                Ok(stored > before)
            })
            .await?;
            worker.kill().await?;
            ensure!(stored < i64::try_from(sent.len())?, "all was stored before kill {round}: not mid-load");
        }
        Ok(())
    };
    // While it is being killed, more comes in.
    tokio::try_join!(bench.produce(&sent, Some(900.0)), kills)?;
    let mut worker = bench.worker().await?;
    bench.settled(&bench.group, sent.len()).await?;
    bench.check(&bench.group, &sent).await?;
    worker.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

#[tokio::test]
async fn a_postgresql_restarted_mid_load_loses_nothing() -> Result<()> {
    // Nobody else's server: all places are taken.
    let bench = Bench::alone("restarted").await?;
    let sent = a_load(12, 12_000);
    let mut worker = bench.start_worker(in_small_batches(bench.worker_settings(&bench.group)))?;
    let restarts = async {
        for how in ["immediate", "fast"] {
            let before = bench.accounted(&bench.group).await?;
            until("the worker makes progress", SETTLES, async || {
                Ok(bench.accounted(&bench.group).await? > before)
            })
            .await?;
            let so_far = bench.accounted(&bench.group).await?;
            ensure!(
                so_far < i64::try_from(sent.len())?,
                "everything was stored before PostgreSQL was restarted"
            );
            bench.stack.run(&["restart-postgres", how]).await?;
        }
        Ok(())
    };
    tokio::try_join!(bench.produce(&sent, Some(1_500.0)), restarts)?;
    bench.settled(&bench.group, sent.len()).await?;
    bench.check(&bench.group, &sent).await?;
    ensure!(worker.is_running()?, "the worker ended; {}", worker.last_lines());
    worker.ready().await?;
    let status = worker.terminate(Duration::from_secs(30)).await?;
    ensure!(status.success(), "the worker ended with {status}");
    bench.remove().await
}
