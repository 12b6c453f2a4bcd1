//! Topics are deleted, recreated, cut, compacted, get more partitions; transactions leave holes.

mod growing;
mod holes;
mod older_copy;
mod recreated;
mod retention;

use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;

use super::{NO_HINDRANCE, Scenario};
use crate::faults::{Scene, Worker};
use crate::load::LoadRecord;
use crate::processes::Settings;
use crate::tables::{self, RangeRow};
use crate::wait::until;

/// This family.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "topic-deleted",
        what: "A topic is deleted while it is read: its absence is told, and all others are read on.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| recreated::deleted(scene).boxed_local(),
    },
    Scenario {
        name: "topic-recreated",
        what: "A topic is deleted and made again, shorter, as long and longer, while a worker runs and while none does.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| recreated::recreated(scene).boxed_local(),
    },
    Scenario {
        name: "retention-passes",
        what: "Retention removes records before they are read: while no worker runs, and from under one that is held up.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| retention::passes(scene).boxed_local(),
    },
    Scenario {
        name: "older-copy-of-kafka",
        what: "The broker comes back with an older copy of its data, so that logs end before the stored offsets.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| older_copy::restored(scene).boxed_local(),
    },
    Scenario {
        name: "partitions-added",
        what: "A topic gets more partitions: they are read from their beginning, whatever new topics are.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| growing::partitions_added(scene).boxed_local(),
    },
    Scenario {
        name: "topic-appears-later",
        what: "A topic appears that matches the pattern: it is found soon and read from its beginning.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| growing::topic_appears(scene).boxed_local(),
    },
    Scenario {
        name: "transactions",
        what: "Transactional producers commit, abort, dawdle and die: nothing aborted is stored, each marker is accounted for.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| holes::transactions(scene).boxed_local(),
    },
    Scenario {
        name: "compacted-topic",
        what: "A compacted topic loses superseded records before and while it is read.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| holes::compacted(scene).boxed_local(),
    },
];

/// The topic that suffers.
const VICTIM: &str = "execution.analytics";
/// Records of one step.
const CHUNK: usize = 300;
/// Something that must be told is told within this time.
const TOLD: Duration = Duration::from_secs(60);

/// Settings of a worker that looks for changes of topics often.
fn attentive(scene: &Scene) -> Settings {
    let mut settings = scene.settings();
    let name = "ANALYTICS_KAFKA_PROPERTY_TOPIC_METADATA_REFRESH_INTERVAL_MS";
    settings.insert(name.to_owned(), "1000".to_owned());
    settings
}

/// Strangers of the topic that suffers.
fn of_victim(scene: &Scene, number: usize) -> Vec<LoadRecord> {
    scene.strangers(number, |record| record.topic == VICTIM)
}

/// The same records with this much more in them, which no codec makes smaller.
fn padded(scene: &mut Scene, mut records: Vec<LoadRecord>, bytes: usize) -> Vec<LoadRecord> {
    for record in &mut records {
        let padding: String = std::iter::repeat_with(|| scene.random.alphanumeric()).take(bytes).collect();
        if let Some(object) = record.value.as_ref().and_then(|value| value.strip_suffix('}')) {
            record.value = Some(format!(r#"{object},"padding":"{padding}"}}"#));
        }
    }
    records
}

/// How far each partition of the topic that suffers was read.
async fn offsets(scene: &Scene) -> Result<Vec<RangeRow>> {
    let topic = scene.topic(VICTIM);
    let rows = tables::offsets(&scene.bench.database.pool, &scene.bench.group).await?;
    Ok(rows.into_iter().filter(|row| row.topic == topic).collect())
}

/// All partitions of topics that have as many as they had in the beginning.
fn partitions(scene: &Scene) -> Result<usize> {
    let topics = scene.bench.topics.names(|name| name.starts_with(&scene.bench.prefix))?;
    Ok(topics.len() * usize::try_from(scene.bench.partitions)?)
}

/// Waits until there is a row for so many partitions: from then on `latest` means nothing for them.
async fn begun(scene: &Scene, partitions: usize) -> Result<()> {
    until("all partitions are begun", TOLD, async || {
        let rows = tables::offsets(&scene.bench.database.pool, &scene.bench.group).await?;
        Ok(rows.iter().filter(|row| row.topic.starts_with(&scene.bench.prefix)).count() >= partitions)
    })
    .await
}

/// The worker's count of discontinuities for this reason.
async fn discontinuities(worker: &Worker, reason: &str) -> Result<usize> {
    let metric = format!(r#"analytics_ingest_discontinuities_total{{reason="{reason}"}}"#);
    let count = worker.metric(&metric).await?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Ok(count.round() as usize)
}
