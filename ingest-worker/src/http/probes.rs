//! Probes: live tells whether the process runs, ready whether it can do its work.

use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use super::Tag;
use super::answer::Json;
use crate::health::Health;

/// How the service is.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct HealthStatus {
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

impl HealthStatus {
    fn up() -> Json<Self> {
        Json(Self { status: "UP".to_owned(), reason: None })
    }
}

/// A probe's answer.
#[derive(ApiResponse)]
enum Probe {
    /// It works.
    #[oai(status = 200)]
    Up(Json<HealthStatus>),
    /// It does not, with every reason.
    #[oai(status = 503)]
    Down(Json<HealthStatus>),
}

/// The routes.
pub(super) struct ProbesApi {
    health: Health,
}

impl ProbesApi {
    pub(super) fn new(health: Health) -> Self {
        Self { health }
    }

    fn readiness(&self) -> Probe {
        let reasons: Vec<_> =
            self.health.reasons().into_iter().map(|(about, reason)| format!("{about}: {reason}")).collect();
        if reasons.is_empty() {
            return Probe::Up(HealthStatus::up());
        }
        Probe::Down(Json(HealthStatus { status: "DOWN".to_owned(), reason: Some(reasons.join("; ")) }))
    }
}

#[OpenApi(tag = "Tag::Operation")]
impl ProbesApi {
    /// Can it do its work?
    ///
    /// As `/health/ready`; kept from the original service.
    #[oai(path = "/health", method = "get", operation_id = "getHealth")]
    async fn health(&self) -> Probe {
        self.readiness()
    }

    /// Does the process run?
    ///
    /// Never depends on PostgreSQL or Kafka: a restart would not bring them back.
    #[oai(path = "/health/live", method = "get", operation_id = "getLiveness")]
    async fn live(&self) -> Json<HealthStatus> {
        HealthStatus::up()
    }

    /// Can it do its work?
    ///
    /// `reason` names what keeps it from that: PostgreSQL, Kafka, or a partition that stands still. A worker to which
    /// Kafka assigned no partition is ready.
    #[oai(path = "/health/ready", method = "get", operation_id = "getReadiness")]
    async fn ready(&self) -> Probe {
        self.readiness()
    }
}
