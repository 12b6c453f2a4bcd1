use std::time::Duration;

use super::cors::Origins;
use crate::config::Faults;

/// How commands are answered.
#[derive(clap::Args)]
#[command(next_help_heading = "HTTP commands")]
pub struct HttpArgs {
    /// A client whose event is not committed by then is told to try again
    #[arg(long, env = "ANALYTICS_HTTP_COMMIT_TIMEOUT", default_value = "10s", value_name = "DURATION")]
    http_commit_timeout: String,
    /// Origins whose pages may use the API from a browser, separated by commas; * is all, none without it
    #[arg(long, env = "ANALYTICS_CORS_ORIGINS", default_value = "", value_name = "ORIGINS")]
    cors_origins: String,
}

/// [`HttpArgs`], checked.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How long a client waits for its commit.
    pub commit_timeout: Duration,
    /// Whose pages may use the API.
    pub origins: Origins,
}

impl HttpArgs {
    /// Notes each fault.
    pub fn check(self, faults: &mut Faults) -> HttpSettings {
        let timeout = Duration::from_millis(100)..=Duration::from_secs(300);
        let origins = Origins::parse(&self.cors_origins);
        if origins.is_none() {
            faults.error(format!(
                "ANALYTICS_CORS_ORIGINS is `{}`; allowed is {}",
                self.cors_origins,
                Origins::ALLOWED
            ));
        }
        HttpSettings {
            commit_timeout: faults.duration(
                "ANALYTICS_HTTP_COMMIT_TIMEOUT",
                &self.http_commit_timeout,
                timeout,
            ),
            origins: origins.unwrap_or_default(),
        }
    }
}
