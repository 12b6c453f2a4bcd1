//! Workers come, go, freeze and wake up.

use super::Scenario;

/// This family.
pub const SCENARIOS: &[Scenario] = &[];
