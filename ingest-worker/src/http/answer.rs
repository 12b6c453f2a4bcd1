//! What answers are made of: documented for OpenAPI, serialized by serde in the order of the fields.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde::Serialize;

use super::error::ApiError;
use crate::problem::{self, Problem};

/// A JSON answer.
pub(super) struct Json<T>(pub(super) T);

impl<T: Type + Serialize> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                let mut response = body.with_content_type("application/json").into_response();
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            Err(fault) => {
                tracing::error!("an answer could not be written as JSON: {fault}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

impl<T: Type + Serialize> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![response(200, "The answer", Self::CONTENT_TYPE, T::schema_ref())] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// What the command may be refused with.
impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let refusals = [
            (400, "The body is not a JSON object, or the request names a parameter: there are none"),
            (408, "The body did not come to its end in time"),
            (413, "The event is too large"),
            (414, "Path and query are too long"),
            (415, "The body is not `application/json`, or encoded"),
            (422, "Fields are refused, all of them named in `errors`; or PostgreSQL refused the event"),
            (431, "There are too many header fields"),
            (500, "A fault of this service; the log has the details under `requestId`"),
            (
                503,
                "The event was not accepted, or not committed in time: then `detail` has the id to repeat it with. \
                 `Retry-After` says when",
            ),
        ];
        let document = |(status, text)| response(status, text, problem::CONTENT_TYPE, Problem::schema_ref());
        MetaResponses { responses: refusals.map(document).into() }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

/// A response for the OpenAPI document.
pub(super) fn response(
    status: u16,
    description: &'static str,
    content_type: &'static str,
    schema: MetaSchemaRef,
) -> MetaResponse {
    let content = vec![MetaMediaType { content_type, schema }];
    MetaResponse { description, status: Some(status), status_range: None, content, headers: vec![] }
}
