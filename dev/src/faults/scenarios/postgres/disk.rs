use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::server::{data_directory, recovers, says, settled_worker, sql, waits_calmly};
use crate::faults::{DRAIN, Scene, Worker};

const CHUNK: usize = 300;
/// What the disk can hold, and what is left of it for events.
const DISK: u64 = 12 << 20;
const LEFT: u64 = 256 << 10;
/// Bytes of one writing.
const PIECE: usize = 64 << 10;

/// Why no small disk can be made here.
pub fn no_small_disk() -> Option<String> {
    let folder = std::env::temp_dir().join(format!("small-disk-{}", std::process::id()));
    let made = std::fs::create_dir(&folder).is_ok_and(|()| {
        let mount = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            command.args(arguments).arg(&folder).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        mount("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) && mount("umount", &[])
    });
    drop(std::fs::remove_dir(&folder));
    (!made).then(|| "a small file system is needed, and this user may not mount one".to_owned())
}

/// The events are moved to a small disk, which runs full; later there is more room.
pub async fn disk_full(scene: &mut Scene) -> Result<()> {
    scene.produce(CHUNK).await?;
    let mut worker = settled_worker(scene).await?;
    let disk = SmallDisk::mount(scene).await?;
    let mut outcome = disk.hold_events(scene).await;
    for round in 1..=scene.rounds {
        if outcome.is_ok() {
            outcome = runs_full(scene, &mut worker, &disk).await.with_context(|| format!("round {round}"));
        }
    }
    let put_back = disk.remove(scene).await;
    outcome.and(put_back)?;
    recovers(scene, &mut worker).await?;
    worker.terminate(DRAIN).await
}

async fn runs_full(scene: &mut Scene, worker: &mut Worker, disk: &SmallDisk) -> Result<()> {
    let readiness = worker.watch_readiness();
    disk.fill().await?;
    scene.produce(10 * CHUNK).await?;
    says(&readiness, "53100").await?;
    says(&readiness, "No space left on device").await?;
    waits_calmly(worker, Duration::from_secs(5)).await?;
    disk.make_room().await?;
    recovers(scene, worker).await
}

/// A file system in memory with a tablespace on it.
struct SmallDisk {
    folder: PathBuf,
    tablespace: String,
}

impl SmallDisk {
    async fn mount(scene: &Scene) -> Result<Self> {
        let data = data_directory(scene).await?;
        let owner = std::fs::metadata(&data)?;
        let tablespace = format!("small_{}", std::process::id());
        // Where the server's user can reach it.
        let folder = data.parent().context("the data are in no folder")?.join(&tablespace);
        std::fs::create_dir_all(&folder)?;
        let options = format!("size={DISK},mode=700,uid={},gid={}", owner.uid(), owner.gid());
        execute("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], &folder).await?;
        Ok(Self { folder, tablespace })
    }

    async fn hold_events(&self, scene: &Scene) -> Result<()> {
        let Self { folder, tablespace } = self;
        sql(scene, &format!("CREATE TABLESPACE {tablespace} LOCATION '{}'", folder.display())).await?;
        self.events_move_to(scene, tablespace).await
    }

    async fn events_move_to(&self, scene: &Scene, tablespace: &str) -> Result<()> {
        let moves = format!(
            "DO $$ DECLARE name regclass; BEGIN
                 FOR name IN SELECT inhrelid::regclass FROM pg_inherits
                             WHERE inhparent IN ('analytics_events'::regclass, 'analytics_events_pkey'::regclass) LOOP
                     EXECUTE format('ALTER %s %s SET TABLESPACE {tablespace}',
                         CASE (SELECT relkind FROM pg_class WHERE oid = name) WHEN 'r' THEN 'TABLE' ELSE 'INDEX' END,
                         name);
                 END LOOP;
             END $$"
        );
        sql(scene, &moves).await
    }

    /// Something else takes the room: a little is left.
    async fn fill(&self) -> Result<()> {
        let mut ballast = tokio::fs::File::create(self.folder.join("ballast")).await?;
        let mut length = 0;
        let full = loop {
            match ballast.write_all(&[0; PIECE]).await.and(ballast.flush().await) {
                Ok(()) => length += PIECE as u64,
                Err(error) => break error,
            }
        };
        ensure!(full.kind() == std::io::ErrorKind::StorageFull, "the disk cannot be filled: {full}");
        Ok(ballast.set_len(length.saturating_sub(LEFT)).await?)
    }

    async fn make_room(&self) -> Result<()> {
        tokio::fs::remove_file(self.folder.join("ballast")).await?;
        execute("mount", &["-o", &format!("remount,size={}", 8 * DISK)], &self.folder).await
    }

    /// The tables go back first: a server that misses files does not come through its next checkpoint.
    async fn remove(&self, scene: &Scene) -> Result<()> {
        let Self { folder, tablespace } = self;
        execute("mount", &["-o", &format!("remount,size={}", 8 * DISK)], folder).await?;
        self.events_move_to(scene, "pg_default").await?;
        sql(scene, "CHECKPOINT").await?;
        sql(scene, &format!("DROP TABLESPACE IF EXISTS {tablespace}")).await?;
        // The server may have files open that are deleted.
        execute("umount", &["-l"], folder).await?;
        Ok(tokio::fs::remove_dir(folder).await?)
    }
}

async fn execute(program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let output = Command::new(program).args(arguments).arg(folder).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", folder.display(), said.trim());
    Ok(())
}
