//! `GET /v1/analytics/metrics/summary`

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use poem::Request;
use poem_openapi::param::Query;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;

use super::Tag;
use super::answer::{Instant, Json};
use super::error::ApiError;
use super::parameters::{Lenient, Parameter as _, Reference, Refusals, WindowMinutes, only};
use crate::queries::aggregation::Summary;
use crate::queries::range::Window;
use crate::queries::summary::{SummaryHandler, SummaryQuery};

/// What happened in a window, over all sources and tenants.
#[derive(Debug, Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "Summary", rename_all = "camelCase")]
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

impl From<Summary> for SummaryDto {
    fn from(summary: Summary) -> Self {
        let interval = |(bucket, count)| IntervalDto { bucket_start: Instant(bucket), count };
        Self {
            window_start: Instant(summary.window.start()),
            window_end: Instant(summary.window.end()),
            events_per_type: summary.per_type,
            events_per_interval: summary.per_bucket.into_iter().map(interval).collect(),
        }
    }
}

/// The route.
pub struct SummaryApi {
    handler: SummaryHandler,
    default_minutes: u32,
    now: fn() -> DateTime<Utc>,
}

impl SummaryApi {
    /// `default_minutes` is the window without `windowMinutes`.
    #[must_use]
    pub fn new(handler: SummaryHandler, default_minutes: u32, now: fn() -> DateTime<Utc>) -> Self {
        Self { handler, default_minutes, now }
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
    ) -> Result<Json<SummaryDto>, ApiError> {
        only(request.original_uri().query(), &["windowMinutes", "reference"])?;
        let mut refusals = Refusals::default();
        let minutes = refusals
            .take("windowMinutes", window_minutes.0)
            .map_or(self.default_minutes, |minutes| minutes.0);
        let reference =
            refusals.take("reference", reference.0).map_or_else(self.now, |reference| reference.0);
        let window = Window::ending(reference, minutes);
        if window.is_none() {
            refusals.add("reference", "lies at the end of the calendar".to_owned(), Reference::ALLOWED);
        }
        refusals.check()?;
        let Some(window) = window else { return Err(ApiError::Internal) };
        Ok(Json(self.handler.handle(SummaryQuery { window }).await?.into()))
    }
}
