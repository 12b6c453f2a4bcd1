use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use query_api::projections::database::Database;
use sqlx::PgPool;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{PASSWORD, eventually, reader};

/// PgBouncer, which is ended with this.
struct Pooler(Child);

impl Pooler {
    async fn start(folder: &Path, pool: &PgPool, port: u16, mode: &str) -> Self {
        let (server, settings) = (pool.connect_options(), folder.join("settings"));
        let text = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\n",
            server.get_host(),
            server.get_port(),
            folder.join("users").display()
        );
        fs::write(&settings, text).unwrap();
        // It refuses to run as root.
        let script = "[ $(id -u) != 0 ] && exec /usr/sbin/pgbouncer -q $0; \
                      exec setpriv --reuid=nobody --regid=nogroup --clear-groups -- /usr/sbin/pgbouncer -q $0";
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(&settings)
            .current_dir("/")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let pooler = Self(command.spawn().unwrap());
        eventually("it listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("query-api-pooler-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("users"), format!("\"query_api_test_reader\" \"{PASSWORD}\"\n")).unwrap();
    folder
}

#[sqlx::test(migrations = "../migrations")]
async fn a_pooler_that_is_put_in_between_later_is_found_by_the_look_of_each_minute(pool: PgPool) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (folder, mut config) = (folder(), reader(&pool).await);
    config.connect = config.connect.host("127.0.0.1").port(port);
    let database = Database::new(&config);
    let whole = Pooler::start(&folder, &pool, port, "session").await;
    assert!(database.look().await.unwrap());
    assert!(database.still_suits().await);
    assert_eq!(database.trouble().await, None);
    drop(whole);
    assert!(database.still_suits().await, "what is away for a moment is no reason");

    let _shared = Pooler::start(&folder, &pool, port, "transaction").await;
    assert!(!database.still_suits().await);
    let trouble = database.trouble().await.unwrap();
    assert!(trouble.contains("gives one session to several clients"), "{trouble}");
    fs::remove_dir_all(folder).unwrap();
}
