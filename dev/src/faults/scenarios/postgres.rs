//! PostgreSQL restarts, runs full, locks, refuses and falls behind.

use super::Scenario;

/// This family.
pub const SCENARIOS: &[Scenario] = &[];
