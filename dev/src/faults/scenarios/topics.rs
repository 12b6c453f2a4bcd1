//! Topics are deleted, made anew, cut short, grow and are written by transactions.

use super::Scenario;

/// This family.
pub const SCENARIOS: &[Scenario] = &[];
