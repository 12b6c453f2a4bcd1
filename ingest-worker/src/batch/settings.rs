use std::time::Duration;

use crate::config::Faults;

/// How records are gathered before they are written.
#[derive(clap::Args)]
#[command(next_help_heading = "Batches and memory")]
pub struct BatchArgs {
    /// Batches of Kafka records written side by side; a partition keeps its lane
    #[arg(long, env = "ANALYTICS_LANES", default_value = "2", value_name = "N")]
    lanes: String,
    /// A batch is written when it holds this many events
    #[arg(long, env = "ANALYTICS_BATCH_MAX_EVENTS", default_value = "10000", value_name = "N")]
    batch_max_events: String,
    /// The same while there is a backlog
    #[arg(long, env = "ANALYTICS_BATCH_BACKLOG_MAX_EVENTS", default_value = "50000", value_name = "N")]
    batch_backlog_max_events: String,
    /// A batch is written when its records and events take this much memory
    #[arg(long, env = "ANALYTICS_BATCH_MAX_BYTES", default_value = "16MiB", value_name = "SIZE")]
    batch_max_bytes: String,
    /// A batch is written this long after its first record
    #[arg(long, env = "ANALYTICS_BATCH_LINGER", default_value = "50ms", value_name = "DURATION")]
    batch_linger: String,
    /// Memory for everything between Kafka and the commit; a third of it is the Kafka client's
    #[arg(long, env = "ANALYTICS_MEMORY_BUDGET", default_value = "64MiB", value_name = "SIZE")]
    memory_budget: String,
}

/// [`BatchArgs`], checked.
#[derive(Debug, Clone)]
pub struct BatchSettings {
    /// Batches of Kafka records written side by side.
    pub lanes: usize,
    /// Events after which a batch is written.
    pub max_events: usize,
    /// The same while there is a backlog.
    pub backlog_max_events: usize,
    /// Bytes of memory after which a batch is written.
    pub max_bytes: usize,
    /// How long after its first record a batch is written.
    pub linger: Duration,
    /// Bytes for everything between fetch and commit.
    pub memory_budget: usize,
}

impl BatchSettings {
    /// Bytes that each lane may hold: the Kafka client has a third of the budget.
    #[must_use]
    pub fn lane_bytes(&self) -> usize {
        self.memory_budget / 3 * 2 / self.lanes
    }
}

impl BatchArgs {
    /// Notes each fault.
    pub fn check(self, faults: &mut Faults) -> BatchSettings {
        let settings = BatchSettings {
            lanes: faults.number("ANALYTICS_LANES", &self.lanes, 1..=64),
            max_events: faults.number("ANALYTICS_BATCH_MAX_EVENTS", &self.batch_max_events, 1..=1_000_000),
            backlog_max_events: faults.number(
                "ANALYTICS_BATCH_BACKLOG_MAX_EVENTS",
                &self.batch_backlog_max_events,
                1..=1_000_000,
            ),
            max_bytes: faults.size("ANALYTICS_BATCH_MAX_BYTES", &self.batch_max_bytes, 64 << 10..=1 << 30),
            linger: faults.duration(
                "ANALYTICS_BATCH_LINGER",
                &self.batch_linger,
                Duration::ZERO..=Duration::from_secs(60),
            ),
            memory_budget: faults.size("ANALYTICS_MEMORY_BUDGET", &self.memory_budget, 12 << 20..=64 << 30),
        };
        if settings.max_events > settings.backlog_max_events && settings.backlog_max_events > 0 {
            faults.error(format!(
                "ANALYTICS_BATCH_BACKLOG_MAX_EVENTS is `{}`; allowed is ANALYTICS_BATCH_MAX_EVENTS ({}) or more",
                settings.backlog_max_events, settings.max_events
            ));
        }
        // A third is the Kafka client's, and no batch may want all of what the lanes share.
        if settings.max_bytes > settings.memory_budget / 3 && settings.memory_budget > 0 {
            faults.error(format!(
                "ANALYTICS_BATCH_MAX_BYTES is `{}`; allowed is a third of ANALYTICS_MEMORY_BUDGET ({}) at most",
                self.batch_max_bytes, self.memory_budget
            ));
        }
        settings
    }
}
