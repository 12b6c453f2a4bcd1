//! `GET /v1/analytics/events/recent`, and where to send events to.

use poem::Request;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::param::Query;
use poem_openapi::registry::{MetaHeader, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::{Example, Type as _};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use std::sync::Arc;

use super::Tag;
use super::answer::{Instant, Payload, TenantId, Written, response};
use super::error::ApiError;
use super::long_answers::LongAnswers;
use super::page::Page;
use super::parameters::{Lenient, Limit, Refusals, only};
use crate::problem::{self, Problem};
use crate::projections::events::EventRow;
use crate::queries::recent_events::{RecentEventsHandler, RecentEventsQuery};

/// Events, newest first.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "RecentEvents", example)]
pub struct RecentEventsDto {
    /// Newest `occurredAt` first, of one instant the highest id first.
    items: Vec<EventDto>,
    /// How many there are in `items`.
    count: usize,
}

/// An event.
#[derive(Debug, Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "Event", rename_all = "camelCase")]
pub struct EventDto {
    /// Unique.
    id: Uuid,
    /// What happened, for example `challenges.solution-completed`.
    event_type: String,
    /// The service that says so.
    source: String,
    /// When it happened.
    occurred_at: Instant,
    /// Whose data it is; null is no tenant.
    tenant_id: TenantId,
    /// All that the producer said, every digit of every number kept. In the place of a payload whose text is longer than
    /// `ANALYTICS_PAYLOAD_MAX_BYTES` (such were stored before they were refused) stands
    /// `{"$omitted":{"reason":"payload_too_large","id":"…","bytes":1179666007,"maxBytes":8388608}}`, where `bytes` is about
    /// how long it is.
    #[serde(skip)]
    payload: Payload,
}

impl EventDto {
    /// Appends the event as JSON, with this text as its payload, and makes the text free.
    pub(super) fn write(row: EventRow, payload: &str, json: &mut Vec<u8>) {
        let event = Self {
            id: row.id,
            event_type: row.event_type,
            source: row.source,
            occurred_at: Instant(row.occurred_at),
            tenant_id: TenantId(row.tenant_id),
            payload: Payload,
        };
        // Only a value's own `Serialize` and the writer can fail, and these do not.
        serde_json::to_writer(&mut *json, &event).unwrap_or_default();
        json.pop(); // Its closing brace.
        json.extend_from_slice(br#","payload":"#);
        json.extend_from_slice(payload.as_bytes());
        json.push(b'}');
    }
}

impl Example for RecentEventsDto {
    fn example() -> Self {
        let event = EventDto {
            id: uuid::uuid!("7d9f3c1e-5a44-4c8e-9f57-0c1f6f0b2a11"),
            event_type: "challenges.solution-completed".to_owned(),
            source: "challenges-service".to_owned(),
            occurred_at: Instant(chrono::DateTime::from_timestamp(1_763_316_840, 0).unwrap_or_default()),
            tenant_id: TenantId(None),
            payload: Payload,
        };
        Self { count: 1, items: vec![event] }
    }
}

/// The routes.
pub struct EventsApi {
    handler: Arc<RecentEventsHandler>,
    answers: Arc<LongAnswers>,
    ingest_public_url: Option<String>,
}

impl EventsApi {
    /// `ingest_public_url` is where clients reach the writer, without a slash at its end.
    #[must_use]
    pub fn new(
        handler: RecentEventsHandler,
        answers: Arc<LongAnswers>,
        ingest_public_url: Option<String>,
    ) -> Self {
        Self { handler: Arc::new(handler), answers, ingest_public_url }
    }
}

#[OpenApi(prefix_path = "/v1/analytics", tag = "Tag::Analytics")]
impl EventsApi {
    /// The newest events
    ///
    /// A long answer is sent while it is read. Should it break off, so does the connection: what comes to its end is whole.
    #[oai(path = "/events/recent", method = "get", operation_id = "getRecentEvents")]
    async fn get_recent_events(
        &self,
        request: &Request,
        /// How many at most.
        limit: Query<Option<Lenient<Limit>>>,
    ) -> Result<Written<RecentEventsDto>, ApiError> {
        only(request.original_uri().query(), &["limit"])?;
        let mut refusals = Refusals::default();
        let limit = refusals.take("limit", limit.0).map_or(Limit::DEFAULT, |limit| limit.0);
        refusals.check()?;
        let rows = self.handler.handle(RecentEventsQuery { limit }).await?;
        let page = Page::new(rows, Arc::clone(&self.handler), Arc::clone(&self.answers));
        Ok(Written::new(self.answers.send(request, page).await?))
    }

    /// Events are sent to the writer
    ///
    /// This service only reads. It points to the writer (`ingest-worker`) if `ANALYTICS_INGEST_PUBLIC_URL` is set.
    #[oai(path = "/events", method = "post", operation_id = "sendEventsElsewhere")]
    async fn send_events_elsewhere(&self, request: &Request) -> Result<Elsewhere, NotHere> {
        let Some(url) = &self.ingest_public_url else { return Err(NotHere) };
        let path = request.original_uri().path_and_query().map_or("", |path| path.as_str());
        Ok(Elsewhere(format!("{url}{path}")))
    }
}

/// 307 to the writer.
struct Elsewhere(String);

impl IntoResponse for Elsewhere {
    fn into_response(self) -> Response {
        let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
        if let Ok(location) = HeaderValue::try_from(self.0) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl ApiResponse for Elsewhere {
    fn meta() -> MetaResponses {
        let location = MetaHeader {
            name: "Location".to_owned(),
            description: Some("The same path at the writer".to_owned()),
            required: true,
            deprecated: false,
            schema: String::schema_ref(),
        };
        let redirect = MetaResponse {
            description: "Send it there, with the same method and body",
            status: Some(307),
            status_range: None,
            content: vec![],
            headers: vec![location],
        };
        MetaResponses { responses: vec![redirect] }
    }

    fn register(_: &mut Registry) {}
}

/// 405 that names the writer.
#[derive(Debug, Clone, Copy)]
struct NotHere;

impl From<NotHere> for poem::Error {
    fn from(_: NotHere) -> Self {
        ApiError::MethodNotAllowed {
            allow: "",
            detail: "events are sent to the writer: POST to the same path at the service ingest-worker, port 8001 unless \
                     set otherwise (ANALYTICS_INGEST_PUBLIC_URL would have this service redirect there)"
                .to_owned(),
        }
        .into()
    }
}

impl ApiResponse for NotHere {
    fn meta() -> MetaResponses {
        let schema: MetaSchemaRef = Problem::schema_ref();
        let refusals = [
            (400, "The request cannot be read"),
            (405, "The writer's public address is not known here; `detail` names the service"),
            (414, "Path and query are too long"),
            (431, "There are too many header fields"),
        ];
        let document = |(status, text)| response(status, text, problem::CONTENT_TYPE, schema.clone());
        MetaResponses { responses: refusals.map(document).into() }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}
