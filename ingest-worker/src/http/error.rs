use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse as _, Response};
use uuid::Uuid;

use super::server::{MAX_ADDRESS, MAX_FIELD_BYTES, MAX_FIELDS};
use crate::problem::{CONTENT_TYPE, FieldError, Problem};

/// Seconds after which a client may try again.
const RETRY_AFTER: &str = "2";

/// Why a request is not done: a variant per status and kind.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// 400: parameters that the route does not have.
    #[error("{}", details(.0))]
    UnknownParameter(Vec<FieldError>),
    /// 404: no such route.
    #[error("there is no {0} here; /docs lists what there is")]
    NotFound(String),
    /// 405, with the methods that the route does have.
    #[error("{detail}")]
    MethodNotAllowed {
        /// For the header `Allow`.
        allow: &'static str,
        /// What to do instead.
        detail: String,
    },
    /// 408: the client is too slow.
    #[error("{0}")]
    RequestTimeout(String),
    /// 414: path and query are too long.
    #[error("the address has more than {MAX_ADDRESS} bytes, which are the most that path and query may have")]
    AddressTooLong,
    /// 431: too many header fields, or too long ones.
    #[error(
        "the request has more than {MAX_FIELDS} header fields or {MAX_FIELD_BYTES} bytes of names and values, which are \
         the most that it may have"
    )]
    HeadTooLarge,
    /// 413: more bytes than a request may have.
    #[error("the body has more than {limit} bytes, which is the most that an event may have")]
    TooLarge {
        /// Most allowed.
        limit: usize,
    },
    /// 415: not JSON by its own account.
    #[error("{0}; send Content-Type: application/json")]
    MediaType(String),
    /// 415: compressed, or encoded in another way.
    #[error("the body is {0}; send it without Content-Encoding")]
    ContentEncoding(String),
    /// 422: fields of the event that are refused, all of them.
    #[error("{}", details(.0))]
    InvalidEvent(Vec<FieldError>),
    /// 422: PostgreSQL refused the event, or it is too old to be kept.
    #[error("{0}")]
    RefusedEvent(String),
    /// 503: no commit in time.
    #[error(
        "the event was not committed in time and may still be stored: repeat the request with \"id\": \"{id}\" in its \
         body, so that it is not stored twice"
    )]
    NotCommitted {
        /// The id that the event was given.
        id: Uuid,
    },
    /// 503: certainly not stored.
    #[error(
        "too many events wait for PostgreSQL, or the process is about to stop: this one is not stored, try again"
    )]
    NotAccepted,
    /// 500: our fault; the log knows more than the client should.
    #[error("the request could not be done; the log has the details under this requestId")]
    Internal,
    /// Whatever else the HTTP library refuses.
    #[error("{detail}")]
    Other {
        /// As the library says.
        status: StatusCode,
        /// In its words.
        detail: String,
    },
}

impl ApiError {
    /// The status, the last part of `type`, and the title.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Unreadable(_) => (S::BAD_REQUEST, "unreadable-request", "The request cannot be read"),
            Self::UnknownParameter(_) => (S::BAD_REQUEST, "unknown-parameter", "A parameter is not known"),
            Self::NotFound(_) => (S::NOT_FOUND, "not-found", "There is nothing at this address"),
            Self::MethodNotAllowed { .. } => {
                (S::METHOD_NOT_ALLOWED, "method-not-allowed", "This address has no such method")
            }
            Self::RequestTimeout(_) => (S::REQUEST_TIMEOUT, "request-timeout", "The request took too long"),
            Self::AddressTooLong => (S::URI_TOO_LONG, "address-too-long", "The address is too long"),
            Self::HeadTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "There are too many header fields")
            }
            Self::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::MediaType(_) => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is not JSON")
            }
            Self::ContentEncoding(_) => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported-content-encoding", "The body is encoded")
            }
            Self::InvalidEvent(_) => (S::UNPROCESSABLE_ENTITY, "invalid-event", "A field is not valid"),
            Self::RefusedEvent(_) => (S::UNPROCESSABLE_ENTITY, "refused-event", "The event cannot be stored"),
            Self::NotCommitted { .. } => {
                (S::SERVICE_UNAVAILABLE, "not-committed", "The event may not be stored")
            }
            Self::NotAccepted => {
                (S::SERVICE_UNAVAILABLE, "unavailable", "The service takes no events at present")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal-error", "A fault of this service"),
            Self::Other { status, .. } => (*status, "refused", "The request is refused"),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// The document, for the request at `instance`.
    #[must_use]
    pub fn into_response(self, instance: String, request_id: String) -> Response {
        let (status, kind, title) = self.kind();
        let detail = self.to_string();
        let allow = if let Self::MethodNotAllowed { allow, .. } = self { Some(allow) } else { None };
        // What a client may send instead (RFC 9110, 15.5.16).
        let accept = match self {
            Self::MediaType(_) => Some((header::ACCEPT, "application/json")),
            Self::ContentEncoding(_) => Some((header::ACCEPT_ENCODING, "identity")),
            _ => None,
        };
        let errors = match self {
            Self::UnknownParameter(errors) | Self::InvalidEvent(errors) => errors,
            _ => Vec::new(),
        };
        let problem = Problem {
            kind: format!("/docs#description/{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            instance,
            errors,
            request_id,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = body.with_content_type(CONTENT_TYPE).with_status(status).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some((name, value)) = accept {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

impl poem::error::ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.status()
    }
}

/// `eventType is missing; allowed: …. payload is …; allowed: …`
fn details(errors: &[FieldError]) -> String {
    let sentences: Vec<_> =
        errors.iter().map(|e| format!("{} {}; allowed: {}", e.parameter, e.detail, e.allowed)).collect();
    sentences.join(". ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_a_document_with_every_refused_value() {
        let refused = |parameter: &str| FieldError {
            parameter: parameter.to_owned(),
            detail: "is missing".to_owned(),
            allowed: "a string".to_owned(),
        };
        let error = ApiError::InvalidEvent(vec![refused("eventType"), refused("source")]);
        let response = error.into_response("/v1/analytics/events".to_owned(), "r-1".to_owned());
        assert_eq!(response.content_type(), Some(CONTENT_TYPE));
        let document: serde_json::Value = response.into_body().into_json().await.unwrap();
        let expected = serde_json::json!({
            "type": "/docs#description/invalid-event",
            "title": "A field is not valid",
            "status": 422,
            "detail": "eventType is missing; allowed: a string. source is missing; allowed: a string",
            "instance": "/v1/analytics/events",
            "errors": [
                {"parameter": "eventType", "detail": "is missing", "allowed": "a string"},
                {"parameter": "source", "detail": "is missing", "allowed": "a string"},
            ],
            "requestId": "r-1",
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn headers_say_what_to_do_next() {
        let respond = |error: ApiError| error.into_response(String::new(), String::new());
        let absent = respond(ApiError::MethodNotAllowed { allow: "POST", detail: String::new() });
        assert_eq!(absent.header("allow"), Some("POST"));
        let late = respond(ApiError::NotCommitted { id: Uuid::nil() });
        assert_eq!((late.status().as_u16(), late.header("retry-after")), (503, Some("2")));
        assert!(ApiError::NotCommitted { id: Uuid::nil() }.to_string().contains(&Uuid::nil().to_string()));
    }
}
