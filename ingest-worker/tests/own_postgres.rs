//! A PostgreSQL of the test's own, with TLS, on both loopback addresses; its certificates are made as its manual says.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Who connects.
pub const PASSWORD: &str = "only-for-tests";

/// Ends with the test.
pub struct OwnPostgres {
    folder: PathBuf,
    process: Child,
    pub port: u16,
}

impl OwnPostgres {
    pub fn start(name: &str) -> Self {
        let folder = PathBuf::from(format!("/var/tmp/analytics-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        // What listens on the one address is free on the other, as far as a test must care.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        give(&data, 0o700);
        std::fs::write(folder.join("password"), PASSWORD).unwrap();
        let made = binary("initdb")
            .args([
                "-U",
                "postgres",
                "--auth=scram-sha-256",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--pwfile",
            ])
            .arg(folder.join("password"))
            .arg("-D")
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let mut command = binary("postgres");
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(log);
        for setting in
            ["listen_addresses=127.0.0.1,::1", "unix_socket_directories=", "fsync=off", "shared_buffers=16MB"]
        {
            command.args(["-c", setting]);
        }
        std::fs::write(data.join("pg_hba.conf"), "host all all all scram-sha-256\n").unwrap();
        let own = Self { process: command.spawn().unwrap(), folder, port };
        own.eventually("it is ready", || {
            // It says so itself, in the last line of this file.
            let text = std::fs::read_to_string(own.folder.join("data/postmaster.pid")).unwrap_or_default();
            text.lines().nth(7).is_some_and(|line| line.starts_with("ready"))
        });
        own
    }

    /// Where certificates are made.
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).to_str().unwrap().to_owned()
    }

    /// Runs `openssl` in that folder.
    pub fn openssl(&self, arguments: &str) {
        openssl(&self.folder, arguments);
    }

    /// With this certificate from now on: `NAME.crt` and `NAME.key`.
    pub fn serves(&self, name: &str) {
        self.settings(
            &format!("ssl_cert_file = '{name}.crt'\nssl_key_file = '{name}.key'"),
            &[&format!("{name}.crt"), &format!("{name}.key")],
        );
    }

    /// These settings and no other; with files of its folder.
    pub fn settings(&self, settings: &str, files: &[&str]) {
        let data = self.folder.join("data");
        for file in files {
            std::fs::copy(self.folder.join(file), data.join(file)).unwrap();
            give(&data.join(file), 0o600);
        }
        std::fs::write(data.join("postgresql.auto.conf"), format!("ssl = on\n{settings}\n")).unwrap();
        self.reload();
    }

    /// How new connections are let in.
    pub fn rules(&self, rules: &str) {
        std::fs::write(self.folder.join("data/pg_hba.conf"), format!("{rules}\n")).unwrap();
        self.reload();
    }

    /// It reloads between two connections, right after it has said so.
    fn reload(&self) {
        let reloads = || self.log().matches("received SIGHUP").count();
        let before = reloads();
        let told = Command::new("kill").args(["-HUP", &self.process.id().to_string()]).status().unwrap();
        assert!(told.success());
        self.eventually("it reloads", || reloads() > before);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..1_200 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("still not: {what}; {}", self.log());
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// PostgreSQL refuses to run as root.
fn binary(name: &str) -> Command {
    let folder = std::env::var("STACK_POSTGRES_BINARIES").expect("run by dev/stack run");
    let path = Path::new(&folder).join(name);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn give(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if is_root() {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let run = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(run.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&run.stderr));
}
