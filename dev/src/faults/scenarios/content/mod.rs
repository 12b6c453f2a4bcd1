//! Records of every kind that can go wrong, and of no kind at all.

mod canonical;
mod doors;
mod poison;
mod repeats;
mod sizes;
mod times;

use futures_util::FutureExt as _;

use super::{NO_HINDRANCE, Scenario};

/// This family.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "poison-in-every-place",
        what: "Everything that jsonb refuses, alone, first, in the middle and last in a batch, and all together.",
        rounds_quick: 0,
        rounds_full: 1,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| poison::in_every_place(scene).boxed_local(),
    },
    Scenario {
        name: "much-poison",
        what: "Nothing but poison, and every second record poison: it goes on at a tenth of its speed or more.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| poison::much(scene).boxed_local(),
    },
    Scenario {
        name: "repeated-events",
        what: "Events come again: in one batch, in later ones, and in several lanes at once in opposite order.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| repeats::repeated(scene).boxed_local(),
    },
    Scenario {
        name: "replay",
        what: "Another group reads everything again while records flow.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| repeats::replayed(scene).boxed_local(),
    },
    Scenario {
        name: "shuffled-and-late",
        what: "Events come in any order: a month late, an hour early, at midnight, month's end, when clocks are changed.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| times::shuffled(scene).boxed_local(),
    },
    Scenario {
        name: "both-doors",
        what: "The same events come over HTTP and from Kafka at once.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| doors::both(scene).boxed_local(),
    },
    Scenario {
        name: "large-records",
        what: "Records are larger than one fetch, as large as Kafka takes, and one byte over our own limit.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| sizes::large(scene).boxed_local(),
    },
];
