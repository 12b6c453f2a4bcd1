//! Two workers that both believe that the same partitions are theirs.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::partitions;
use crate::faults::{DRAIN, Scene, Worker};

/// So long they fight over each round's records.
const FIGHT: Duration = Duration::from_secs(8);

/// Neither asks Kafka's group: each takes all partitions for its own.
pub(super) async fn owned_twice(scene: &mut Scene) -> Result<()> {
    let all = partitions(scene).await?;
    let all: Vec<_> = all.iter().map(|(topic, partition)| format!("{topic}/{partition}")).collect();
    let mut settings = scene.settings();
    settings.insert("FAULT_ASSIGNMENT".to_owned(), all.join(","));
    for _ in 0..scene.rounds {
        let mut workers =
            [scene.start_with_faults(settings.clone(), "")?, scene.start_with_faults(settings.clone(), "")?];
        let traffic = scene.produce_in_background(300.0);
        sleep(FIGHT).await;
        traffic.stop().await?;
        scene.healed();
        scene.caught_up().await?;
        let mut fenced = 0.0;
        for worker in &mut workers {
            fenced += worker.metric("analytics_ingest_fenced_partitions_total").await?;
            ensure!(
                stored(scene, worker).await? > 0,
                "one of the two has stored nothing: there was no fight"
            );
        }
        ensure!(fenced > 0.0, "nobody was ever fenced off: there was no fight");
        for worker in &mut workers {
            worker.terminate(DRAIN).await?;
        }
    }
    Ok(())
}

async fn stored(scene: &Scene, worker: &mut Worker) -> Result<i64> {
    let events = sqlx::query_scalar(
        "SELECT coalesce(sum(events), 0)::bigint FROM ingest_ledger WHERE split_part(worker, '/', 2) = $1",
    );
    Ok(events.bind(worker.process().pid().to_string()).fetch_one(&scene.bench.database.pool).await?)
}
