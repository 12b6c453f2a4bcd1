//! PostgreSQL restarts, runs full, locks, refuses and falls behind.

mod server;
mod restarts;
mod sessions;
mod refusals;
mod disk;
mod standby;
mod locks;
mod partitions;
mod restore;

use futures_util::FutureExt as _;

use super::{NO_HINDRANCE, Scenario};

/// This family.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "server-restarted",
        what: "PostgreSQL restarts under load, orderly and as after a loss of power.",
        rounds_quick: 2,
        rounds_full: 6,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| restarts::server_restarted(scene).boxed_local(),
    },
    Scenario {
        name: "session-killed",
        what: "A PostgreSQL session is killed, so that the server ends all others and recovers.",
        rounds_quick: 0,
        rounds_full: 5,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| restarts::session_killed(scene).boxed_local(),
    },
    Scenario {
        name: "ended-mid-copy",
        what: "PostgreSQL ends the session while a COPY is under way.",
        rounds_quick: 3,
        rounds_full: 50,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| sessions::ended_mid_copy(scene).boxed_local(),
    },
    Scenario {
        name: "ended-during-commit",
        what: "The session is ended while its COMMIT waits for a standby that is not there: stored, and an error for the worker.",
        rounds_quick: 1,
        rounds_full: 10,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| sessions::ended_during_commit(scene).boxed_local(),
    },
    Scenario {
        name: "disk-full",
        what: "The disk with the events runs full and gets more room later.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: false,
        hindrance: disk::no_small_disk,
        run: |scene| disk::disk_full(scene).boxed_local(),
    },
    Scenario {
        name: "read-only",
        what: "PostgreSQL takes no writes for a while: for open sessions, and for new ones.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| refusals::read_only(scene).boxed_local(),
    },
    Scenario {
        name: "failed-over",
        what: "The primary is gone and a synchronous standby is promoted behind the same address.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| standby::failed_over(scene).boxed_local(),
    },
    Scenario {
        name: "refused-at-the-door",
        what: "No connection is left, the password has changed, the right to connect is gone.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| refusals::refused_at_the_door(scene).boxed_local(),
    },
    Scenario {
        name: "table-locked",
        what: "A table stays locked for longer than a lock is waited for.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| locks::table_locked(scene).boxed_local(),
    },
    Scenario {
        name: "deadlocks",
        what: "A hostile session locks the rows of the counts in the opposite order, again and again.",
        rounds_quick: 1,
        rounds_full: 10,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| locks::deadlocks(scene).boxed_local(),
    },
    Scenario {
        name: "serializable",
        what: "The database's default is SERIALIZABLE, and every third advance fails as not serializable.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| locks::serializable(scene).boxed_local(),
    },
    Scenario {
        name: "partition-missing",
        what: "The partition of the month is gone, and all lanes of two workers make it at once.",
        rounds_quick: 1,
        rounds_full: 5,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| partitions::partition_missing(scene).boxed_local(),
    },
    Scenario {
        name: "partitions-dropped",
        what: "Retention drops old months while records flow.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| partitions::partitions_dropped(scene).boxed_local(),
    },
    Scenario {
        name: "partition-made-beside-readers",
        what: "A month must be made while a long query or an ANALYZE has the table in use.",
        rounds_quick: 0,
        rounds_full: 3,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| partitions::partition_made_beside_readers(scene).boxed_local(),
    },
    Scenario {
        name: "database-restored",
        what: "An older copy of the database takes its place while Kafka, and what it was told, stays.",
        rounds_quick: 1,
        rounds_full: 4,
        alone: false,
        hindrance: NO_HINDRANCE,
        run: |scene| restore::database_restored(scene).boxed_local(),
    },
    Scenario {
        name: "data-directory-restored",
        what: "PostgreSQL starts with an older copy of its data directory while Kafka goes on.",
        rounds_quick: 0,
        rounds_full: 2,
        alone: true,
        hindrance: NO_HINDRANCE,
        run: |scene| restore::data_directory_restored(scene).boxed_local(),
    },
];
