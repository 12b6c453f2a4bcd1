//! The broker stops, dies, freezes or was never there.

use super::Scenario;

/// This family.
pub const SCENARIOS: &[Scenario] = &[];
