//! The route table. In comes a request, out goes an answer or a problem document. A route reads parameters, calls one
//! handler and maps the result.

pub mod server;
pub mod cors;
pub mod request;
pub mod parameters;
pub mod answer;
pub mod error;
pub mod summary;
pub mod events;
pub mod page;
pub mod long_answers;
pub mod connections;
pub mod docs;

use std::any::Any;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem::middleware::CatchPanic;
use poem::web::Redirect;
use poem::{Endpoint, EndpointExt as _, IntoResponse as _, Response, Route, get, handler};
use poem_openapi::{OpenApi, OpenApiService, Tags};
use tokio_util::task::TaskTracker;

use self::connections::Connections;
use self::cors::Origins;
use self::events::EventsApi;
use self::long_answers::{LongAnswers, LongAnswersConfig};
use self::parameters::WindowMinutes;
use self::request::{Frame, Panicked};
use self::summary::SummaryApi;
use crate::config::Config;
use crate::faults::Faults;
use crate::health::HealthApi;
use crate::metrics;
use crate::projections::connection::DatabaseConfig;
use crate::projections::database::Database;
use crate::queries::recent_events::RecentEventsHandler;
use crate::queries::summary::SummaryHandler;
use crate::settings::{Setting, Values};
use crate::units;

const HOST: Setting = Setting::new("ANALYTICS_SERVICE_HOST", "ADDRESS", "127.0.0.1")
    .help("Where to listen; 0.0.0.0 is everywhere");
const PORT: Setting =
    Setting::new("ANALYTICS_SERVICE_PORT", "PORT", "8000").help("Its port; 0 takes a free one");
const INGEST_PUBLIC_URL: Setting = Setting::new("ANALYTICS_INGEST_PUBLIC_URL", "URL", "")
    .help("Where clients reach ingest-worker: events POSTed here are sent there by a redirect");
const CORS_ORIGINS: Setting = Setting::new("ANALYTICS_CORS_ORIGINS", "ORIGINS", "").help(
    "Origins whose pages may use the API from a browser, separated by commas; * is all, none without it",
);
const WINDOW_MINUTES: Setting = Setting::new("ANALYTICS_METRICS_WINDOW_MINUTES", "MINUTES", "60")
    .help("The window of a summary that does not say windowMinutes");

/// What this room reads.
pub const SETTINGS: &[Setting] = &[HOST, PORT, CORS_ORIGINS, INGEST_PUBLIC_URL, WINDOW_MINUTES];

/// For the OpenAPI document, which answers nothing.
const NO_ANSWERS: LongAnswersConfig =
    LongAnswersConfig { payload_max_bytes: 0, memory: 0, client_timeout: std::time::Duration::ZERO };

/// Routes and address.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen.
    pub host: String,
    /// 0 takes a free one.
    pub port: u16,
    /// Limits of long answers.
    pub long_answers: LongAnswersConfig,
    origins: Origins,
    ingest_public_url: Option<String>,
    window_minutes: u32,
}

impl HttpConfig {
    /// Checks the settings.
    pub fn check(values: &Values, faults: &mut Faults) -> Option<Self> {
        let host = faults.take(values, &HOST, units::host);
        let port = faults.take(values, &PORT, |text| units::number(text, 0..=u16::MAX));
        let origins = faults.read_optional(values, &CORS_ORIGINS, Origins::ALLOWED, Origins::parse);
        let url = "an address such as https://analytics.example.org";
        let ingest_public_url = faults.read_optional(values, &INGEST_PUBLIC_URL, url, |text| {
            let uri: poem::http::Uri = text.parse().ok()?;
            let plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
            plain.then(|| text.trim_end_matches('/').to_owned())
        });
        let minutes = WindowMinutes::MIN..=WindowMinutes::MAX;
        let window_minutes = faults.take(values, &WINDOW_MINUTES, |text| units::number(text, minutes));
        let long_answers = LongAnswersConfig::check(values, faults);
        Some(Self {
            host: host?,
            port: port?,
            long_answers: long_answers?,
            origins: origins?.unwrap_or_default(),
            ingest_public_url: ingest_public_url?,
            window_minutes: window_minutes?,
        })
    }
}

/// How the document groups routes.
#[derive(Tags)]
pub enum Tag {
    /// What happened
    Analytics,
    /// Probes and figures for those who run the service
    Operation,
}

/// Everything that this process answers.
pub fn app(
    config: &Config,
    database: Arc<Database>,
    tasks: TaskTracker,
    connections: Arc<Connections>,
    now: fn() -> DateTime<Utc>,
) -> impl Endpoint<Output = Response> + use<> {
    let answers = Arc::new(LongAnswers::new(config.http.long_answers, tasks, connections));
    let analytics = || service(analytics_api(&config.http, &database, &answers, now));
    let events_allow = if config.http.ingest_public_url.is_some() { "POST" } else { "" };
    let frame = Frame { origins: config.http.origins.clone(), events_allow };
    let routes = Route::new()
        .nest_no_strip("/v1/analytics", analytics())
        // The platform's gateway forwards /api/v1/analytics/** as it is.
        .nest("/api", analytics())
        .nest_no_strip("/health", service(HealthApi::new(database.clone())))
        .at("/metrics", get(scrape.data(database)))
        .at("/v1/openapi.json", get(docs::document))
        .at("/docs", get(docs::page))
        .at("/docs/:file", get(docs::script))
        .at("/", get(to_docs));
    guarded(routes, frame)
}

/// Whatever happens inside, a panic included, there is an answer.
fn guarded(routes: Route, frame: Frame) -> impl Endpoint<Output = Response> {
    let frame = Arc::new(frame);
    let answer_panic = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!("a panic while answering: {}", text.unwrap_or("without a text"));
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.set_data(Panicked);
        response
    };
    routes
        .with(CatchPanic::new().with_handler(answer_panic))
        .around(move |app, request| request::handle(app, request, Arc::clone(&frame)))
}

fn analytics_api(
    config: &HttpConfig,
    database: &Arc<Database>,
    answers: &Arc<LongAnswers>,
    now: fn() -> DateTime<Utc>,
) -> (SummaryApi, EventsApi) {
    let recent = RecentEventsHandler::new(database.clone(), answers.config.payload_max_bytes);
    let summary = SummaryHandler::new(database.clone(), answers.budget.clone());
    (
        SummaryApi::new(summary, answers.clone(), config.window_minutes, now),
        EventsApi::new(recent, answers.clone(), config.ingest_public_url.clone()),
    )
}

fn service<T: OpenApi + 'static>(api: T) -> OpenApiService<T, ()> {
    OpenApiService::new(api, "Analytics: reading", env!("CARGO_PKG_VERSION"))
        .description(include_str!("introduction.md"))
}

fn whole_service() -> OpenApiService<(SummaryApi, EventsApi, HealthApi), ()> {
    let database = Arc::new(Database::new(&DatabaseConfig::nowhere()));
    let config = HttpConfig {
        host: String::new(),
        port: 0,
        long_answers: NO_ANSWERS,
        origins: Origins::default(),
        ingest_public_url: None,
        window_minutes: 60,
    };
    let answers = Arc::new(LongAnswers::new(NO_ANSWERS, TaskTracker::new(), Arc::default()));
    let (summary, events) = analytics_api(&config, &database, &answers, crate::clock::now);
    service((summary, events, HealthApi::new(database)))
}

/// The OpenAPI document, the same whatever the settings are. Inside a runtime: the routes that it describes hold a
/// pool, which connects to nothing here.
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
fn scrape(database: poem::web::Data<&Arc<Database>>) -> Response {
    database.observe();
    metrics::render().with_content_type("text/plain; version=0.0.4; charset=utf-8").into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use poem::Request;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[handler]
    fn faulty() -> &'static str {
        panic!("a test's panic")
    }

    /// What a server with little patience answers a client that sends this and then waits.
    async fn answer_to_half(sent: &[u8]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stop = CancellationToken::new();
        let (app, patience) = (guarded(Route::new(), Frame::default()), Duration::from_millis(100));
        let (open, drain) = (std::convert::identity, Duration::from_secs(1));
        let server = server::serve(listener, open, app, stop.clone(), drain, patience);
        let asked = async {
            client.write_all(sent).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            drop(client);
            stop.cancel();
            answer
        };
        tokio::join!(server, asked).1
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_408_and_an_idle_connection_is_closed() {
        let answer = answer_to_half(b"GET /health HT").await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
        assert!(answer.contains(r#""type":"/docs#description/request-timeout""#), "{answer}");
        assert_eq!(answer_to_half(b"").await, "");
        let answer = answer_to_half(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for (text, expected) in [
            ("https://app.example.org", "https://app.example.org"),
            (
                " HTTPS://App.Example.org:443 , http://localhost:3000 ",
                "https://app.example.org,http://localhost:3000",
            ),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(Origins::parse(text), Origins::parse(expected), "{text}");
            assert!(Origins::parse(text).is_some(), "{text}");
        }
        for text in [
            "app.example.org",
            "https://app.example.org/",
            "https://app.example.org/page",
            "https://app.example.org?a",
            "https://user:word@app.example.org",
            "https://a.example.org,*",
            "https://*.example.org",
            "https://a.example.org,,https://b.example.org",
            "ftp://a.example.org",
            "null",
        ] {
            assert_eq!(Origins::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_document_that_tells_nothing() {
        let app = guarded(Route::new().at("/faulty", get(faulty)), Frame::default());
        let request = Request::builder().uri_str("/faulty").header("x-request-id", "r-1").finish();
        let mut response = app.call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.content_type(), Some("application/problem+json"));
        let problem: Value = response.take_body().into_json().await.unwrap();
        assert_eq!((&problem["requestId"], &problem["instance"]), (&"r-1".into(), &"/faulty".into()));
        assert!(!problem.to_string().contains("a test's panic"));
    }
}
