//! Probes: live tells whether the process runs, ready whether it can answer.

use std::sync::Arc;

use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use crate::http::Tag;
use crate::http::answer::Json;
use crate::projections::database::Database;

/// How the service is.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub struct HealthStatus {
    /// `UP` or `DOWN`.
    status: String,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    reason: Option<String>,
}

impl Example for HealthStatus {
    fn example() -> Self {
        Self { status: "UP".to_owned(), reason: None }
    }
}

/// A probe's answer.
#[derive(ApiResponse)]
pub enum Probe {
    /// It serves.
    #[oai(status = 200)]
    Up(Json<HealthStatus>),
    /// It does not, with the reason.
    #[oai(status = 503)]
    Down(Json<HealthStatus>),
}

/// The routes.
pub struct HealthApi {
    database: Arc<Database>,
}

impl HealthApi {
    /// Looks at this database.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    async fn readiness(&self) -> Probe {
        match self.database.trouble().await {
            None => Probe::Up(Json(HealthStatus { status: "UP".to_owned(), reason: None })),
            reason => Probe::Down(Json(HealthStatus { status: "DOWN".to_owned(), reason })),
        }
    }
}

#[OpenApi(tag = "Tag::Operation")]
impl HealthApi {
    /// Can it answer?
    ///
    /// As `/health/ready`; kept from the original service.
    #[oai(path = "/health", method = "get", operation_id = "getHealth")]
    async fn health(&self) -> Probe {
        self.readiness().await
    }

    /// Does the process run?
    ///
    /// Never depends on PostgreSQL: a restart would not bring it back.
    #[oai(path = "/health/live", method = "get", operation_id = "getLiveness")]
    async fn live(&self) -> Json<HealthStatus> {
        Json(HealthStatus { status: "UP".to_owned(), reason: None })
    }

    /// Can it answer?
    ///
    /// Asks PostgreSQL. If it is away, not migrated, or this process's role is wrong, `reason` says so.
    #[oai(path = "/health/ready", method = "get", operation_id = "getReadiness")]
    async fn ready(&self) -> Probe {
        self.readiness().await
    }
}
