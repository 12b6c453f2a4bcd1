//! The broker stops, dies, freezes or was never there, or has more than anybody can hold.

mod away;
mod backlog;

use futures_util::FutureExt as _;

use super::{NO_HINDRANCE, Scenario};

/// This family.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "broker-away",
        what: "The broker stops for more than a minute, then dies: the worker says so, waits idly and goes on by itself.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| away::stopped_and_killed(scene).boxed_local(),
    },
    Scenario {
        name: "broker-stops-while-asked",
        what: "The broker stops while its clients ask who is there, and names not even itself: they find it again.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| away::stops_while_asked(scene).boxed_local(),
    },
    Scenario {
        name: "broker-unreachable",
        what: "No broker can be reached when the worker starts: it waits, says so, and works as soon as one can.",
        rounds_quick: 1,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| away::unreachable(scene).boxed_local(),
    },
    Scenario {
        name: "broker-frozen",
        what: "The broker freezes for a minute with all connections open: the worker says so and waits idly.",
        rounds_quick: 0,
        rounds_full: 1,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| away::frozen(scene).boxed_local(),
    },
    Scenario {
        name: "backlog-of-many-partitions",
        what: "More than a hundred partitions wait with a backlog: memory stays within its bound.",
        rounds_quick: 0,
        rounds_full: 1,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| backlog::many_partitions(scene).boxed_local(),
    },
    Scenario {
        name: "backlog-of-a-slow-postgres",
        what: "Millions of records wait while PostgreSQL is slow, silent and away: bounded, idle, and still in the group.",
        rounds_quick: 0,
        rounds_full: 1,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| backlog::slow_postgres(scene).boxed_local(),
    },
];
