//! Records of every kind that can go wrong, and of no kind at all.

use super::Scenario;

/// This family.
pub const SCENARIOS: &[Scenario] = &[];
