//! `POST /v1/analytics/events`: an event as JSON comes in, what is stored goes out, after the commit.

use std::time::Duration;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{Request, RequestBody, Response, Result};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaResponses, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, OpenApi};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use shared::instant;
use uuid::Uuid;

use super::answer::{Json, response};
use super::error::ApiError;
use super::schema::{Command, StoredEvent};
use super::{State, Tag, media};
use crate::clock;
use crate::commands::{CommandFailure, Receipt};
use crate::normalize::{CommandRefusal, InvalidField};
use crate::problem::FieldError;

/// How long a client may take to send its event.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The route.
pub(super) struct EventsApi {
    state: Option<State>,
}

impl EventsApi {
    pub(super) fn new(state: &State) -> Self {
        Self { state: Some(state.clone()) }
    }

    /// For the OpenAPI document alone.
    pub(super) fn nowhere() -> Self {
        Self { state: None }
    }

    async fn record(&self, request: &Request, body: RequestBody) -> Result<Stored, ApiError> {
        let Some(state) = &self.state else { return Err(ApiError::Internal) };
        refuse_parameters(request)?;
        media::check(request, &state.origins)?;
        let body = read(request, body, state.limits.max_bytes).await?;
        let random = Uuid::new_v4().into_bytes();
        let event = state.normalizer.command(&body, &state.limits, clock::now(), random)?;
        let id = event.id().uuid();
        let receipt = state.commands.record(event, Sha256::digest(&body).into()).await;
        Ok(Stored(receipt.map_err(|failure| not_stored(failure, id))?))
    }
}

#[OpenApi(tag = "Tag::Analytics")]
impl EventsApi {
    /// Record an event
    ///
    /// Answers after the commit: what is answered 201 is stored and counted. With an `id` the request can be repeated
    /// safely: an id that is known is answered 200 with the first result. Names may also be written in `snake_case`;
    /// unknown members are ignored.
    #[oai(path = "/v1/analytics/events", method = "post", operation_id = "recordEvent")]
    async fn record_event(&self, request: &Request, body: CommandBody) -> Result<Stored, ApiError> {
        self.record(request, body.0).await
    }
}

fn refuse_parameters(request: &Request) -> Result<(), ApiError> {
    let query = request.uri().query().unwrap_or_default();
    // Not `pair.is_empty()`: on a `&&str` that is poem-openapi's `Type::is_empty`, which is always false.
    let names = query.split('&').filter(|pair| !str::is_empty(pair));
    let refused: Vec<_> = names
        .map(|pair| FieldError {
            parameter: pair.split('=').next().unwrap_or_default().to_owned(),
            detail: "is not known".to_owned(),
            allowed: "no parameters; what an event says is in the body".to_owned(),
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(ApiError::UnknownParameter(refused)) }
}

async fn read(request: &Request, mut body: RequestBody, limit: usize) -> Result<Bytes, ApiError> {
    let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(ApiError::TooLarge { limit });
    }
    let body = body.take().map_err(|fault| ApiError::Unreadable(fault.to_string()))?;
    match tokio::time::timeout(BODY_TIMEOUT, body.into_bytes_limit(limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(poem::error::ReadBodyError::PayloadTooLarge)) => Err(ApiError::TooLarge { limit }),
        Ok(Err(fault)) => Err(ApiError::Unreadable(format!("the body cannot be read: {fault}"))),
        Err(_) => {
            let detail = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            Err(ApiError::RequestTimeout(detail))
        }
    }
}

impl From<CommandRefusal> for ApiError {
    fn from(refusal: CommandRefusal) -> Self {
        let refused = |InvalidField { field, detail, allowed }| FieldError {
            parameter: field.to_owned(),
            detail,
            allowed,
        };
        match refusal {
            CommandRefusal::Unreadable(sentence) => Self::Unreadable(sentence),
            CommandRefusal::Invalid(fields) => Self::InvalidEvent(fields.into_iter().map(refused).collect()),
        }
    }
}

fn not_stored(failure: CommandFailure, id: Uuid) -> ApiError {
    match failure {
        CommandFailure::Refused(_) | CommandFailure::Expired { .. } => {
            ApiError::RefusedEvent(failure.to_string())
        }
        CommandFailure::NotCommitted => ApiError::NotCommitted { id },
        CommandFailure::NotAccepted => ApiError::NotAccepted,
    }
}

/// The request's body as it comes: `normalize` reads it, so that no digit is lost and every refused field is named.
struct CommandBody(RequestBody);

impl<'a> ApiExtractor<'a> for CommandBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Command::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: "application/json", schema: Command::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        _: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        Ok(Self(RequestBody::new(body.take()?)))
    }
}

/// As `schema::StoredEvent` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredEventDto {
    id: Uuid,
    event_type: String,
    source: String,
    occurred_at: String,
    ingested_at: String,
    tenant_id: Option<String>,
}

/// The answer to the command.
struct Stored(Receipt);

impl poem::IntoResponse for Stored {
    fn into_response(self) -> Response {
        let receipt = self.0;
        let status = if receipt.repeated { StatusCode::OK } else { StatusCode::CREATED };
        let stored = StoredEventDto {
            id: receipt.id,
            event_type: receipt.event_type,
            source: receipt.source,
            occurred_at: instant::format(receipt.occurred_at),
            ingested_at: instant::format(receipt.ingested_at),
            tenant_id: receipt.tenant_id,
        };
        Json(stored).with_status(status).into_response()
    }
}

impl ApiResponse for Stored {
    fn meta() -> MetaResponses {
        let (schema, json) = (StoredEvent::schema_ref, "application/json");
        MetaResponses {
            responses: vec![
                response(201, "Stored", json, schema()),
                response(
                    200,
                    "An event with this id was stored before: this is the first result",
                    json,
                    schema(),
                ),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        StoredEvent::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_no_parameters() {
        for (uri, expected) in [("/e", 0), ("/e?", 0), ("/e?&", 0), ("/e?dry=1&x", 2)] {
            let request = Request::builder().uri_str(uri).finish();
            let count = match refuse_parameters(&request) {
                Err(ApiError::UnknownParameter(refused)) => refused.len(),
                _ => 0,
            };
            assert_eq!(count, expected, "{uri}");
        }
    }
}
