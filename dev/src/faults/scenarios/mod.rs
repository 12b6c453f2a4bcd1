//! The catalogue: what is done to the service, a file per family.

mod crashes;
mod membership;
mod kafka;
mod topics;
mod postgres;
mod network;
mod content;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

use super::Scene;

/// Something that is done to the service while records flow. What must be true afterwards is the same for all: the
/// runner asks the oracle.
pub struct Scenario {
    /// For the command line, in words with hyphens.
    pub name: &'static str,
    /// One sentence.
    pub what: &'static str,
    /// Rounds in `make test`; 0 leaves it out there.
    pub rounds_quick: u32,
    /// Rounds otherwise.
    pub rounds_full: u32,
    /// It disturbs servers that others use too: nothing else runs meanwhile.
    pub alone: bool,
    /// Why it cannot be run on this machine, if so.
    pub hindrance: fn() -> Option<String>,
    /// Does it, [`Scene::rounds`] times. What is left running is killed.
    pub run: for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Result<()>>,
}

/// Nothing in the way.
pub const NO_HINDRANCE: fn() -> Option<String> = || None;

/// All scenarios, in the order in which they are run.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        crashes::SCENARIOS,
        membership::SCENARIOS,
        kafka::SCENARIOS,
        topics::SCENARIOS,
        postgres::SCENARIOS,
        network::SCENARIOS,
        content::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_words_with_hyphens_and_differ() {
        let mut seen = HashSet::new();
        for scenario in all() {
            assert!(seen.insert(scenario.name), "{} is there twice", scenario.name);
            assert!(
                scenario
                    .name
                    .chars()
                    .all(|sign| sign.is_ascii_lowercase() || sign == '-' || sign.is_ascii_digit())
            );
            // It becomes a part of a database's name, which may have 63 characters.
            assert!(scenario.name.len() <= 40, "{} is too long", scenario.name);
            assert!(scenario.what.ends_with('.') && scenario.rounds_full > 0);
        }
    }
}
