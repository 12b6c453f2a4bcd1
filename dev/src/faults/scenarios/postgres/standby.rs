use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::Connection as _;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::server::{MET, copy, data_directory, number, outside, recovers, run, says, sql};
use crate::faults::scene::behind;
use crate::faults::{DRAIN, Scene};
use crate::processes::free_port;
use crate::stack::Login;
use crate::wait::until;

/// A standby gets every commit before it is confirmed. The primary is gone, the standby is promoted behind the address that
/// the worker knows.
pub async fn failed_over(scene: &mut Scene) -> Result<()> {
    for round in 1..=scene.rounds {
        let data = data_directory(scene).await?;
        let authentication = data.join("pg_hba.conf");
        let original = tokio::fs::read_to_string(&authentication).await?;
        let mut standby = Standby::copy_of(scene, &data).await?;
        let done = fails_over(scene, &mut standby, &data, &original).await;
        let put_back = put_back(scene, &mut standby, &data, &original).await;
        done.and(put_back).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

async fn fails_over(scene: &mut Scene, standby: &mut Standby, data: &Path, original: &str) -> Result<()> {
    let rule = "host replication all 127.0.0.1/32 scram-sha-256\n";
    tokio::fs::write(data.join("pg_hba.conf"), format!("{original}{rule}")).await?;
    sql(scene, "SELECT pg_reload_conf()").await?;
    standby.start(scene).await?;
    until("the standby follows", MET, async || Ok(following(scene, "state = 'streaming'").await? == 1))
        .await?;
    sql(scene, "ALTER SYSTEM SET synchronous_standby_names = 'second'").await?;
    sql(scene, "SELECT pg_reload_conf()").await?;
    until("commits wait for it", MET, async || Ok(following(scene, "sync_state = 'sync'").await? == 1))
        .await?;

    let mut worker = scene.start(scene.through_proxy(scene.settings()))?;
    worker.ready().await?;
    let traffic = scene.produce_in_background(300.0);
    scene.makes_progress().await?;
    sleep(Duration::from_millis(scene.random.u64(500..1_500))).await;
    let readiness = worker.watch_readiness();
    scene.bench.stack.run(&["stop-postgres", "immediate"]).await?;
    let promoted = standby.pool(scene)?;
    let primary = std::mem::replace(&mut scene.bench.database.pool, promoted);
    scene.proxy.switch_to(standby.address);
    let taken_over = async {
        // Not promoted yet: it answers, and takes no writes.
        says(&readiness, "takes no writes").await?;
        sql(scene, "SELECT pg_promote()").await?;
        recovers(scene, &mut worker).await?;
        ensure!(number(scene, "SELECT pg_is_in_recovery()::int::bigint").await? == 0, "nobody was promoted");
        traffic.stop().await?;
        recovers(scene, &mut worker).await?;
        worker.terminate(DRAIN).await
    };
    let taken_over = taken_over.await;
    scene.bench.database.pool = primary;
    taken_over?;
    // What was the standby is the server from now on, at the old address.
    standby.stop().await?;
    tokio::fs::rename(data, standby.data.with_extension("old")).await?;
    Ok(tokio::fs::rename(&standby.data, data).await?)
}

async fn following(scene: &Scene, how: &str) -> Result<i64> {
    number(
        scene,
        &format!("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'second' AND {how}"),
    )
    .await
}

/// Whatever happened: one server, at the old address, that waits for nobody.
async fn put_back(scene: &mut Scene, standby: &mut Standby, data: &Path, original: &str) -> Result<()> {
    standby.stop().await?;
    let old = standby.data.with_extension("old");
    if !data.exists() {
        tokio::fs::rename(&old, data).await?;
    }
    tokio::fs::write(data.join("pg_hba.conf"), original).await?;
    scene.bench.stack.run(&["start-postgres"]).await?;
    scene.proxy.switch_to(scene.postgres()?);
    for left in [&old, &standby.data] {
        if left.exists() {
            tokio::fs::remove_dir_all(left).await?;
        }
    }
    let mut admin = outside(scene).await?;
    for setting in ["synchronous_standby_names", "primary_conninfo"] {
        run(&mut admin, &format!("ALTER SYSTEM RESET {setting}")).await?;
    }
    run(&mut admin, "SELECT pg_reload_conf()").await
}

/// A second server, from a copy of the first.
struct Standby {
    data: PathBuf,
    address: SocketAddr,
    process: Option<Child>,
}

impl Standby {
    /// The copy is made while the server runs.
    async fn copy_of(scene: &Scene, data: &Path) -> Result<Self> {
        let copied = data.with_file_name("standby");
        let mut admin = outside(scene).await?;
        let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::integer")
            .fetch_one(&mut admin)
            .await?;
        // Their names changed.
        let (start, stop) = if version < 150_000 {
            ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)")
        } else {
            ("pg_backup_start('standby', true)", "pg_backup_stop(false)")
        };
        run(&mut admin, &format!("SELECT {start}")).await?;
        copy(data, &copied).await?;
        let label = format!("SELECT labelfile FROM {stop}");
        let label: String = sqlx::query_scalar(sqlx::AssertSqlSafe(label)).fetch_one(&mut admin).await?;
        admin.close().await?;
        let owner = tokio::fs::metadata(&copied).await?;
        for (name, content) in [("backup_label", label.as_str()), ("standby.signal", "")] {
            let file = copied.join(name);
            tokio::fs::write(&file, content).await?;
            std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        tokio::fs::remove_file(copied.join("postmaster.pid")).await?;
        let primary: sqlx::postgres::PgConnectOptions =
            scene.bench.stack.url(Login::Admin, "postgres").parse()?;
        let url = scene.bench.stack.url(Login::Admin, "postgres");
        let password = url.split([':', '@']).nth(2).context("the administrator has no password")?;
        let settings = format!(
            "primary_conninfo = 'host={} port={} user={} password={password} application_name=second'\n",
            primary.get_host(),
            primary.get_port(),
            primary.get_username(),
        );
        tokio::fs::write(copied.join("postgresql.auto.conf"), settings).await?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port(0)?));
        Ok(Self { data: copied, address, process: None })
    }

    /// As the first was started, with another folder and another port.
    async fn start(&mut self, scene: &Scene) -> Result<()> {
        let lines = tokio::fs::read_to_string(data_directory(scene).await?.join("postmaster.pid")).await?;
        let pid = lines.lines().next().context("no process id")?;
        let command_line = tokio::fs::read_to_string(format!("/proc/{pid}/cmdline")).await?;
        let data = self.data.to_string_lossy();
        let mut arguments: Vec<String> = command_line.split('\0').skip(1).map(str::to_owned).collect();
        arguments.pop();
        for index in 0..arguments.len() {
            let before = index.checked_sub(1).and_then(|before| arguments.get(before)).cloned();
            let Some(argument) = arguments.get_mut(index) else { continue };
            if before.as_deref() == Some("-D") {
                *argument = data.to_string();
            } else if argument.starts_with("port=") {
                *argument = format!("port={}", self.address.port());
            }
        }
        let owner = tokio::fs::metadata(&self.data).await?;
        std::fs::create_dir_all(&scene.bench.logs)?;
        let log = std::fs::File::create(scene.bench.logs.join("standby.log"))?;
        let mut command = Command::new(tokio::fs::read_link(format!("/proc/{pid}/exe")).await?);
        command.args(arguments).current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        self.process = Some(command.spawn().context("the standby cannot be started")?);
        Ok(())
    }

    /// The scene's database there.
    fn pool(&self, scene: &Scene) -> Result<PgPool> {
        let url = behind(&scene.bench.database.url(Login::Admin), self.address);
        let options: sqlx::postgres::PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(10));
        Ok(pool.connect_lazy_with(options.options([("timezone", "UTC")])))
    }

    async fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let pid = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // "Fast".
            kill_process(pid, Signal::INT)?;
        }
        timeout(MET, process.wait()).await.context("the standby does not end")??;
        Ok(())
    }
}
