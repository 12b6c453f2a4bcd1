//! `GET /v1/analytics/metrics/summary`

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use poem::Request;
use poem_openapi::param::Query;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;

use super::Tag;
use super::answer::{Instant, Written};
use super::error::ApiError;
use super::long_answers::{IN_ONE_PIECE, LongAnswers, Piece, Source};
use super::parameters::{Lenient, Parameter as _, Reference, Refusals, WindowMinutes, only};
use crate::budget::Held;
use crate::projections::failure::QueryFailure;
use crate::queries::aggregation::Summary;
use crate::queries::range::Window;
use crate::queries::summary::{SummaryHandler, SummaryQuery};

/// What happened in a window, over all sources and tenants.
#[derive(Debug, Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "Summary", rename_all = "camelCase", example)]
pub struct SummaryDto {
    /// The first instant that is counted.
    window_start: Instant,
    /// The first instant that is not counted any more.
    window_end: Instant,
    /// How many events of each type; types that did not occur are left out.
    events_per_type: BTreeMap<String, i64>,
    /// How many events in each bucket, ascending; empty ones are left out.
    events_per_interval: Vec<IntervalDto>,
}

/// Events in one bucket.
#[derive(Debug, Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "Interval", rename_all = "camelCase")]
pub struct IntervalDto {
    /// When the bucket begins: aligned to the Unix epoch, so perhaps before `windowStart`.
    bucket_start: Instant,
    /// How many events of the window it holds.
    count: i64,
}

/// A summary as JSON, as long as there are types: what is written is free again.
struct Pieces {
    /// But for the types.
    frame: SummaryDto,
    types: Peekable<btree_map::IntoIter<String, i64>>,
    held: Vec<Held>,
    begun: bool,
    done: bool,
}

impl From<Summary> for Pieces {
    fn from(summary: Summary) -> Self {
        let interval = |(bucket, count)| IntervalDto { bucket_start: Instant(bucket), count };
        let frame = SummaryDto {
            window_start: Instant(summary.window.start()),
            window_end: Instant(summary.window.end()),
            events_per_type: BTreeMap::new(),
            events_per_interval: summary.per_bucket.into_iter().map(interval).collect(),
        };
        let types = summary.per_type.into_iter().peekable();
        Self { frame, types, held: summary.held, begun: false, done: false }
    }
}

/// Where the types go in what is written without them.
const NO_TYPES: &str = r#""eventsPerType":{"#;

impl Source for Pieces {
    async fn next(&mut self, _: Duration) -> Result<Option<Piece>, QueryFailure> {
        if self.done {
            return Ok(None);
        }
        // Only a value's own `Serialize` and the writer can fail, and these do not.
        let frame = serde_json::to_string(&self.frame).unwrap_or_default();
        let (head, tail) = frame.split_at(frame.find(NO_TYPES).map_or(0, |at| at + NO_TYPES.len()));
        let mut json = if self.begun { Vec::new() } else { head.as_bytes().to_vec() };
        let mut comma = self.begun;
        self.begun = true;
        while let Some((event_type, events)) = self.types.next_if(|_| json.len() < IN_ONE_PIECE / 2) {
            if comma {
                json.push(b',');
            }
            comma = true;
            serde_json::to_writer(&mut json, &event_type).unwrap_or_default();
            json.extend_from_slice(format!(":{events}").as_bytes());
        }
        if self.types.peek().is_none() {
            json.extend_from_slice(tail.as_bytes());
            self.held.clear();
            self.done = true;
        }
        Ok(Some(Piece { bytes: json, held: None }))
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

impl Example for SummaryDto {
    fn example() -> Self {
        let hour = |minute| {
            Instant(
                DateTime::from_timestamp(1_763_312_400, 0).unwrap_or_default() + TimeDelta::minutes(minute),
            )
        };
        Self {
            window_start: hour(30),
            window_end: hour(90),
            events_per_type: [("challenges.solution-completed".to_owned(), 1)].into(),
            events_per_interval: vec![IntervalDto { bucket_start: hour(70), count: 1 }],
        }
    }
}

/// The route.
pub struct SummaryApi {
    handler: SummaryHandler,
    answers: Arc<LongAnswers>,
    default_minutes: u32,
    now: fn() -> DateTime<Utc>,
}

impl SummaryApi {
    /// `default_minutes` is the window without `windowMinutes`.
    #[must_use]
    pub fn new(
        handler: SummaryHandler,
        answers: Arc<LongAnswers>,
        default_minutes: u32,
        now: fn() -> DateTime<Utc>,
    ) -> Self {
        Self { handler, answers, default_minutes, now }
    }
}

#[OpenApi(prefix_path = "/v1/analytics", tag = "Tag::Analytics")]
impl SummaryApi {
    /// Events per type and per interval
    ///
    /// Counts the events of a window that ends at `reference`, exactly, to the microsecond. The window is half-open:
    /// an event at `windowStart` is counted, one at `windowEnd` is not, so adjacent windows add up. An interval is a
    /// sixth of the window in whole minutes, at least five.
    #[oai(path = "/metrics/summary", method = "get", operation_id = "getSummary")]
    async fn get_summary(
        &self,
        request: &Request,
        /// How long the window is. Without it `ANALYTICS_METRICS_WINDOW_MINUTES`, which is 60 unless set.
        #[oai(name = "windowMinutes")]
        window_minutes: Query<Option<Lenient<WindowMinutes>>>,
        /// When the window ends; without it now. RFC 3339 with an offset, or without one, which is UTC; seconds or the
        /// whole time may be left out: `2025-11-16T18:14:00Z`, `2025-11-16T13:14:00.5-05:00`, `2025-11-16T18:14`,
        /// `2025-11-16`. Digits beyond microseconds are cut.
        reference: Query<Option<Lenient<Reference>>>,
    ) -> Result<Written<SummaryDto>, ApiError> {
        only(request.original_uri().query(), &["windowMinutes", "reference"])?;
        let mut refusals = Refusals::default();
        let minutes = refusals
            .take("windowMinutes", window_minutes.0)
            .map_or(self.default_minutes, |minutes| minutes.0);
        let reference =
            refusals.take("reference", reference.0).map_or_else(self.now, |reference| reference.0);
        let window = Window::ending(reference, minutes);
        if window.is_none() {
            let detail = format!(
                "is so early that {minutes} minutes before it, or the bucket there, lie before the year 1"
            );
            refusals.add("reference", detail, Reference::ALLOWED);
        }
        refusals.check()?;
        let Some(window) = window else { return Err(ApiError::Internal) };
        let summary = self.handler.handle(SummaryQuery { window }).await?;
        Ok(Written::new(self.answers.send(request, Pieces::from(summary)).await?))
    }
}
