//! A real PgBouncer before the stack's PostgreSQL.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::processes::free_port;
use crate::wait::until;

/// Where Debian installs it, which is in nobody's PATH.
const BINARY: &str = "/usr/sbin/pgbouncer";

/// A pooler on a port of its own, which it keeps when it is started again in another mode.
pub struct Pooler {
    port: u16,
    folder: PathBuf,
    server: Url,
    child: Option<Child>,
}

impl Pooler {
    /// Before the server of this URL, for the logins of these; nothing runs yet.
    ///
    /// # Errors
    /// A URL cannot be read, or a file not be written.
    pub fn before(server: &str, logins: &[&str]) -> Result<Self> {
        let port = free_port(0)?;
        let folder = std::env::temp_dir().join(format!("analytics-pgbouncer-{port}"));
        fs::create_dir_all(&folder)?;
        // It refuses to run as root, and whoever it runs as must read this.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let mut users = String::new();
        for login in logins {
            let url: Url = login.parse()?;
            users += &format!("\"{}\" \"{}\"\n", url.username(), url.password().unwrap_or_default());
        }
        fs::write(folder.join("users"), users)?;
        Ok(Self { port, folder, server: server.parse()?, child: None })
    }

    /// A URL that leads through it.
    ///
    /// # Errors
    /// It is no URL of a server.
    pub fn through(&self, url: &str) -> Result<String> {
        let mut url: Url = url.parse()?;
        url.set_port(Some(self.port)).ok().context("no port")?;
        Ok(url.to_string())
    }

    /// Runs it in this mode, with these lines of settings more; one that runs is ended first.
    ///
    /// # Errors
    /// It does not listen.
    pub async fn run(&mut self, mode: &str, more: &str) -> Result<()> {
        self.stop().await?;
        let (folder, port) = (&self.folder, self.port);
        let (host, to) = (self.server.host_str().context("no host")?, self.server.port().unwrap_or(5432));
        let settings = folder.join("settings");
        fs::write(
            &settings,
            format!(
                "[databases]\n* = host={host} port={to}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n{more}\n",
                folder.join("users").display()
            ),
        )?;
        let log = File::create(folder.join("log"))?;
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", BINARY]);
            command
        } else {
            Command::new(BINARY)
        };
        command.arg(&settings).current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child =
            Some(command.spawn().context("pgbouncer cannot be started: run `dev/stack test-tools`")?);
        let listens = async || Ok(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
        let listening = until("pgbouncer listens", Duration::from_secs(10), listens).await;
        listening.with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())
    }

    /// Ends it, and every connection through it.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // In a folder of temporary files: no harm if it stays.
        drop(fs::remove_dir_all(&self.folder));
    }
}
