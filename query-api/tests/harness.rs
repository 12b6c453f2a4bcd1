//! A service on a free port, a reader's login, events with their counts.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use query_api::config::{Config, command};
use query_api::postgres::Tls;
use query_api::projections::connection::DatabaseConfig;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The password of every login that tests make.
pub const PASSWORD: &str = "only-for-tests";

/// A service that runs in this process.
pub struct Service {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub ended: JoinHandle<anyhow::Result<()>>,
    client: reqwest::Client,
}

impl Service {
    /// With the reader's login.
    pub async fn start(pool: &PgPool) -> Self {
        Self::with(reader(pool).await, &[]).await
    }

    /// With these flags.
    pub async fn with(database: DatabaseConfig, flags: &[&str]) -> Self {
        let stop = CancellationToken::new();
        let running = query_api::start(config(database, flags), stop.clone()).await.unwrap();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let address = running.address();
        Self { address, stop, ended: spawn(running.finished()), client }
    }

    pub async fn send(&self, method: Method, path: &str) -> Response {
        self.client.request(method, format!("http://{}{path}", self.address)).send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path).await
    }

    pub async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    /// What a refused request is answered, checked for what every refusal must have.
    pub async fn problem(&self, method: Method, path: &str, status: u16) -> Value {
        let response = self.send(method, path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["requestId"], id);
        assert_eq!(problem["instance"], path.split('?').next().unwrap());
        let members: Vec<_> = problem.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = ["type", "title", "status", "detail", "instance", "errors", "requestId"];
        expected.sort_unstable();
        assert_eq!(members, expected);
        problem
    }
}

#[expect(clippy::disallowed_methods, reason = "a test ends with its tasks")]
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// All settings from defaults and flags, the database as given.
pub fn config(database: DatabaseConfig, flags: &[&str]) -> Config {
    let fixed = ["query-api", "--service-port", "0", "--postgres-user", "x", "--postgres-db", "x"];
    let matches = command().get_matches_from(fixed.iter().chain(flags));
    let mut config = Config::load(&matches).unwrap();
    config.database = database;
    config
}

/// A login for tests, in these groups; roles belong to the whole cluster, so one may be there already.
pub async fn login(pool: &PgPool, name: &str, groups: &str) -> PgConnectOptions {
    let membership = if groups.is_empty() { String::new() } else { format!("IN ROLE {groups}") };
    let made = sqlx::query(sqlx::AssertSqlSafe(format!(
        "CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {membership}"
    )));
    if let Err(fault) = made.execute(pool).await {
        let code = fault.as_database_error().and_then(|fault| fault.code()).unwrap_or_default().into_owned();
        assert!(code == "42710" || code == "23505", "{fault}");
    }
    let options: &PgConnectOptions = &pool.connect_options();
    options.clone().username(name).password(PASSWORD)
}

/// The settings of ANALYTICS_READ_DATABASE_URL with a reader's login.
pub async fn reader(pool: &PgPool) -> DatabaseConfig {
    database(login(pool, "query_api_test_reader", "analytics_reader").await)
}

pub fn database(connect: PgConnectOptions) -> DatabaseConfig {
    let tls = Tls::default();
    DatabaseConfig {
        connect,
        tls,
        steps_down: false,
        statement_timeout: Duration::from_secs(5),
        pool_size: 8,
    }
}

/// Until it holds, for a quarter of a minute.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not: {what}");
}

/// An event to store.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: Uuid,
    pub event_type: String,
    pub source: String,
    pub at: DateTime<Utc>,
    pub tenant: Option<String>,
    pub payload: String,
}

pub fn event(event_type: &str, at: &str) -> Event {
    Event {
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        source: "tests".to_owned(),
        at: at.parse().unwrap(),
        tenant: None,
        payload: "{}".to_owned(),
    }
}

/// Stores events and brings the counts up to date, as the writer does, in one transaction.
pub async fn store(pool: &PgPool, events: &[Event]) {
    for month in events.iter().map(|event| event.at) {
        sqlx::query("SELECT create_event_partition($1)").bind(month).execute(pool).await.unwrap();
    }
    let column = |value: fn(&Event) -> String| events.iter().map(value).collect::<Vec<_>>();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO analytics_events (id, event_type, source, occurred_at, tenant_id, payload)
         SELECT id, event_type, source, at, tenant, payload::jsonb
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[])
              AS events (id, event_type, source, at, tenant, payload)",
    )
    .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
    .bind(column(|event| event.event_type.clone()))
    .bind(column(|event| event.source.clone()))
    .bind(events.iter().map(|event| event.at).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.tenant.clone()).collect::<Vec<_>>())
    .bind(column(|event| event.payload.clone()))
    .execute(&mut *transaction)
    .await
    .unwrap();
    for statement in [
        "INSERT INTO event_series (tenant_id, source, event_type)
         SELECT DISTINCT tenant_id, source, event_type FROM analytics_events ON CONFLICT DO NOTHING",
        "DELETE FROM event_counts",
        "INSERT INTO event_counts (hour, series_id, shard, total, minutes)
         SELECT hour, series_id, shard, sum(events), array_agg(events::integer ORDER BY minute)
         FROM (SELECT hour, series_id, shard, minute, count(e.id) AS events
               FROM (SELECT DISTINCT date_trunc('hour', occurred_at, 'UTC') AS hour, s.id AS series_id, s.event_type,
                            s.source, s.tenant_id, shard
                     FROM analytics_events e
                     JOIN event_series s ON s.event_type = e.event_type AND s.source = e.source
                                        AND s.tenant_id IS NOT DISTINCT FROM e.tenant_id
                     CROSS JOIN generate_series(0, 1) AS shard) AS hours
               CROSS JOIN generate_series(0, 59) AS minute
               LEFT JOIN analytics_events e
                      ON e.occurred_at >= hour + make_interval(mins => minute)
                     AND e.occurred_at < hour + make_interval(mins => minute + 1)
                     AND e.event_type = hours.event_type AND e.source = hours.source
                     AND e.tenant_id IS NOT DISTINCT FROM hours.tenant_id
                     AND abs(hashtext(e.id::text)) % 2 = shard
               GROUP BY hour, series_id, shard, minute) AS minutes
         GROUP BY hour, series_id, shard",
    ] {
        sqlx::query(statement).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}
