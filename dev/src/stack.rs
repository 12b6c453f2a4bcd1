//! Where the servers of `dev/stack` are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

/// Both servers, as `dev/stack env` tells.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Kafka's address.
    pub bootstrap: String,
    owner: String,
    writer: String,
    reader: String,
    admin: String,
    /// The stack's folder, for logs.
    pub folder: PathBuf,
}

/// As whom one logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Owns the databases and migrates.
    Owner,
    /// The ingest worker.
    Writer,
    /// The query API.
    Reader,
    /// May do everything.
    Admin,
}

/// The repository's root.
#[must_use]
pub fn checkout() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

impl Stack {
    /// From the environment, else from the env file of the running stack.
    ///
    /// # Errors
    /// No stack is up.
    pub fn find() -> Result<Self> {
        let name = std::env::var("STACK_NAME").unwrap_or_default();
        let folder = checkout().join(".stack").join(name);
        let file = read_env(&folder.join("env")).unwrap_or_default();
        let get = |name: &str| {
            let here = std::env::var(name).ok().filter(|value| !value.is_empty());
            here.or_else(|| file.get(name).cloned())
                .with_context(|| format!("{name} is not set and no stack is up: run `dev/stack up`"))
        };
        Ok(Self {
            bootstrap: get("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS")?,
            owner: get("STACK_OWNER_URL")?,
            writer: get("STACK_WRITER_URL")?,
            reader: get("STACK_READER_URL")?,
            admin: get("STACK_ADMIN_URL")?,
            folder: get("STACK_DIR").map_or(folder, PathBuf::from),
        })
    }

    /// The URL of a database for this login.
    #[must_use]
    pub fn url(&self, login: Login, database: &str) -> String {
        let url = match login {
            Login::Owner => &self.owner,
            Login::Writer => &self.writer,
            Login::Reader => &self.reader,
            Login::Admin => &self.admin,
        };
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let server = address.rsplit_once('/').map_or(address, |(server, _)| server);
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{server}/{database}{separator}{query}")
    }

    /// Runs a verb of `dev/stack`, for example `restart-postgres immediate`.
    ///
    /// # Errors
    /// It cannot be run or fails.
    pub async fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = tokio::process::Command::new(checkout().join("dev/stack"))
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("dev/stack cannot be run")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("dev/stack {} failed: {}", arguments.join(" "), said.trim());
        }
        Ok(())
    }
}

/// The lines `NAME=value` of a file; a value may stand in quotes.
fn read_env(file: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(file)?;
    let setting = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
    };
    Ok(text.lines().filter_map(setting).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_another_database_keeps_everything_else() {
        let url = |text: &str| Stack {
            bootstrap: String::new(),
            owner: text.to_owned(),
            writer: String::new(),
            reader: String::new(),
            admin: String::new(),
            folder: PathBuf::new(),
        };
        for (text, expected) in [
            ("postgres://o:p@127.0.0.1:1/analytics", "postgres://o:p@127.0.0.1:1/other"),
            ("postgres://o:p@h:1/analytics?sslmode=disable", "postgres://o:p@h:1/other?sslmode=disable"),
        ] {
            assert_eq!(url(text).url(Login::Owner, "other"), expected);
        }
    }
}
