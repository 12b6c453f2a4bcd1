//! Each mode against each kind of certificate, as libpq's manual promises it.

use std::net::TcpListener;

use ingest_worker::postgres::{self, Target, Tls, TlsFault};
use sqlx::{Connection as _, PgConnection};

use crate::own_postgres::{OwnPostgres, PASSWORD};

fn target(server: &OwnPostgres, host: &str, query: &str) -> Target {
    let url = format!("postgres://postgres:{PASSWORD}@{host}:{}/postgres?{query}", server.port);
    postgres::read(&url, Tls::default()).unwrap_or_else(|fault| panic!("{fault}"))
}

async fn connect(server: &OwnPostgres, host: &str, query: &str) -> sqlx::Result<PgConnection> {
    let target = target(server, host, query);
    postgres::connect(&target.options("test"), &target.tls).await
}

/// Whether the session is encrypted.
async fn encrypted(server: &OwnPostgres, host: &str, query: &str) -> bool {
    let mut connection =
        connect(server, host, query).await.unwrap_or_else(|fault| panic!("{host} {query}: {fault}"));
    let asked = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    let encrypted = asked.fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    encrypted
}

/// The sentence of a refusal by TLS.
async fn refusal(server: &OwnPostgres, host: &str, query: &str) -> String {
    let error = connect(server, host, query).await.err().unwrap_or_else(|| panic!("{host} {query} is taken"));
    TlsFault::of(&error).unwrap_or_else(|| panic!("{host} {query}: {error}")).to_string()
}

/// As PostgreSQL's manual makes them (19.9.5), with an authority and an intermediate one, and what goes wrong with them.
fn make_certificates(server: &OwnPostgres) {
    let read = |name: &str| std::fs::read_to_string(server.path(name)).unwrap();
    let file = |name: &str, text: &str| std::fs::write(server.path(name), text).unwrap();
    file("ca.ext", "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n");
    file("both.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n");
    file("other.ext", "subjectAltName=DNS:db.example,IP:10.0.0.1\n");
    for authority in ["root", "stranger"] {
        server.openssl(&format!(
            "req -new -nodes -text -out {authority}.csr -keyout {authority}.key -subj /CN={authority}.example"
        ));
        server.openssl(&format!(
            "x509 -req -in {authority}.csr -text -days 3650 -extfile ca.ext -signkey {authority}.key -out {authority}.crt"
        ));
    }
    server.openssl("req -new -nodes -out middle.csr -keyout middle.key -subj /CN=middle.example");
    server.openssl("x509 -req -in middle.csr -days 1825 -extfile ca.ext -CA root.crt -CAkey root.key -CAcreateserial -out middle.crt");
    let signed = |name: &str, subject: &str, more: &str| {
        server.openssl(&format!(
            "req -new -nodes -text -out {name}.csr -keyout {name}.key -subj /CN={subject}"
        ));
        server.openssl(&format!("x509 -req -in {name}.csr -text -CAcreateserial -out {name}.crt {more}"));
    };
    let by_root = "-CA root.crt -CAkey root.key";
    // X.509 v1, for its name is in the subject alone.
    signed("v1", "localhost", &format!("-days 365 {by_root}"));
    signed("named", "ignored", &format!("-days 365 -extfile both.ext {by_root}"));
    signed("elsewhere", "localhost", &format!("-days 365 -extfile other.ext {by_root}"));
    signed("expired", "localhost", &format!("-days -1 -extfile both.ext {by_root}"));
    signed("chained", "localhost", "-days 365 -extfile both.ext -CA middle.crt -CAkey middle.key");
    signed("client", "postgres", &format!("-days 365 {by_root}"));
    file("chain.crt", &(read("chained.crt") + &read("middle.crt")));
    file("chain.key", &read("chained.key"));
    file("bundle.crt", &(read("stranger.crt") + &read("root.crt")));
    server
        .openssl("req -new -x509 -days 365 -nodes -text -out self.crt -keyout self.key -subj /CN=localhost");
    server
        .openssl("req -new -nodes -text -out weak.csr -newkey rsa:1024 -keyout weak.key -subj /CN=localhost");
    server.openssl("x509 -req -in weak.csr -sha1 -days 365 -signkey weak.key -out weak.crt");
}

#[tokio::test]
async fn each_mode_promises_what_libpqs_does() {
    let server = OwnPostgres::start("tls");
    make_certificates(&server);
    let root = format!("sslrootcert={}", server.path("root.crt"));
    any_certificate_will_do_where_none_is_verified(&server).await;
    what_is_verified_is_named(&server, &root).await;
    only_a_root_that_is_given_is_trusted(&server).await;
    our_own_certificate_is_shown(&server, &root).await;
    files_are_named(&server).await;
    the_settings_are_the_only_source(&server, &root);
    it_falls_back_as_libpq_does(&server, &root).await;
}

async fn any_certificate_will_do_where_none_is_verified(server: &OwnPostgres) {
    for name in ["v1", "self", "expired", "elsewhere", "chained", "weak"] {
        server.serves(name);
        for (mode, expected) in [("disable", false), ("allow", false), ("prefer", true), ("require", true)] {
            let query = format!("sslmode={mode}");
            assert_eq!(encrypted(server, "127.0.0.1", &query).await, expected, "{name} {mode}");
        }
    }
    // Both addresses, and without a mode.
    assert!(encrypted(server, "[::1]", "sslmode=require").await);
    assert!(encrypted(server, "localhost", "statement-cache-capacity=1").await);
}

async fn what_is_verified_is_named(server: &OwnPostgres, root: &str) {
    for (name, host, mode, expected) in [
        ("v1", "localhost", "verify-full", ""),
        ("v1", "127.0.0.1", "verify-ca", ""),
        ("v1", "127.0.0.1", "verify-full", "is for CN=localhost, not for `127.0.0.1`"),
        ("named", "localhost", "verify-full", ""),
        ("named", "127.0.0.1", "verify-full", ""),
        ("named", "[::1]", "verify-full", ""),
        ("elsewhere", "localhost", "verify-ca", ""),
        ("elsewhere", "localhost", "verify-full", "is for db.example, 10.0.0.1, not for `localhost`"),
        ("elsewhere", "[::1]", "verify-full", "not for `::1`"),
        ("expired", "localhost", "verify-full", "the server's certificate (CN=localhost) expired on "),
        ("expired", "localhost", "verify-ca", "expired on "),
        // As libpq: with a root certificate it verifies as verify-ca does.
        ("expired", "localhost", "require", "expired on "),
        (
            "self",
            "localhost",
            "require",
            "the server's certificate (CN=localhost) is self-signed and not in sslrootcert `",
        ),
        ("self", "localhost", "verify-full", "give it as sslrootcert"),
        (
            "chained",
            "localhost",
            "verify-ca",
            "is issued by CN=middle.example, which is not in sslrootcert `",
        ),
        ("chain", "localhost", "verify-full", ""),
    ] {
        server.serves(name);
        let query = format!("sslmode={mode}&{root}");
        if expected.is_empty() {
            assert!(encrypted(server, host, &query).await, "{name} {host} {mode}");
        } else {
            let refusal = refusal(server, host, &query).await;
            assert!(refusal.contains(expected), "{name} {host} {mode}: {refusal}");
        }
    }
}

async fn only_a_root_that_is_given_is_trusted(server: &OwnPostgres) {
    let with = |mode: &str, file: &str| format!("sslmode={mode}&sslrootcert={}", server.path(file));
    server.serves("self");
    assert!(encrypted(server, "localhost", &with("verify-full", "self.crt")).await);
    server.serves("v1");
    // While an authority is replaced, the file holds both, in any order.
    assert!(encrypted(server, "localhost", &with("verify-full", "bundle.crt")).await);
    for (query, expected) in [
        (with("verify-ca", "stranger.crt"), "is issued by CN=root.example, which is not in sslrootcert `"),
        (with("verify-ca", "self.crt"), "is issued by CN=root.example"),
        ("sslmode=verify-full".to_owned(), "is issued by CN=root.example, which is not among the system's"),
        ("sslmode=verify-full&sslrootcert=system".to_owned(), "is not among the system's"),
    ] {
        let refusal = refusal(server, "localhost", &query).await;
        assert!(refusal.contains(expected), "{query}: {refusal}");
    }
    server.serves("self");
    let refused = refusal(server, "localhost", &with("verify-ca", "bundle.crt")).await;
    assert!(refused.contains("is self-signed and not in sslrootcert"), "{refused}");
}

async fn our_own_certificate_is_shown(server: &OwnPostgres, root: &str) {
    server.openssl("rsa -in client.key -traditional -out client-pkcs1.key");
    server.openssl("rsa -in client.key -aes256 -passout pass:x -out client-locked.key");
    let named = "ssl_cert_file = 'named.crt'\nssl_key_file = 'named.key'";
    server.settings(&format!("{named}\nssl_ca_file = 'root.crt'"), &["named.crt", "named.key", "root.crt"]);
    server.rules("hostssl all all all scram-sha-256 clientcert=verify-full");
    for key in ["client.key", "client-pkcs1.key"] {
        let identity = format!("sslcert={}&sslkey={}", server.path("client.crt"), server.path(key));
        for query in [format!("sslmode=require&{identity}"), format!("sslmode=verify-full&{root}&{identity}")]
        {
            assert!(encrypted(server, "localhost", &query).await);
        }
    }
    for key in ["client-locked.key", "v1.key", "client.crt"] {
        let query =
            format!("sslmode=require&sslcert={}&sslkey={}", server.path("client.crt"), server.path(key));
        let refusal = refusal(server, "localhost", &query).await;
        assert!(refusal.contains("is not the key of sslcert"), "{refusal}");
    }
    // The server's own words come as an alert after the handshake, if the end of the connection does not overtake them.
    let strange =
        format!("sslmode=require&sslcert={}&sslkey={}", server.path("self.crt"), server.path("self.key"));
    let refused = refusal(server, "localhost", &strange).await;
    let said =
        ["the TLS handshake with the server failed: ", "the server ended the connection when shown sslcert"];
    assert!(said.iter().any(|said| refused.contains(said)) && refused.contains("sslcert"), "{refused}");
    server.rules("host all all all scram-sha-256");
}

/// At run time, as they may be replaced; what is known before is in the settings' own test.
async fn files_are_named(server: &OwnPostgres) {
    server.openssl("x509 -in root.crt -outform der -out root.der");
    std::fs::write(server.path("empty.crt"), "").unwrap();
    std::fs::write(server.path("cut.crt"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        .unwrap();
    for (file, expected) in [
        ("missing.crt", "cannot be read: No such file"),
        ("data", "cannot be read: Is a directory"),
        ("empty.crt", "is empty"),
        ("root.key", "holds no certificate"),
        ("root.der", "is in DER"),
        ("cut.crt", "holds a certificate that cannot be read"),
    ] {
        let path = server.path(file);
        for mode in ["verify-full", "verify-ca", "require"] {
            let target = target(server, "localhost", &format!("sslmode={mode}&sslrootcert={path}"));
            let known = target.check(Some("ANALYTICS_DATABASE_URL"), None).unwrap_err();
            assert!(
                known.starts_with(&format!("ANALYTICS_DATABASE_URL: sslrootcert `{path}` {expected}")),
                "{known}"
            );
            let error = postgres::connect(&target.options("test"), &target.tls).await.unwrap_err();
            let fault = TlsFault::of(&error).unwrap();
            assert!(fault.what.starts_with(&format!("sslrootcert `{path}` {expected}")), "{fault}");
        }
    }
}

/// The real process with libpq's variables all wrong: it connects, and verifies by its own settings.
fn the_settings_are_the_only_source(server: &OwnPostgres, root: &str) {
    server.serves("named");
    let check = |query: &str| {
        let url = format!("postgres://postgres:{PASSWORD}@[::1]:{}/postgres?{query}", server.port);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ingest-worker"))
            .env_clear()
            .current_dir("/")
            .env("ANALYTICS_DATABASE_URL", url)
            .env(
                "ANALYTICS_KAFKA_BOOTSTRAP_SERVERS",
                std::env::var("ANALYTICS_KAFKA_BOOTSTRAP_SERVERS").unwrap(),
            )
            // What the system trusts: never asked where a file is given.
            .env("SSL_CERT_FILE", server.path("root.crt"))
            .envs(
                ["HOST", "HOSTADDR", "PORT", "USER", "DATABASE", "PASSWORD", "SSLMODE", "APPNAME"]
                    .map(|name| (format!("PG{name}"), "wrong")),
            )
            .envs([("PGOPTIONS", "-c no_such=thing"), ("PGSSLROOTCERT", "/wrong")])
            .envs([("PGSSLCERT", "/wrong"), ("PGSSLKEY", "/wrong"), ("PGPASSFILE", "/wrong")])
            .arg("check")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    for query in ["sslmode=require".to_owned(), format!("sslmode=verify-full&{root}")] {
        let screen = check(&query);
        assert!(screen.contains("ok       connected, PostgreSQL"), "{screen}");
    }
    assert!(check("sslmode=verify-full&sslrootcert=system").contains("ok       connected, PostgreSQL"));
    let stranger = server.path("stranger.crt");
    let screen = check(&format!("sslmode=verify-full&sslrootcert={stranger}"));
    let expected = format!(
        "WRONG    cannot connect: the server's certificate (CN=ignored) is issued by CN=root.example, which is not in \
                    sslrootcert `{stranger}`\n           give this authority's certificate as sslrootcert"
    );
    assert!(screen.contains(&expected) && !screen.contains(PASSWORD), "{screen}");
    let screen = check("sslmode=verify-full&sslrootcert=/missing.crt");
    assert!(
        screen.contains("ANALYTICS_DATABASE_URL: sslrootcert `/missing.crt` cannot be read: No such file"),
        "{screen}"
    );
}

async fn it_falls_back_as_libpq_does(server: &OwnPostgres, root: &str) {
    server.serves("v1");
    let all = "host all all all scram-sha-256";
    // The kind of connection that the server takes, and what each mode makes of it.
    for (rules, is_tls) in
        [("hostssl all all all scram-sha-256", true), ("hostnossl all all all scram-sha-256", false)]
    {
        server.rules(rules);
        for mode in ["allow", "prefer"] {
            assert_eq!(
                encrypted(server, "127.0.0.1", &format!("sslmode={mode}")).await,
                is_tls,
                "{rules} {mode}"
            );
        }
        let strict = if is_tls { "disable" } else { "require" };
        let refused = connect(server, "127.0.0.1", &format!("sslmode={strict}")).await.unwrap_err();
        assert!(refused.to_string().contains("no pg_hba.conf entry"), "{refused}");
    }
    // A wrong password is said, whatever is tried.
    for rules in [all, "hostssl all all all scram-sha-256", "hostnossl all all all scram-sha-256"] {
        server.rules(rules);
        for mode in ["allow", "prefer"] {
            let mut target = target(server, "127.0.0.1", &format!("sslmode={mode}"));
            target.password = Some("wrong".to_owned());
            let error = postgres::connect(&target.options("test"), &target.tls).await.unwrap_err();
            let code =
                error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
            assert_eq!(code, "28P01", "{rules} {mode}: {error}");
        }
    }
    server.rules("host all nobody all scram-sha-256");
    for (mode, expected) in [("allow", "no encryption"), ("prefer", "SSL encryption")] {
        let error = connect(server, "127.0.0.1", &format!("sslmode={mode}")).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{mode}: {error}");
    }
    // The handshake fails: too weak for anybody, even where nothing is verified.
    server.rules(all);
    server.settings(
        "ssl_cert_file = 'v1.crt'\nssl_key_file = 'v1.key'\nssl_min_protocol_version = 'TLSv1.1'\nssl_max_protocol_version = 'TLSv1.1'",
        &[],
    );
    assert!(!encrypted(server, "127.0.0.1", "sslmode=prefer").await);
    for mode in ["require".to_owned(), format!("verify-full&{root}")] {
        let refused = refusal(server, "localhost", &format!("sslmode={mode}")).await;
        assert!(refused.contains("TLS 1.2 or newer") || refused.contains("alert"), "{refused}");
    }
    server.settings("ssl = off", &[]);
    for mode in ["allow", "prefer"] {
        assert!(!encrypted(server, "127.0.0.1", &format!("sslmode={mode}")).await);
    }
    for mode in [
        "require".to_owned(),
        format!("verify-full&{root}"),
        format!("verify-ca&sslrootcert={}", server.path("bundle.crt")),
    ] {
        let refused = refusal(server, "localhost", &format!("sslmode={mode}")).await;
        assert!(refused.starts_with("the server offers no TLS; "), "{refused}");
    }
}

/// Reached at all, whatever answers: the address is neither looked up nor written otherwise.
#[tokio::test]
async fn an_address_in_brackets_is_called() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let called = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let target = postgres::read(&format!("postgres://u@[::1]:{port}/d?sslmode=require"), Tls::default());
    let target = target.unwrap_or_else(|fault| panic!("{fault}"));
    assert!(postgres::connect(&target.options("test"), &target.tls).await.is_err());
    called.join().unwrap();
}

#[tokio::test]
async fn a_folder_is_called_by_its_socket() {
    let folder = std::env::temp_dir().join(format!("analytics socket {}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let encoded = folder.to_str().unwrap().replace('/', "%2F").replace(' ', "%20");
    let socket = folder.join(".s.PGSQL.5433");
    // Whatever the mode: as libpq, there is no TLS on a socket.
    for url in [
        format!("postgres://u@{encoded}:5433/d?sslmode=verify-full"),
        format!("postgres://u@/d?host={encoded}&port=5433&sslmode=require"),
    ] {
        let _ = std::fs::remove_file(&socket);
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let called = std::thread::spawn(move || {
            let mut first = [0; 8];
            std::io::Read::read_exact(&mut listener.accept().unwrap().0, &mut first).unwrap();
            first
        });
        let target = postgres::read(&url, Tls::default()).unwrap_or_else(|fault| panic!("{url} {fault}"));
        assert!(postgres::connect(&target.options("test"), &target.tls).await.is_err());
        assert_eq!(called.join().unwrap()[4..], [0, 3, 0, 0], "a start-up message, no request for TLS");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
