//! On a terminal: the summary and the newest events as they move, until somebody interrupts.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::Instant;

use super::loading::Work;
use super::screen::{Line, Look, Screen, bar};
use super::steps::grouped;
use super::{Options, Place, steps::Steps};
use crate::processes::Process;
use crate::produce::Pace;
use crate::tables::{self, Totals};

const FRAME: Duration = Duration::from_millis(500);
/// Over how many frames the rate is taken.
const RATE_FRAMES: usize = 20;
/// Lines that are not the newest events.
const OTHER_LINES: usize = 22;

/// Draws until it is dropped; ends only by an error.
pub(super) async fn run(
    options: &Options,
    place: &Place,
    work: &mut Work,
    worker: &mut Process,
    reader: &mut Process,
) -> Result<()> {
    addresses(&Steps { terminal: true }, worker, reader);
    let acknowledged = work.producer.watch();
    let trickle = async {
        let mut pace = Pace::of(Some(options.trickle));
        loop {
            pace.next().await;
            work.trickle(&place.prefix).await?;
        }
    };
    let draw = async {
        let (mut screen, mut view) = (Screen::new()?, View::default());
        loop {
            view.look(place, reader, &acknowledged).await;
            screen.draw(&view.lines())?;
            tokio::time::sleep(FRAME).await;
        }
    };
    tokio::select! {
        ended = trickle => ended,
        ended = draw => ended,
    }
}

/// What to open and what to type; printed once, whole lines to copy.
pub(super) fn addresses(steps: &Steps, worker: &Process, reader: &Process) {
    let (writes, reads) = (&worker.server.base, &reader.server.base);
    steps.say("");
    for (address, what) in [
        (format!("{reads}/docs"), "questions: the API to try out"),
        (format!("{writes}/docs"), "commands: the API to try out"),
        (format!("{reads}/v1/analytics/metrics/summary"), "the last hour"),
        (format!("{reads}/v1/analytics/events/recent"), "the newest events"),
        (format!("{reads}/metrics"), "the reader's figures"),
        (format!("{writes}/metrics"), "the writer's figures"),
    ] {
        steps.say(&format!("  {address:52} {what}"));
    }
    steps.say("");
    let event = r#"{"eventType":"challenge.completed","source":"challenge-service","payload":{"studentId":"s-1","points":10}}"#;
    steps.say(&format!(
        "  curl -X POST {writes}/v1/analytics/events -H 'Content-Type: application/json' -d '{event}'"
    ));
    steps.say(&format!("  curl '{reads}/v1/analytics/metrics/summary?windowMinutes=60'"));
    steps.say(&format!("  curl '{reads}/v1/analytics/events/recent?limit=5'"));
    steps.say("");
}

/// What is to be seen.
#[derive(Default)]
struct View {
    summary: Value,
    recent: Value,
    totals: Totals,
    lag: i64,
    rate: f64,
    history: VecDeque<(Instant, i64)>,
    trouble: Option<String>,
}

impl View {
    async fn look(&mut self, place: &Place, reader: &Process, acknowledged: &impl Fn() -> u64) {
        self.trouble = match self.ask(place, reader, acknowledged).await {
            Ok(()) => None,
            Err(error) => Some(format!("{error:#}")),
        };
    }

    async fn ask(&mut self, place: &Place, reader: &Process, acknowledged: &impl Fn() -> u64) -> Result<()> {
        let (_, rows) = Screen::size();
        let newest = rows.saturating_sub(OTHER_LINES).clamp(3, 20);
        self.summary = reader.server.get_json("/v1/analytics/metrics/summary?windowMinutes=60").await?;
        self.recent = reader.server.get_json(&format!("/v1/analytics/events/recent?limit={newest}")).await?;
        self.totals = tables::totals(&place.database.pool, &place.group).await?;
        let (now, stored) = (Instant::now(), self.totals.records());
        self.lag = (i64::try_from(acknowledged())? - stored).max(0);
        self.history.push_back((now, stored));
        if self.history.len() > RATE_FRAMES {
            self.history.pop_front();
        }
        if let Some((then, before)) = self.history.front() {
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            let moved = (stored - before) as f64;
            self.rate = moved / (now - *then).as_secs_f64().max(0.001);
        }
        Ok(())
    }

    fn lines(&self) -> Vec<Line> {
        let Totals { events, duplicates, dead_letters, .. } = self.totals;
        let (events, duplicates) = (grouped(events), grouped(duplicates));
        let (dead, lag) = (grouped(dead_letters), grouped(self.lag));
        let mut lines = vec![(
            Look::Bold,
            format!(
                "{events} events · {:.1}/s · lag {lag} · {duplicates} duplicates · {dead} dead letters",
                self.rate
            ),
        )];
        lines.push((Look::Dim, "Ctrl-C stops everything that was started".to_owned()));
        if let Some(trouble) = &self.trouble {
            lines.push((Look::Bold, format!("no answer: {}", trouble.replace('\n', " "))));
        }
        lines.push((Look::Bold, "The last hour, by type".to_owned()));
        lines.extend(bars(self.per_type(), 32));
        lines.push((Look::Bold, "The last hour, by ten minutes (UTC)".to_owned()));
        lines.extend(bars(self.per_interval(), 6));
        lines.push((Look::Bold, "The newest events (UTC)".to_owned()));
        lines.extend(items(&self.recent).map(newest));
        lines
    }

    fn per_type(&self) -> Vec<(String, u64)> {
        let types = self.summary.get("eventsPerType").and_then(Value::as_object);
        let mut types: Vec<_> = types
            .into_iter()
            .flatten()
            .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
            .collect();
        types.sort_by(|(one, many), (other, more)| more.cmp(many).then_with(|| one.cmp(other)));
        types.truncate(8);
        types
    }

    fn per_interval(&self) -> Vec<(String, u64)> {
        let intervals = self.summary.get("eventsPerInterval").and_then(Value::as_array);
        let interval = |interval: &Value| {
            let start = interval.get("bucketStart")?.as_str()?.get(11..16)?.to_owned();
            Some((start, interval.get("count")?.as_u64()?))
        };
        intervals.into_iter().flatten().filter_map(interval).collect()
    }
}

fn bars(counts: Vec<(String, u64)>, name_width: usize) -> impl Iterator<Item = Line> {
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let (columns, _) = Screen::size();
    let width = columns.saturating_sub(name_width + 14).clamp(5, 60);
    counts.into_iter().map(move |(name, count)| {
        (Look::Plain, format!("  {name:name_width$} {:>8} {}", grouped(count), bar(count, most, width)))
    })
}

fn items(recent: &Value) -> impl Iterator<Item = &Value> {
    recent.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn newest(item: &Value) -> Line {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    let payload = item.get("payload");
    let who = ["userId", "studentId", "student_id", "guideId"]
        .iter()
        .find_map(|name| payload?.get(name)?.as_str())
        .unwrap_or_default();
    let time = text("occurredAt").get(11..).unwrap_or_default().trim_end_matches("+00:00");
    let who: String = who.chars().take(8).collect();
    (Look::Plain, format!("  {time:15}  {:30} {:19} {who}", text("eventType"), text("source")))
}
