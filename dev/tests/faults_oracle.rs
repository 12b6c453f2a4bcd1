//! The oracle of faults complains of what is not as it must be, and of nothing else.

use anyhow::{Result, ensure};
use dev::faults::oracle::{Bounds, Figures, judge};
use dev::faults::{DRAIN, Scene};

#[tokio::test]
async fn the_oracle_of_faults_finds_a_lost_event_an_offset_that_went_back_and_too_much_memory() -> Result<()>
{
    let mut scene = Scene::new("faults_oracle", 5, 1, false).await?;
    let mut worker = scene.start(scene.settings())?;
    scene.produce(300).await?;
    scene.caught_up().await?;
    worker.terminate(DRAIN).await?;
    let figures = scene.finish().await?;
    ensure!(figures.faults.is_empty(), "a good run has faults: {}", figures.faults.join("\n"));
    ensure!(figures.records == 300 && figures.peak_memory_kilobytes > 0, "{figures:?}");

    let spoilt = "DELETE FROM analytics_events WHERE (occurred_at, id) IN
                      (SELECT occurred_at, id FROM analytics_events LIMIT 1);
                  UPDATE ingest_offsets SET next_offset = next_offset - 1, events = events - 1
                  WHERE (topic, partition) IN (SELECT topic, partition FROM ingest_offsets WHERE events > 0 LIMIT 1)";
    sqlx::raw_sql(spoilt).execute(&scene.bench.database.pool).await?;
    let bounds = Bounds { memory_kilobytes: 1, ..Bounds::default() };
    let before = Figures { peak_memory_kilobytes: figures.peak_memory_kilobytes, ..Figures::default() };
    let figures = judge(&scene.bench, &scene.expected(), &bounds, before).await?;
    let told = figures.faults.join("\n");
    ensure!((figures.lost, figures.doubled) == (1, 0), "{figures:?}");
    ensure!(figures.wrong_counts > 0, "{figures:?}");
    for part in ["are not stored", "went back", "read up to", "MiB of memory"] {
        ensure!(told.contains(part), "no `{part}` in: {told}");
    }
    scene.remove().await
}
