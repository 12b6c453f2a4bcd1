//! What every request goes through: an id, a span, a problem document for whatever refuses, metrics and a log line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use poem::error::{MethodNotAllowedError, NotFoundError, ParsePathError};
use poem::http::{HeaderValue, Method, StatusCode};
use poem::{Endpoint, Error, PathPattern, Request, Response, Result};
use tracing::Instrument as _;
use uuid::Uuid;

use super::cors::Origins;
use super::error::ApiError;
use super::parameters::decode;
use super::server;
use crate::metrics;

/// A panic, on its way from `CatchPanic` to the document.
#[derive(Clone, Copy)]
pub struct Panicked;

/// What of it depends on settings.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Whose pages may ask.
    pub origins: Origins,
    /// The methods of `…/events`.
    pub events_allow: &'static str,
}

/// Around the whole app.
///
/// # Errors
/// Never: a refusal is an answer.
pub async fn handle<E: Endpoint<Output = Response>>(
    app: Arc<E>,
    mut request: Request,
    frame: Arc<Frame>,
) -> Result<Response> {
    let arrived = Instant::now();
    let active = Active::begin();
    let id = request_id(&request);
    let method = label(request.method());
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", request.id = %id, http.method = method, http.path = path);
    let origin = frame.origins.allow(&request);
    server::trim_slash(&mut request);
    // HEAD is GET without the body, which the HTTP library leaves out of the answer.
    if request.method() == Method::HEAD {
        request.set_method(Method::GET);
    }
    let readable = server::within_limits(&request).and_then(|()| decodable(&request));
    let outcome = match (readable, frame.origins.preflight(&request)) {
        (Err(refusal), _) => Err(refusal.into()),
        (Ok(()), Some(answer)) => Ok(answer),
        (Ok(()), None) => app.call(request).instrument(span.clone()).await,
    };
    let _in_span = span.enter();
    let route = match &outcome {
        Ok(response) => response.data::<PathPattern>(),
        Err(error) => error.data::<PathPattern>(),
    };
    let route = route.map_or_else(|| "none".to_owned(), |pattern| pattern.0.to_string());
    let mut response = match outcome {
        Ok(response) if response.data::<Panicked>().is_some() => {
            ApiError::Internal.into_response(path, id.clone())
        }
        Ok(response) => response,
        // Whoever made a response of an error knew what to say.
        Err(error) if error.is_from_response() => error.into_response(),
        Err(error) => {
            api_error(error, method, &path, allow(&route, frame.events_allow)).into_response(path, id.clone())
        }
    };
    drop(active);
    let took = arrived.elapsed();
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert("x-request-id", id);
    }
    if let Ok(timing) = HeaderValue::try_from(format!("total;dur={:.3}", took.as_secs_f64() * 1000.0)) {
        headers.insert("server-timing", timing);
    }
    frame.origins.mark(origin, headers);
    log(&route, response.status(), took);
    metrics::http_request(method, route, response.status().as_u16(), took);
    Ok(response)
}

/// Counts a request as long as it is there, also one whose client goes away.
struct Active;

impl Active {
    fn begin() -> Self {
        metrics::active_requests(1.0);
        Self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        metrics::active_requests(-1.0);
    }
}

/// The client's, if it is short and plain: it goes into the log. Else a new one.
fn request_id(request: &Request) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
    };
    let mut sent = request.headers().get_all("x-request-id").iter().filter_map(|id| id.to_str().ok());
    sent.find(sane).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// A closed set for the metric: a method is any word that a client likes.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn decodable(request: &Request) -> Result<(), ApiError> {
    let refused = |part| Err(ApiError::Unreadable(format!("the {part} is not percent-encoded UTF-8")));
    if decode(request.uri().path()).is_none() {
        return refused("path");
    }
    let query = request.uri().query();
    if query.is_some_and(|query| decode(query).is_none()) { refused("query string") } else { Ok(()) }
}

/// The methods of a route; the library does not tell.
fn allow(route: &str, events: &'static str) -> &'static str {
    if route.ends_with("/v1/analytics/events") { events } else { "GET, HEAD" }
}

/// Ours as it is; the library's own as ours.
fn api_error(error: Error, method: &str, path: &str, allow: &'static str) -> ApiError {
    let error = match error.downcast::<ApiError>() {
        Ok(ours) => return ours,
        Err(error) => error,
    };
    if error.is::<NotFoundError>() || error.is::<ParsePathError>() {
        return ApiError::NotFound(path.to_owned());
    }
    if error.is::<MethodNotAllowedError>() {
        let has = if allow.is_empty() { "no method here" } else { allow };
        return ApiError::MethodNotAllowed { allow, detail: format!("{path} has {has}, not {method}") };
    }
    let status = error.status();
    if status.is_server_error() {
        tracing::error!("{error}");
        return ApiError::Internal;
    }
    if status == StatusCode::BAD_REQUEST {
        return ApiError::Unreadable(error.to_string());
    }
    ApiError::Other { status, detail: error.to_string() }
}

/// One line a request. Probes and scrapes, and the refusals of an outage, which has its own two lines, are details.
fn log(route: &str, status: StatusCode, took: Duration) {
    let (status, milliseconds) = (status.as_u16(), took.as_millis());
    let detail = status == 503 || route == "/metrics" || route.starts_with("/health");
    if detail {
        tracing::debug!(http.route = route, http.status = status, "answered {status} in {milliseconds} ms");
    } else {
        tracing::info!(http.route = route, http.status = status, "answered {status} in {milliseconds} ms");
    }
}
