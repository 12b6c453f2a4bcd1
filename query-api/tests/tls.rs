use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::eventually;
use crate::own_postgres::{OwnPostgres, PASSWORD};

/// The real process, with libpq's variables all wrong.
fn start(url: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_query-api"));
    command.env_clear().current_dir("/").stderr(Stdio::piped());
    for name in
        ["HOST", "PORT", "USER", "DATABASE", "PASSWORD", "SSLMODE", "SSLROOTCERT", "SSLCERT", "SSLKEY"]
    {
        command.env(format!("PG{name}"), "wrong");
    }
    command.env("PGOPTIONS", "-c no_such=thing").env("ANALYTICS_SERVICE_PORT", "0");
    command.env("ANALYTICS_READ_DATABASE_URL", url).spawn().unwrap()
}

/// What is wrong with a certificate is said, waited for and over as soon as it is put right, the file included.
#[tokio::test]
async fn a_certificate_that_is_replaced_ends_nothing() {
    let server = OwnPostgres::start("reader-tls");
    for (name, subject) in [("first", "elsewhere"), ("second", "localhost")] {
        server.openssl(&format!(
            "req -new -x509 -days 365 -nodes -text -out {name}.crt -keyout {name}.key -subj /CN={subject}"
        ));
    }
    server.rules("hostssl all all all scram-sha-256");
    let trust = |name: &str| {
        std::fs::copy(server.path(name), server.path("root.crt")).unwrap();
    };
    trust("first.crt");
    server.serves("first");
    let (port, root) = (server.port, server.path("root.crt"));
    let mut process = start(&format!(
        "postgres://postgres:{PASSWORD}@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={root}"
    ));
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut log = Vec::new();
    let address = lines
        .by_ref()
        .inspect(|line| log.push(line.clone()))
        .find_map(|line| {
            let line: Value = serde_json::from_str(&line).unwrap();
            line["address"].as_str().map(str::to_owned)
        })
        .unwrap();
    let reason = async || {
        let answer = reqwest::get(format!("http://{address}/health/ready")).await.unwrap();
        answer.json::<Value>().await.unwrap()["reason"].as_str().unwrap_or_default().to_owned()
    };
    let expected = "the server's certificate (CN=elsewhere) is for CN=elsewhere, not for `localhost`; connect by one of its \
                    names; sslmode=verify-ca does not compare them";
    eventually("readiness says what is wrong", async || reason().await.contains(expected)).await;

    server.serves("second");
    let expected = "the server's certificate (CN=localhost) is self-signed and not in sslrootcert `";
    eventually("it says that the root is another", async || reason().await.contains(expected)).await;
    std::fs::remove_file(&root).unwrap();
    let expected = format!("sslrootcert `{root}` cannot be read: No such file");
    eventually("it names the file", async || reason().await.contains(&expected)).await;
    trust("second.crt");
    eventually("it is connected", async || reason().await.contains("ingest-worker migrate")).await;

    let killed = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    log.extend(lines);
    let log = log.join("\n");
    assert!(log.contains("is for CN=elsewhere") && !log.contains(PASSWORD), "{log}");
}
