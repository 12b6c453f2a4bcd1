use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use query_api::projections::connection::DatabaseConfig;
use reqwest::{Method, StatusCode};
use sqlx::{ConnectOptions as _, PgPool};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{Service, config, eventually, reader, spawn};

/// A way to PostgreSQL that can be cut and mended.
struct Way {
    from: SocketAddr,
    to: String,
    cut: CancellationToken,
    /// Of the connections that are made now.
    frozen: Arc<Mutex<CancellationToken>>,
}

impl Way {
    async fn to(pool: &PgPool) -> Self {
        let options = pool.connect_options();
        let to = format!("{}:{}", options.get_host(), options.get_port());
        let from = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { from, to, cut: CancellationToken::new(), frozen: Arc::default() }
    }

    /// From now on nothing passes, and both ends stay open.
    fn freeze(&self) {
        self.frozen.lock().unwrap().cancel();
    }

    /// The same for the connections that there are; new ones pass.
    fn forget(&self) {
        std::mem::take(&mut *self.frozen.lock().unwrap()).cancel();
    }

    async fn mend(&mut self) {
        (self.cut, self.frozen) = (CancellationToken::new(), Arc::default());
        let (cut, frozen, to) = (self.cut.clone(), Arc::clone(&self.frozen), self.to.clone());
        let listener = loop {
            // The one before may not be gone yet.
            match TcpListener::bind(self.from).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        spawn(cut.clone().run_until_cancelled_owned(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (to, frozen) = (to.clone(), frozen.lock().unwrap().clone());
                spawn(cut.clone().run_until_cancelled_owned(async move {
                    let mut server = TcpStream::connect(to).await.unwrap();
                    let copied =
                        frozen.run_until_cancelled(copy_bidirectional(&mut client, &mut server)).await;
                    if copied.is_none() {
                        std::future::pending::<()>().await;
                    }
                }));
            }
        }));
    }

    async fn through(&self, pool: &PgPool) -> DatabaseConfig {
        let mut database = reader(pool).await;
        database.connect = database.connect.host("127.0.0.1").port(self.from.port());
        database
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn postgresql_away_is_503_and_comes_back_by_itself(pool: PgPool) {
    let mut way = Way::to(&pool).await;
    // Away from the start: no reason not to start.
    let service = Service::with(way.through(&pool).await, &[]).await;
    let problem = service.problem(Method::GET, "/v1/analytics/events/recent", 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("refused"), "{problem}");
    assert_eq!(service.get("/v1/analytics/metrics/summary").await.headers()["retry-after"], "2");
    assert_eq!(service.get("/health/live").await.status(), StatusCode::OK);
    assert_eq!(service.get("/health/ready").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(service.get("/health").await.status(), StatusCode::SERVICE_UNAVAILABLE);

    for _ in 0..2 {
        way.mend().await;
        eventually("an answer", async || service.get("/v1/analytics/metrics/summary").await.status() == 200)
            .await;
        assert_eq!(service.get("/health/ready").await.status(), StatusCode::OK);

        way.cut.cancel();
        eventually("a refusal", async || service.get("/v1/analytics/metrics/summary").await.status() == 503)
            .await;
        eventually("not ready", async || service.get("/health/ready").await.status() == 503).await;
        // Known by now: nobody waits.
        let asked = Instant::now();
        service.problem(Method::GET, "/v1/analytics/events/recent", 503).await;
        assert!(asked.elapsed() < Duration::from_millis(500));
        assert_eq!(service.get("/health/live").await.status(), StatusCode::OK);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn connections_that_died_while_idle_are_replaced_without_a_word(pool: PgPool) {
    let service = Service::start(&pool).await;
    for path in ["/v1/analytics/events/recent", "/v1/analytics/metrics/summary"] {
        join_all((0..8).map(|_| service.json(path))).await;
        let ended: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND usename <> current_user",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert!(ended > 1, "{ended}");
        service.json(path).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn connections_that_the_network_forgot_while_idle_are_replaced_without_a_word(pool: PgPool) {
    let mut way = Way::to(&pool).await;
    way.mend().await;
    let service = Service::with(way.through(&pool).await, &[]).await;
    for path in ["/v1/analytics/events/recent", "/v1/analytics/metrics/summary"] {
        join_all((0..8).map(|_| service.json(path))).await;
        tokio::time::sleep(Duration::from_millis(5_100)).await; // Those idle for less than 5 s are not tested.
        way.forget();
        service.json(path).await; // All eight are found gone within the two seconds that it waits.
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn where_postgresql_has_room_for_no_more_connections_those_that_there_are_serve(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.json("/v1/analytics/events/recent").await;
    let full =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 1', current_database()); END $$";
    sqlx::query(full).execute(&pool).await.unwrap();
    let refused = reader(&pool).await.connect.connect().await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "53300");
    for path in ["/v1/analytics/events/recent", "/v1/analytics/metrics/summary"] {
        join_all((0..8).map(|_| service.json(path))).await;
    }
    assert_eq!(service.get("/health/ready").await.status(), StatusCode::OK);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_postgresql_says_of_a_statement_is_the_answer(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.json("/v1/analytics/events/recent").await;
    sqlx::query("DROP TABLE analytics_events").execute(&pool).await.unwrap();
    let problem = service.problem(Method::GET, "/v1/analytics/events/recent", 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("is not migrated"), "{problem}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_server_that_is_silent_from_the_start_is_503(pool: PgPool) {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut database = reader(&pool).await;
    database.connect = database.connect.host("127.0.0.1").port(silent.local_addr().unwrap().port());
    let service = Service::with(database, &[]).await;
    let problem = service.problem(Method::GET, "/v1/analytics/events/recent", 503).await;
    assert!(problem["detail"].as_str().unwrap().ends_with("no answer within 2 s"), "{problem}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_network_that_falls_silent_amid_a_query_is_504_then_503_and_leaves_no_connection_lost(
    pool: PgPool,
) {
    let mut way = Way::to(&pool).await;
    way.mend().await;
    let one_connection = DatabaseConfig {
        pool_size: 1,
        statement_timeout: Duration::from_millis(500),
        ..way.through(&pool).await
    };
    let service = Service::with(one_connection, &[]).await;
    service.json("/v1/analytics/metrics/summary").await;

    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let freezing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        way.freeze();
    };
    let asked = Instant::now();
    let (answer, ()) = tokio::join!(service.get("/v1/analytics/metrics/summary"), freezing);
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(asked.elapsed() < Duration::from_secs(5));
    lock.rollback().await.unwrap();
    eventually("known", async || {
        service.get("/health/ready").await.text().await.unwrap().contains("no answer within 2 s")
    })
    .await;

    way.cut.cancel();
    way.mend().await;
    eventually("an answer", async || service.get("/v1/analytics/metrics/summary").await.status() == 200)
        .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_statement_that_takes_too_long_is_504_and_no_outage(pool: PgPool) {
    let database = DatabaseConfig { statement_timeout: Duration::from_millis(300), ..reader(&pool).await };
    let service = Service::with(database, &[]).await;
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let problem = service.problem(Method::GET, "/v1/analytics/metrics/summary", 504).await;
    assert_eq!(problem["type"], "/docs#description/timeout");
    service.json("/v1/analytics/events/recent").await;
    lock.rollback().await.unwrap();
    service.json("/v1/analytics/metrics/summary").await;
}

#[sqlx::test(migrations = "../migrations")]
async fn when_all_connections_are_busy_a_request_waits_two_seconds_at_most(pool: PgPool) {
    let database = DatabaseConfig { pool_size: 1, ..reader(&pool).await };
    let service = Service::with(database, &[]).await;
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let asked = Instant::now();
        let problem = service.problem(Method::GET, "/v1/analytics/events/recent", 503).await;
        assert_eq!(problem["detail"], "all connections to PostgreSQL are busy");
        assert!(asked.elapsed() < Duration::from_secs(3));
        lock.rollback().await.unwrap();
    };
    let (slow, ()) = tokio::join!(service.get("/v1/analytics/metrics/summary"), waiting);
    assert_eq!(slow.status(), StatusCode::OK);
    service.json("/v1/analytics/events/recent").await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_answers_what_is_open_and_ends(pool: PgPool) {
    let service = Service::start(&pool).await;
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        service.stop.cancel();
        eventually("no more connections", async || TcpStream::connect(service.address).await.is_err()).await;
        lock.rollback().await.unwrap();
    };
    let (open, ()) = tokio::join!(service.get("/v1/analytics/metrics/summary"), stopping);
    assert_eq!(open.status(), StatusCode::OK);
    service.ended.await.unwrap().unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_waits_no_longer_than_the_setting(pool: PgPool) {
    let service = Service::with(reader(&pool).await, &["--drain-timeout", "500ms"]).await;
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let address = service.address;
    let open =
        spawn(async move { reqwest::get(format!("http://{address}/v1/analytics/metrics/summary")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    service.stop.cancel();
    service.ended.await.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(open.await.unwrap().is_err());
}

#[sqlx::test(migrations = "../migrations")]
async fn an_address_that_is_taken_is_said(pool: PgPool) {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(reader(&pool).await, &[]);
    config.http.port = taken.local_addr().unwrap().port();
    let fault = query_api::run(config, CancellationToken::new()).await.unwrap_err();
    assert!(format!("{fault:#}").starts_with("cannot listen on 127.0.0.1:"), "{fault:#}");
}
