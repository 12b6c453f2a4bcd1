//! There is more to be read than there was.

use anyhow::{Context as _, Result};

use super::{CHUNK, VICTIM, attentive, begun, of_victim, partitions};
use crate::faults::{DRAIN, Scene, Worker};
use crate::load::LIVE_TOPICS;
use crate::processes::Settings;

/// Partitions that are added at a time.
const MORE: i32 = 2;

/// What is new begins at its end, unless it is known to have come later.
fn latest(scene: &Scene) -> Settings {
    let mut settings = attentive(scene);
    settings.insert("ANALYTICS_KAFKA_AUTO_OFFSET_RESET".to_owned(), "latest".to_owned());
    settings
}

pub(super) async fn partitions_added(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(latest(scene))?;
    begun(scene, partitions(scene)?).await.with_context(|| worker.process().last_lines())?;
    let mut partitions = scene.bench.partitions;
    for round in 1..=scene.rounds {
        scene.produce(CHUNK).await?;
        scene.caught_up().await?;
        add(scene, &mut partitions).await?;
        scene.healed();
        let found = scene.caught_up().await.with_context(|| worker.last_lines());
        found.with_context(|| format!("round {round}, under a worker"))?;
        worker.terminate(DRAIN).await?;
        add(scene, &mut partitions).await?;
        worker = scene.start(latest(scene))?;
        scene.healed();
        let found = scene.caught_up().await.with_context(|| worker.last_lines());
        found.with_context(|| format!("round {round}, while nobody reads"))?;
    }
    worker.ready().await?;
    worker.terminate(DRAIN).await
}

/// More partitions, and at once records for each of them.
async fn add(scene: &Scene, partitions: &mut i32) -> Result<()> {
    let fresh = *partitions..*partitions + MORE;
    *partitions = fresh.end;
    scene.bench.topics.grow(&scene.topic(VICTIM), usize::try_from(*partitions)?).await?;
    for partition in fresh {
        scene.send_to(partition, of_victim(scene, 20)).await?;
    }
    Ok(())
}

pub(super) async fn topic_appears(scene: &mut Scene) -> Result<()> {
    // There is one for each round; all that the load would send to them is left out.
    let rounds = usize::try_from(scene.rounds)?.min(LIVE_TOPICS.len() - 1);
    let later = LIVE_TOPICS.get(..rounds).unwrap_or_default();
    for name in later {
        scene.bench.topics.delete_wholly(&scene.topic(name)).await?;
    }
    let mut settings = latest(scene);
    settings.insert("ANALYTICS_KAFKA_TOPIC".to_owned(), format!("^{}.*", scene.bench.prefix));
    let mut worker = scene.start(settings)?;
    begun(scene, partitions(scene)?).await.with_context(|| worker.process().last_lines())?;
    scene.send(scene.strangers(CHUNK, |record| !later.contains(&record.topic))).await?;
    scene.caught_up().await?;
    for name in later {
        appears(scene, &worker, name).await.with_context(|| (*name).to_owned())?;
    }
    worker.ready().await?;
    worker.terminate(DRAIN).await
}

async fn appears(scene: &mut Scene, worker: &Worker, name: &'static str) -> Result<()> {
    scene.bench.topics.create(&[(scene.topic(name), scene.bench.partitions)]).await?;
    scene.send(scene.strangers(50, |record| record.topic == name)).await?;
    scene.healed();
    scene.caught_up().await.with_context(|| worker.last_lines())?;
    Ok(())
}
