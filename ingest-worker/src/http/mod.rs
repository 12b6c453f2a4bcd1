//! The second door: a request comes in, an answer or a problem document goes out; the events of commands go to
//! `commands`.

mod settings;
mod server;
mod cors;
mod request;
mod media;
mod schema;
mod answer;
mod error;
mod events;
mod probes;
mod docs;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use poem::http::StatusCode;
use poem::middleware::CatchPanic;
use poem::web::{Data, Redirect};
use poem::{Endpoint, EndpointExt as _, IntoResponse as _, Response, Route, get, handler};
use poem_openapi::{OpenApi, OpenApiService, Tags};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::cors::Origins;
use self::events::EventsApi;
use self::probes::ProbesApi;
use self::request::Panicked;
pub use self::settings::{HttpArgs, HttpSettings};
use crate::commands::CommandSender;
use crate::config::ServiceSettings;
use crate::decode::Limits;
use crate::health::Health;
use crate::metrics;
use crate::normalize::Normalizer;

/// What the routes need.
#[derive(Clone)]
pub struct State {
    /// The lane of commands.
    pub commands: CommandSender,
    /// Makes events of commands.
    pub normalizer: Arc<Normalizer>,
    /// How large and deep an event may be.
    pub limits: Limits,
    /// Whose pages may use the API.
    pub origins: Origins,
    /// Whether the process can do its work.
    pub health: Health,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

/// How the document groups routes.
#[derive(Tags)]
enum Tag {
    /// What happened
    Analytics,
    /// Probes for those who run the service
    Operation,
}

/// Everything that this process answers.
pub fn app(state: State) -> impl Endpoint<Output = Response> + use<> {
    let events = || service(EventsApi::new(&state));
    let origins = Arc::new(state.origins.clone());
    Route::new()
        .nest_no_strip("/v1/analytics", events())
        // The platform's gateway forwards /api/v1/analytics/** as it is.
        .nest("/api", events())
        .nest_no_strip("/health", service(ProbesApi::new(state.health)))
        .at("/metrics", get(scrape.data(state.metrics)))
        .at("/v1/openapi.json", get(docs::document))
        .at("/docs", get(docs::page))
        .at("/docs/:file", get(docs::script))
        .at("/", get(to_docs))
        .with(CatchPanic::new().with_handler(|panic: Box<dyn Any + Send>| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!("a panic while answering: {}", text.unwrap_or("without a text"));
            let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
            response.set_data(Panicked);
            response
        }))
        .around(move |app, request| request::handle(app, request, Arc::clone(&origins)))
}

/// Takes the address, before anything else is begun.
///
/// # Errors
/// It is taken or not ours.
pub async fn bind(service: &ServiceSettings) -> anyhow::Result<TcpListener> {
    let (host, port) = (service.host.as_str(), service.port);
    let listener = TcpListener::bind((host, port)).await;
    let listener = listener.with_context(|| {
        format!("cannot listen on {host}:{port} (ANALYTICS_SERVICE_HOST, ANALYTICS_INGEST_SERVICE_PORT)")
    })?;
    tracing::info!(address = %listener.local_addr()?, "listening: POST /v1/analytics/events, /health, /metrics, /docs");
    Ok(listener)
}

/// Answers until `stop`; open requests then have `drain`.
pub async fn serve<E>(listener: TcpListener, app: E, stop: CancellationToken, drain: Duration)
where
    E: Endpoint<Output = Response> + 'static,
{
    server::serve(listener, std::convert::identity, app, stop, drain, server::HEAD_TIMEOUT).await;
}

fn service<T: OpenApi + 'static>(api: T) -> OpenApiService<T, ()> {
    OpenApiService::new(api, "Analytics: writing", env!("CARGO_PKG_VERSION"))
        .description(include_str!("introduction.md"))
}

fn whole_service() -> OpenApiService<(EventsApi, ProbesApi), ()> {
    service((EventsApi::nowhere(), ProbesApi::new(Health::default())))
}

/// The OpenAPI document, the same whatever the settings are.
#[must_use]
pub fn openapi() -> String {
    whole_service().spec()
}

fn scalar_html() -> String {
    whole_service().scalar_html()
}

#[handler]
fn to_docs() -> Redirect {
    Redirect::temporary("/docs")
}

#[handler]
fn scrape(handle: Data<&PrometheusHandle>) -> Response {
    metrics::render(&handle).with_content_type("text/plain; version=0.0.4; charset=utf-8").into_response()
}
