use std::time::Duration;

use crate::config::Faults;

/// How commands are answered.
#[derive(clap::Args)]
#[command(next_help_heading = "HTTP commands")]
pub struct HttpArgs {
    /// A client whose event is not committed by then is told to try again
    #[arg(long, env = "ANALYTICS_HTTP_COMMIT_TIMEOUT", default_value = "10s", value_name = "DURATION")]
    http_commit_timeout: String,
}

/// [`HttpArgs`], checked.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How long a client waits for its commit.
    pub commit_timeout: Duration,
}

impl HttpArgs {
    /// Notes each fault.
    pub fn check(self, faults: &mut Faults) -> HttpSettings {
        let timeout = Duration::from_millis(100)..=Duration::from_secs(300);
        HttpSettings {
            commit_timeout: faults.duration(
                "ANALYTICS_HTTP_COMMIT_TIMEOUT",
                &self.http_commit_timeout,
                timeout,
            ),
        }
    }
}
