//! Why a request gets no answer: the one error type of all routes.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse as _, Response};

use super::server::{MAX_ADDRESS, MAX_FIELD_BYTES, MAX_FIELDS};
use crate::problem::{FieldError, Problem};
use crate::projections::failure::QueryFailure;

/// Why a request gets no answer: a variant per status and kind.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// 400: parameters that the route does not have, or that come twice.
    #[error("{}", details(.0))]
    UnknownParameter(Vec<FieldError>),
    /// 422: values that are refused, all of them.
    #[error("{}", details(.0))]
    RefusedValue(Vec<FieldError>),
    /// 404: no such route.
    #[error("there is no {0} here; /docs lists what there is")]
    NotFound(String),
    /// 405, with the methods that the route does have.
    #[error("{detail}")]
    MethodNotAllowed {
        /// For the header `Allow`; empty if there are none.
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
    /// 503: PostgreSQL is away or busy.
    #[error("{0}")]
    Unavailable(String),
    /// 504: the statement time-out.
    #[error("{0}")]
    TooSlow(String),
    /// 500: our fault; the log knows more than the client should.
    #[error("the answer could not be made; the log has the details under this requestId")]
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
        match self {
            Self::Unreadable(_) => {
                (StatusCode::BAD_REQUEST, "unreadable-request", "The request cannot be read")
            }
            Self::UnknownParameter(_) => {
                (StatusCode::BAD_REQUEST, "unknown-parameter", "A parameter is not known")
            }
            Self::RefusedValue(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-parameter", "A parameter is not valid")
            }
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "There is nothing at this address"),
            Self::MethodNotAllowed { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This address has no such method")
            }
            Self::RequestTimeout(_) => {
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request took too long")
            }
            Self::AddressTooLong => (StatusCode::URI_TOO_LONG, "address-too-long", "The address is too long"),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                "There are too many header fields",
            ),
            Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The database does not serve at present")
            }
            Self::TooSlow(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout", "The database took too long"),
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "A fault of this service")
            }
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
        let errors = match self {
            Self::UnknownParameter(errors) | Self::RefusedValue(errors) => errors,
            _ => Vec::new(),
        };
        let problem =
            Problem::new(status, kind, title).about(detail, errors).of_request(instance, request_id);
        let mut response = problem.into_response();
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

impl poem::error::ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.status()
    }
}

impl From<QueryFailure> for ApiError {
    fn from(failure: QueryFailure) -> Self {
        match failure {
            QueryFailure::Away(_)
            | QueryFailure::NotMigrated(_)
            | QueryFailure::Busy
            | QueryFailure::NoRoom => Self::Unavailable(failure.to_string()),
            QueryFailure::TooSlow => Self::TooSlow(failure.to_string()),
            QueryFailure::Defect(fault) => {
                tracing::error!("a query failed by our own fault: {fault}");
                Self::Internal
            }
        }
    }
}

/// `windowMinutes is 3, allowed is 5 to 10080; limit is …`
fn details(errors: &[FieldError]) -> String {
    let sentences: Vec<_> =
        errors.iter().map(|e| format!("{} {}; allowed: {}", e.parameter, e.detail, e.allowed)).collect();
    sentences.join(". ")
}
