use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::canonical::{Canonical, id};
use crate::clock;
use crate::faults::{DRAIN, Scene};
use crate::http::Server;

const EVENTS: usize = 400;
/// Requests at a time.
const CLIENTS: usize = 16;

/// Which door is the first is chance, and differs from event to event.
pub(super) async fn both(scene: &mut Scene) -> Result<()> {
    let mut worker = scene.start(scene.settings())?;
    worker.ready().await?;
    let server = worker.process().server.clone();
    for _ in 0..scene.rounds {
        let now = clock::now();
        let mut events: Vec<_> =
            (0..EVENTS as u64).map(|number| event(&mut scene.random, now, number)).collect();
        let posted = events.clone();
        scene.random.shuffle(&mut events);
        let records: Vec<_> = events.iter().map(|event| event.first(scene.random.i32(0..3))).collect();
        scene.expect(|expected| expected.shared += EVENTS as i64);
        let posts = stream::iter(&posted).map(|event| post(&server, event)).buffer_unordered(CLIENTS);
        let (sent, first) =
            tokio::join!(scene.send_own(&records), posts.try_fold(0, async |sum, first| Ok(sum + first)));
        sent?;
        let first: i64 = first?;
        scene.healed();
        scene.caught_up().await?;
        ensure!(first > 0, "no command was ever the first: nothing happened at once");
        // The command whose record was the first is answered like any repeat.
        for event in posted.iter().take(CLIENTS) {
            ensure!(post(&server, event).await? == 0, "a repeat was answered as if it were new");
        }
    }
    worker.terminate(DRAIN).await
}

fn event(random: &mut fastrand::Rng, now: chrono::DateTime<Utc>, number: u64) -> Canonical {
    let at = now - TimeDelta::microseconds(random.i64(0..86_400_000_000));
    let at = chrono::DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at);
    Canonical::new(Some(id(random)), at, number)
}

/// 1 if the command was the first that told of the event.
async fn post(server: &Server, event: &Canonical) -> Result<i64> {
    let answer = server.post("/v1/analytics/events", event.value()).await?;
    let told = || format!("{} {}", answer.status, answer.text);
    ensure!(matches!(answer.status.as_u16(), 200 | 201), "{}", told());
    let id = answer.json.get("id").and_then(|id| id.as_str()).with_context(told)?;
    ensure!(event.id.is_some_and(|own| own.to_string() == id), "another id: {}", told());
    Ok(i64::from(answer.status.as_u16() == 201))
}
