//! Refusals and faults as RFC 9457 documents, in one shape everywhere.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::Serialize;

/// The media type of every refusal.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One value that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct FieldError {
    /// The parameter's or the field's name; `body` for the whole.
    pub parameter: String,
    /// What is wrong with it.
    pub detail: String,
    /// What is allowed.
    pub allowed: String,
}

/// A refusal (RFC 9457).
#[derive(Debug, Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct Problem {
    /// The kind of problem, explained in the introduction of `/docs`.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    kind: String,
    /// The same for every problem of this kind.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// Every value that was refused, not only the first.
    errors: Vec<FieldError>,
    /// As in the header `X-Request-Id` and in the log.
    request_id: String,
}

impl Example for Problem {
    fn example() -> Self {
        let refused = FieldError {
            parameter: "limit".to_owned(),
            detail: "is 501, above 500".to_owned(),
            allowed: "a whole number from 1 to 500".to_owned(),
        };
        Self {
            kind: "/docs#description/invalid-parameter".to_owned(),
            title: "A parameter is not valid".to_owned(),
            status: 422,
            detail: "limit is 501, above 500; allowed: a whole number from 1 to 500".to_owned(),
            instance: "/v1/analytics/events/recent".to_owned(),
            errors: vec![refused],
            request_id: "0f8c2a4e-6f0b-4d5e-9a37-3f1f7b7f2c11".to_owned(),
        }
    }
}

impl Problem {
    /// `kind` is a heading in the introduction of `/docs`.
    #[must_use]
    pub fn new(status: StatusCode, kind: &str, title: &str) -> Self {
        Self {
            kind: format!("/docs#description/{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: String::new(),
            instance: String::new(),
            errors: Vec::new(),
            request_id: String::new(),
        }
    }

    /// What is wrong this time.
    #[must_use]
    pub fn about(self, detail: String, errors: Vec<FieldError>) -> Self {
        Self { detail, errors, ..self }
    }

    /// Which request it was.
    #[must_use]
    pub fn of_request(self, instance: String, request_id: String) -> Self {
        Self { instance, request_id, ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = body.with_content_type(CONTENT_TYPE).with_status(status).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
