//! `POST /v1/analytics/events`: an event as JSON comes in, what is stored goes out, after the commit.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{Request, RequestBody, Response, Result};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::{Example, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use shared::instant;
use uuid::Uuid;

use super::answer::{Json, response};
use super::error::ApiError;
use super::{State, Tag};
use crate::clock;
use crate::commands::{CommandFailure, Receipt};
use crate::normalize::{CommandRefusal, InvalidField};
use crate::problem::Refused;

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
        refuse_other_media(request)?;
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
        .map(|pair| Refused {
            parameter: pair.split('=').next().unwrap_or_default().to_owned(),
            detail: "is not known".to_owned(),
            allowed: "no parameters; what an event says is in the body".to_owned(),
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(ApiError::UnknownParameter(refused)) }
}

fn refuse_other_media(request: &Request) -> Result<(), ApiError> {
    if let Some(encoding) =
        request.header(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity")
    {
        return Err(ApiError::MediaType(format!(
            "the body has Content-Encoding {encoding}, allowed is none"
        )));
    }
    let Some(header) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = header.to_str().unwrap_or_default();
    if is_json(text) {
        Ok(())
    } else {
        Err(ApiError::MediaType(format!("the body is '{text}', not JSON in UTF-8")))
    }
}

/// `application/json`, in any case, with a charset of UTF-8 or none.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let charset_fits = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "utf8", "us-ascii"].iter().any(|charset| charset.eq_ignore_ascii_case(value))
    };
    essence.eq_ignore_ascii_case("application/json") && parts.all(charset_fits)
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
            Err(ApiError::Other { status: StatusCode::REQUEST_TIMEOUT, detail })
        }
    }
}

impl From<CommandRefusal> for ApiError {
    fn from(refusal: CommandRefusal) -> Self {
        let refused = |InvalidField { field, detail, allowed }| Refused {
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

/// An event to record.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none, example)]
struct Command {
    /// What happened, for example `challenges.solution-completed`.
    #[oai(validator(min_length = 1, max_length = 120))]
    event_type: String,
    /// Which service says so.
    #[oai(validator(min_length = 1, max_length = 120))]
    source: String,
    /// All that there is to say: any JSON object. Every digit of a number is kept.
    payload: HashMap<String, serde_json::Value>,
    /// When it happened: RFC 3339, without an offset it is UTC; the time of the request if absent.
    occurred_at: Option<String>,
    /// Whose data it is, where there are several customers.
    #[oai(validator(max_length = 64))]
    tenant_id: Option<String>,
    /// Who did it; if absent, `userId`, `studentId`, `student_id` or `actorId` of the payload.
    #[oai(validator(max_length = 128))]
    actor_id: Option<String>,
    /// Makes a repeat harmless: the same id is stored once. Also called `eventId`. Not the nil or the max UUID.
    id: Option<Uuid>,
}

impl Example for Command {
    fn example() -> Self {
        let payload = [("studentId", "s-42".into()), ("score", 97.5.into())];
        Self {
            event_type: "challenges.solution-completed".to_owned(),
            source: "challenges-service".to_owned(),
            payload: payload.map(|(name, value)| (name.to_owned(), value)).into(),
            occurred_at: Some("2025-11-16T18:14:00Z".to_owned()),
            tenant_id: None,
            actor_id: None,
            id: None,
        }
    }
}

/// What is stored.
#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct StoredEvent {
    /// The event's own id, or the one it was given.
    id: Uuid,
    /// What happened.
    event_type: String,
    /// Which service says so.
    source: String,
    /// When it happened, for example `2025-11-16T18:14:00+00:00`.
    occurred_at: String,
    /// When it was stored.
    ingested_at: String,
    /// Whose data it is.
    tenant_id: Option<String>,
}

/// The answer to the command.
struct Stored(Receipt);

impl poem::IntoResponse for Stored {
    fn into_response(self) -> Response {
        let receipt = self.0;
        let status = if receipt.repeated { StatusCode::OK } else { StatusCode::CREATED };
        let stored = StoredEvent {
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
        let schema: fn() -> MetaSchemaRef = Json::<StoredEvent>::schema_ref;
        let json = Json::<StoredEvent>::CONTENT_TYPE;
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

    #[test]
    fn json_is_known_by_its_media_type() {
        for (text, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=\"UTF-8\"", true),
            ("application/json;charset=utf8;x=y", true),
            ("application/json; charset=latin1", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(is_json(text), expected, "{text}");
        }
    }
}
