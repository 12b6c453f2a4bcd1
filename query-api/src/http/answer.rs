//! What answers are made of. poem-openapi would send them through `serde_json::Value` and lose digits of numbers; here
//! they are documented for OpenAPI and serialized by serde alone.

use std::borrow::Cow;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload as OpenApiPayload;
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::error::ApiError;
use crate::problem::{self, Problem};

/// A JSON answer.
pub struct Json<T>(pub T);

impl<T: Type + Serialize> OpenApiPayload for Json<T> {
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

/// A JSON answer that may be long: documented as `T`, written by somebody else.
pub struct Written<T> {
    body: Body,
    shape: PhantomData<T>,
}

impl<T> Written<T> {
    /// JSON of this shape.
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self { body, shape: PhantomData }
    }
}

impl<T: Send> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        let mut response = self.body.with_content_type("application/json").into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl<T: Type + Serialize> ApiResponse for Written<T> {
    fn meta() -> MetaResponses {
        Json::<T>::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// What a route that reads from PostgreSQL may refuse with.
impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let refusals = [
            (400, "The request cannot be read, or names a parameter that is not known or comes twice"),
            (414, "Path and query are too long"),
            (422, "Values of parameters are refused, all of them named in `errors`"),
            (431, "There are too many header fields"),
            (500, "A fault of this service; the log has the details under `requestId`"),
            (503, "PostgreSQL is away or all connections are busy; `Retry-After` says when to try again"),
            (504, "PostgreSQL did not finish within the statement time-out"),
        ];
        let document = |(status, text)| response(status, text, problem::CONTENT_TYPE, Problem::schema_ref());
        MetaResponses { responses: refusals.map(document).into() }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

/// A response for the OpenAPI document.
#[must_use]
pub fn response(
    status: u16,
    description: &'static str,
    content_type: &'static str,
    schema: MetaSchemaRef,
) -> MetaResponse {
    let content = vec![MetaMediaType { content_type, schema }];
    MetaResponse { description, status: Some(status), status_range: None, content, headers: vec![] }
}

/// An instant, written as everywhere in this service.
#[derive(Debug, Clone, Copy)]
pub struct Instant(pub DateTime<Utc>);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&shared::instant::format(self.0))
    }
}

/// What the producer said. Stands for it in the document; its text is written as PostgreSQL gives it, every digit kept.
#[derive(Debug)]
pub struct Payload;

/// The document's example.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::json!({"score": 97.5, "studentId": "s-42"}).serialize(serializer)
    }
}

/// Whose data it is: null is no tenant, an empty text is one.
#[derive(Debug, Serialize)]
pub struct TenantId(pub Option<String>);

/// The document's side of a type that serde writes.
macro_rules! documented {
    ($name:ident, $schema:expr) => {
        impl Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::empty())
            }
        }

        impl ToJSON for $name {
            fn to_json(&self) -> Option<Value> {
                serde_json::to_value(self).ok()
            }
        }

        // poem-openapi demands it of an object's members, but an answer is never read.
        impl ParseFromJSON for $name {
            fn parse_from_json(_: Option<Value>) -> ParseResult<Self> {
                Err(ParseError::custom("is written only"))
            }
        }
    };
}

documented!(
    Instant,
    MetaSchema {
        example: Some(Value::from("2025-11-16T18:14:00+00:00")),
        ..MetaSchema::new_with_format("string", "date-time")
    }
);
documented!(Payload, MetaSchema::new("object"));
documented!(TenantId, MetaSchema { nullable: true, ..MetaSchema::new("string") });
