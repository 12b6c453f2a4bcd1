//! The document of a refusal (RFC 9457), in one shape everywhere.

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
    pub kind: String,
    /// The same for every problem of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// Every value that was refused, not only the first.
    pub errors: Vec<FieldError>,
    /// As in the header `X-Request-Id` and in the log.
    pub request_id: String,
}

impl Example for Problem {
    fn example() -> Self {
        let refused = FieldError {
            parameter: "eventType".to_owned(),
            detail: "is missing or null".to_owned(),
            allowed: "a string of 1 to 120 characters".to_owned(),
        };
        Self {
            kind: "/docs#description/invalid-event".to_owned(),
            title: "A field is not valid".to_owned(),
            status: 422,
            detail: "eventType is missing or null; allowed: a string of 1 to 120 characters".to_owned(),
            instance: "/v1/analytics/events".to_owned(),
            errors: vec![refused],
            request_id: "0f8c2a4e-6f0b-4d5e-9a37-3f1f7b7f2c11".to_owned(),
        }
    }
}
