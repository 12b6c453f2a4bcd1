//! The way of a question: a route reads it, a handler answers it from projections, all in one read-only snapshot.
//!
//! Rooms in walking order, then the house's services. Nothing here writes; PostgreSQL is opened with a role that cannot.

pub mod http;
pub mod queries;
pub mod projections;

pub mod check;
pub mod screen;
pub mod postgres;
pub mod settings;
pub mod faults;
pub mod config;
pub mod environment;
pub mod units;
pub mod clock;
pub mod budget;
pub mod telemetry;
pub mod metrics;
pub mod health;
pub mod postgres_session;
pub mod problem;
pub mod shutdown;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::http::connections::Connections;
use crate::projections::database::{Database, RoleMayWrite};

/// A process that accepts requests.
pub struct Running {
    address: SocketAddr,
    tasks: TaskTracker,
    server: JoinHandle<()>,
    watch: JoinHandle<Result<(), RoleMayWrite>>,
}

/// Builds everything, looks at PostgreSQL once and begins to listen. PostgreSQL being away is no reason not to.
///
/// # Errors
/// The role in effect may write ([`RoleMayWrite`]), or the address cannot be listened on.
pub async fn start(config: Config, stop: CancellationToken) -> anyhow::Result<Running> {
    metrics::install()?;
    let database = Arc::new(Database::new(&config.database));
    let serving = database.look().await?;

    let (host, port) = (config.http.host.as_str(), config.http.port);
    let listener = TcpListener::bind((host, port)).await;
    let listener = listener.with_context(|| format!("cannot listen on {host}:{port}"))?;
    let address = listener.local_addr()?;

    let tasks = TaskTracker::new();
    tasks.spawn(metrics::upkeep(stop.clone()));
    let watch = tasks.spawn({
        let (database, stop) = (database.clone(), stop.clone());
        async move {
            let _stops_all = stop.clone().drop_guard();
            database.watch(serving, stop).await
        }
    });
    let connections = Arc::<Connections>::default();
    let app = http::app(&config, database, tasks.clone(), connections.clone(), clock::now);
    let client_timeout = config.http.long_answers.client_timeout;
    let open = move |stream| connections.open(stream, client_timeout);
    let server = tasks.spawn({
        let stop = stop.clone();
        async move {
            let _stops_all = stop.clone().drop_guard();
            http::server::serve(listener, open, app, stop, config.drain_timeout, http::server::HEAD_TIMEOUT)
                .await;
        }
    });
    tasks.close();
    tracing::info!(%address, environment = config.environment, version = env!("CARGO_PKG_VERSION"),
        "{} answers on http://{address}, pages at http://{address}/docs", config.app_name);
    Ok(Running { address, tasks, server, watch })
}

impl Running {
    /// Where it listens: with port 0 the one that was free.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a stop was asked for and open requests are answered.
    ///
    /// # Errors
    /// What stopped it, if nobody asked.
    pub async fn finished(self) -> anyhow::Result<()> {
        let server = self.server.await;
        let watch = self.watch.await;
        self.tasks.wait().await;
        watch.context("the task that watches PostgreSQL ended by a panic")??;
        server.context("the HTTP server ended by a panic")?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Serves until `stop` is cancelled and open requests are answered.
///
/// # Errors
/// As [`start`] and [`Running::finished`].
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    start(config, stop).await?.finished().await
}
