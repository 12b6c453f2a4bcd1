//! Both real processes: built, started, asked, stopped, killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::http::Server;
use crate::stack::checkout;
use crate::usage;

/// How long a process may take until it is ready.
const START: Duration = Duration::from_secs(60);

/// The worker that has fail points. The ordinary binary never has them.
pub const WITH_FAIL_POINTS: &str = "ingest-worker-with-fail-points";

/// Environment variables of a process.
pub type Settings = BTreeMap<String, String>;

/// A process that was started here.
pub struct Process {
    /// For people.
    pub name: String,
    /// Where it listens.
    pub server: Server,
    /// What it says.
    pub log: PathBuf,
    child: Child,
    pid: Pid,
}

/// The folder with the binaries: this program's own, or above it if it is a test.
///
/// # Errors
/// This program is in no folder.
pub fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program is in no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

/// Builds both processes, once for each run of the tests: `cargo test` builds what it tests and nothing else.
///
/// # Errors
/// They do not compile.
pub fn build() -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    build_once(&BUILT, &["--bin", "ingest-worker", "--bin", "query-api"])
}

/// Builds the worker that has fail points, beside the ordinary one.
///
/// # Errors
/// It does not compile.
pub fn build_with_fail_points() -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    build_once(&BUILT, &["--features", "ingest-worker/fail-points", "--bin", WITH_FAIL_POINTS])
}

fn build_once(built: &OnceLock<Result<(), String>>, what: &[&str]) -> Result<()> {
    let outcome = built.get_or_init(|| cargo_build(what).map_err(|error| format!("{error:#}")));
    outcome.clone().map_err(|error| anyhow!(error))
}

fn cargo_build(what: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = std::process::Command::new(cargo);
    build.current_dir(checkout()).args(["build", "--quiet", "--workspace"]).args(what).stdin(Stdio::null());
    if binaries()?.ends_with("release") {
        build.arg("--release");
    }
    // What `cargo test` tells its tests is not meant for another build.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"))
    {
        build.env_remove(name);
    }
    let output = build.output().context("cargo cannot be run")?;
    ensure!(output.status.success(), "the build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A port of the loopback interface that nobody uses now: the one wished for, if it is free.
///
/// # Errors
/// None is free.
pub fn free_port(wished: u16) -> Result<u16> {
    let listener =
        TcpListener::bind(("127.0.0.1", wished)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(listener.local_addr()?.port())
}

/// A command that knows nothing but these settings, in a group of its own: Ctrl-C in the terminal is not for it, and
/// outside the checkout: its `.env` is not for it either.
fn command(binary: &str, verb: &str, settings: &Settings) -> Result<Command> {
    let path = binaries()?.join(binary);
    ensure!(path.exists(), "{} is missing: run `cargo build --workspace`", path.display());
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ANALYTICS_")
            || text.starts_with("STACK_")
            || matches!(text.as_ref(), "DATABASE_URL" | "FAULT")
        {
            command.env_remove(&name);
        }
    }
    let folder = std::env::temp_dir();
    command
        .arg(verb)
        .envs(settings)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs a verb to its end, for example `ingest-worker migrate`.
///
/// # Errors
/// It fails or takes longer than two minutes.
pub async fn run_once(binary: &str, verb: &str, settings: &Settings) -> Result<()> {
    let output = timeout(Duration::from_secs(120), command(binary, verb, settings)?.output()).await;
    let output = output.with_context(|| format!("{binary} {verb} does not end"))??;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{binary} {verb} failed ({}): {}", output.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

/// How a verb ended, and what it said.
///
/// # Errors
/// It cannot be run, or takes longer than a minute.
pub async fn verdict(binary: &str, verb: &str, settings: &Settings) -> Result<(i32, String)> {
    let output = timeout(START, command(binary, verb, settings)?.output()).await;
    let output = output.with_context(|| format!("{binary} {verb} does not end"))??;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.code().context("ended by a signal")?, said))
}

impl Process {
    /// Starts a process that will listen on this port; it is not waited for.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(binary: &str, verb: &str, settings: &Settings, port: u16, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        let mut command = command(binary, verb, settings)?;
        let child = command.stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.with_context(|| format!("{binary} cannot be started"))?;
        let raw = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = raw.and_then(Pid::from_raw).with_context(|| format!("{binary} ended at once"))?;
        Ok(Self { name: binary.to_owned(), server: Server::at(port)?, log: log.to_owned(), child, pid })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ended, or is not ready within a minute.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        let mut last = String::from("it does not listen");
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it was ready; {}", self.name, self.last_lines());
            }
            match self.server.get("/health/ready").await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => last = format!("{} {}", answer.status, answer.text),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} is not ready after {} s: {last}; {}", self.name, START.as_secs(), self.last_lines())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It had ended before.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended by itself ({status}); {}", self.name, self.last_lines());
        }
        self.child.kill().await.context("cannot be killed")
    }

    /// Any signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("{} is gone", self.name))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It has not in time.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let status = timeout(within, self.child.wait()).await;
        Ok(status.with_context(|| format!("{} did not end within {} s", self.name, within.as_secs()))??)
    }

    /// Asks it to end (SIGTERM) and waits so long; then it is killed, which is an error.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill_process(self.pid, Signal::TERM)?;
        match timeout(within, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                self.child.kill().await?;
                bail!(
                    "{} did not end within {} s of SIGTERM; {}",
                    self.name,
                    within.as_secs(),
                    self.last_lines()
                )
            }
        }
    }

    /// A number of kilobytes from `/proc/PID/status`, for example `VmHWM`.
    ///
    /// # Errors
    /// It does not run.
    pub fn kilobytes(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(|| format!("no {name}"))?.parse()?)
    }

    /// Its peak resident memory in megabytes of 2^20 bytes.
    ///
    /// # Errors
    /// It does not run.
    pub fn peak_megabytes(&self) -> Result<f64> {
        Ok(f64::from(u32::try_from(self.kilobytes("VmHWM")?)?) / 1024.0)
    }

    /// Seconds of processor that it has used so far.
    ///
    /// # Errors
    /// It does not run.
    pub fn cpu_seconds(&self) -> Result<f64> {
        usage::of_process(self.pid())
    }

    /// The end of its log, for an error's sentence.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(15).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("the end of {}:\n{}", self.log.display(), lines.join("\n"))
    }
}
