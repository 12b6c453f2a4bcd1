use std::time::Duration;

use ingest_worker::write::WriteFailure;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::given::{database, settings};

/// The second connection, which proves that the first has its session for itself, is not had: no reason to refuse that.
#[sqlx::test(migrations = "../migrations")]
async fn a_login_with_no_connection_left_is_let_in(pool: PgPool) {
    let role = format!("only_{}", Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 1 IN ROLE analytics_writer");
    pool.execute(AssertSqlSafe(create)).await.unwrap();
    let login = settings((*pool.connect_options()).clone().username(&role).password("x"));
    let session = login.session().await.unwrap();
    let refused = login.session().await.unwrap_err();
    assert!(matches!(&refused, WriteFailure::Unavailable(why) if why.contains("53300")), "{refused}");
    sqlx::Connection::close(session).await.unwrap();
    pool.execute(AssertSqlSafe(format!("DROP ROLE {role}"))).await.unwrap();
}

/// Answers of a slow network do not wait for another session's transaction, however long they take.
#[sqlx::test(migrations = "../migrations")]
async fn a_slow_network_is_not_taken_for_a_pooler(pool: PgPool) {
    let options = (*pool.connect_options()).clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = format!("{}:{}", options.get_host(), options.get_port());
    let delayed = async {
        let mut ways = JoinSet::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            ways.spawn(late(client, TcpStream::connect(&to).await.unwrap()));
        }
    };
    let late = settings(options.host("127.0.0.1").port(port));
    tokio::select! {
        session = late.session() => drop(session.unwrap()),
        () = delayed => {}
    }
}

/// Every answer comes 600 ms late.
async fn late(mut client: TcpStream, mut server: TcpStream) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let answers = async {
        let mut buffer = [0; 65_536];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            tokio::time::sleep(Duration::from_millis(600)).await;
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}

/// Not yet: whoever makes it so need not start the workers again.
#[sqlx::test(migrations = "../migrations")]
async fn without_tables_or_without_a_look_at_them_there_is_no_session(pool: PgPool) {
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&pool).await.unwrap();
    let role = format!("unseeing_{}", Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE analytics_writer");
    pool.execute(AssertSqlSafe(create)).await.unwrap();
    let login = settings((*pool.connect_options()).clone().username(&role).password("x"));
    drop(login.session().await.unwrap());
    pool.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC, analytics_writer").await.unwrap();
    let why = match login.session().await {
        Err(WriteFailure::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(
        why.contains(&format!("the login {role} has no USAGE on schema public of database {name}")),
        "{why}"
    );
    pool.execute("DROP TABLE ingest_offsets").await.unwrap();
    let why = match database(&pool).session().await {
        Err(WriteFailure::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why.contains(&format!("database {name} is not migrated")), "{why}");
    let clean = format!("DROP ROLE {role}");
    crate::given::eventually("the role is dropped", async || {
        pool.execute(AssertSqlSafe(clean.clone())).await.is_ok()
    })
    .await;
}
