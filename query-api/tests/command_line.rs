use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sqlx::{ConnectOptions as _, PgPool};

use crate::harness::{login, reader};

/// The binary, in a folder without a `.env` and without this process's environment.
fn query_api(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_query-api"));
    command.env_clear().envs(variables.iter().copied()).current_dir("/");
    command
}

fn standard_error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_wrong_setting_is_reported_at_once() {
    let output = query_api(&[
        ("ANALYTICS_SERVICE_PORT", "80x"),
        ("ANALYTICS_POSTGRES_PORT", "0"),
        ("ANALYTICS_POSTGRES_PASSWORD", "s3cret"),
        ("ANALYTICS_POSTGRES_PASSWORD_FILE", "/nowhere"),
        ("ANALYTICS_DATABASE_URL", ""),
        ("ANALYTICS_STATEMENT_TIMEOUT", "5"),
        ("ANALYTICS_METRICS_WINDOW_MINUTES", "4"),
        ("ANALYTICS_LOG", ""),
    ])
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        standard_error(&output),
        "query-api cannot start with these settings:
  ANALYTICS_SERVICE_PORT is `80x`; allowed is a whole number from 0 to 65535
  ANALYTICS_METRICS_WINDOW_MINUTES is `4`; allowed is a whole number from 5 to 10080
  ANALYTICS_STATEMENT_TIMEOUT is `5`; allowed is a duration such as 500ms, 5s, 2m, 1h or 30d, from 1ms to 1d
  ANALYTICS_POSTGRES_USER is not set; allowed is a name, or ANALYTICS_DATABASE_URL instead
  ANALYTICS_POSTGRES_DB is not set; allowed is a name, or ANALYTICS_DATABASE_URL instead
  ANALYTICS_POSTGRES_PORT is `0`; allowed is a whole number from 1 to 65535
  ANALYTICS_POSTGRES_PASSWORD and ANALYTICS_POSTGRES_PASSWORD_FILE are both set; allowed is one of them

"
    );
}

#[test]
fn a_url_is_read_strictly_and_never_shown() {
    for (url, expected) in [
        ("mysql://u:s3cret@h/d", "neither postgres:// nor postgresql://"),
        ("postgres://u:1234/s3cret@h/d", "%2F"),
        ("postgres://u:s3cret@w@h/d", "%40"),
        ("postgres://h/s3cret", "no user"),
        ("postgres://u:s3cret@h", "no database"),
        ("postgres://u:s3cret@::1:5432/d", "as [::1]"),
        ("postgres://u:s3cret@h/d?sslmod=verify-full", "perhaps sslmode is meant"),
        (
            "postgres://u:s3cret@[::1]/d?sslrootcert=/missing",
            "sslrootcert `/missing` cannot be read: No such",
        ),
    ] {
        let output = query_api(&[("ANALYTICS_READ_DATABASE_URL", url)]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}");
        let text = standard_error(&output);
        assert!(text.contains("ANALYTICS_READ_DATABASE_URL") && text.contains(expected), "{url}: {text}");
        assert!(!text.contains("s3cret") && !text.contains("1234"), "{url}: {text}");
    }
}

#[test]
fn what_a_url_does_not_say_about_tls_the_settings_say() {
    let given = |variable: &str, value: &str| {
        let url = ("ANALYTICS_DATABASE_URL", "postgres://u@h/d");
        let output = query_api(&[url, (variable, value)]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        standard_error(&output)
    };
    let text = given("ANALYTICS_POSTGRES_SSLROOTCERT", "/missing");
    assert!(
        text.contains("ANALYTICS_POSTGRES_SSLROOTCERT is `/missing`; allowed is a readable file: "),
        "{text}"
    );
    let text = given("ANALYTICS_POSTGRES_SSLMODE", "verify_full");
    assert!(text.contains("ANALYTICS_POSTGRES_SSLMODE is `verify_full`; allowed is disable, "), "{text}");
}

#[test]
fn a_host_or_database_that_is_a_url_is_not_shown() {
    let parts = [("ANALYTICS_POSTGRES_USER", "u"), ("ANALYTICS_POSTGRES_DB", "postgres://u:s3cret@h/d")];
    for (host, expected) in
        [("postgres://u:s3cret@h/d", "is a URL"), ("h:5432", "has a port"), ("a b", "a character")]
    {
        let output = query_api(&[parts[0], parts[1], ("ANALYTICS_POSTGRES_HOST", host)]).output().unwrap();
        let text = standard_error(&output);
        assert!(
            text.contains("ANALYTICS_POSTGRES_HOST ")
                && text.contains(expected)
                && text.contains("DB is a URL"),
            "{host}: {text}"
        );
        assert!(output.status.code() == Some(2) && !text.contains("s3cret"), "{host}: {text}");
    }
}

#[test]
fn help_version_openapi_and_wrong_usage() {
    let help = query_api(&[]).arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for expected in [
        "ANALYTICS_SERVICE_PORT] [default: 8000]",
        "ANALYTICS_POSTGRES_PASSWORD_FILE",
        "Exit codes:",
        "  2  wrong",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let version = query_api(&[]).arg("--version").output().unwrap();
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        format!("query-api {}\n", env!("CARGO_PKG_VERSION"))
    );
    let document = query_api(&[]).arg("openapi").output().unwrap();
    assert_eq!(document.status.code(), Some(0));
    assert!(serde_json::from_slice::<Value>(&document.stdout).unwrap()["paths"].is_object());
    assert_eq!(query_api(&[]).arg("--nonsense").output().unwrap().status.code(), Some(2));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_role_that_may_write_ends_the_process_with_2(pool: PgPool) {
    let url = login(&pool, "query_api_test_writer", "analytics_writer").await.to_url_lossy().to_string();
    let output = query_api(&[("ANALYTICS_READ_DATABASE_URL", &url), ("ANALYTICS_SERVICE_PORT", "0")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", standard_error(&output));
    let text = standard_error(&output);
    assert!(text.contains("may write to") && !text.contains(crate::harness::PASSWORD), "{text}");
}

#[sqlx::test(migrations = "../migrations")]
async fn check_says_on_one_screen_what_is_wrong_and_ends_with_3(pool: PgPool) {
    let read = login(&pool, "query_api_test_reader", "analytics_reader").await;
    let write = login(&pool, "query_api_test_writer", "analytics_writer").await;
    let stranger = login(&pool, "query_api_test_stranger", "").await;
    for (login, code, sentences) in [
        (
            read.clone(),
            0,
            vec![
                "schema version",
                "(login query_api_test_reader) may write nothing of ours",
                "Nothing is wrong.",
            ],
        ),
        (
            write,
            3,
            vec![
                "WRONG    the role query_api_test_writer may write to analytics_events",
                "give it a login",
                "1 thing is wrong.",
            ],
        ),
        (
            stranger,
            3,
            vec![
                "WRONG    the role query_api_test_stranger may not read analytics_events",
                "make it a member of analytics_reader",
            ],
        ),
        (
            read.clone().password("wrong"),
            3,
            vec![
                "WRONG    cannot connect: password authentication failed",
                "check ANALYTICS_READ_DATABASE_URL",
            ],
        ),
        (read.clone().port(1), 3, vec!["WRONG    cannot connect: Connection refused", "check host and port"]),
        (read.database("no_such_database"), 3, vec!["does not exist", "make the database"]),
    ] {
        let url = login.to_url_lossy().to_string();
        let output = query_api(&[("ANALYTICS_READ_DATABASE_URL", &url)]).arg("check").output().unwrap();
        let said = String::from_utf8(output.stdout.clone()).unwrap() + &standard_error(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for sentence in sentences {
            assert!(said.contains(sentence), "{sentence} is not in {said}");
        }
        assert!(!said.contains(crate::harness::PASSWORD), "{said}");
    }
    let output = query_api(&[("ANALYTICS_SERVICE_PORT", "x")]).arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "settings are refused as by every verb");
}

#[sqlx::test(migrations = "../migrations")]
async fn sigterm_ends_the_process_with_0_and_logs_are_json_without_a_terminal(pool: PgPool) {
    let url = reader(&pool).await.connect.to_url_lossy().to_string();
    let file = std::env::temp_dir().join(format!("query-api-test-{}", std::process::id()));
    std::fs::write(&file, url + "\n").unwrap();
    let variables =
        [("ANALYTICS_READ_DATABASE_URL_FILE", file.to_str().unwrap()), ("ANALYTICS_SERVICE_PORT", "0")];
    let mut process = query_api(&variables).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let address = lines.find_map(|line| line["address"].as_str().map(str::to_owned)).unwrap();
    std::fs::remove_file(&file).unwrap();

    let client = reqwest::Client::new();
    let request =
        client.get(format!("http://{address}/v1/analytics/metrics/summary")).header("x-request-id", "r-1");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let line = lines.next().unwrap();
    assert_eq!(line["span"]["request.id"], "r-1", "{line}");
    assert_eq!((&line["http.status"], &line["level"]), (&200.into(), &"INFO".into()), "{line}");

    let killed = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_log_that_nobody_reads_any_more_keeps_no_signal_from_ending_the_process(pool: PgPool) {
    let url = reader(&pool).await.connect.to_url_lossy().to_string();
    let variables = [("ANALYTICS_READ_DATABASE_URL", url.as_str()), ("ANALYTICS_SERVICE_PORT", "0")];
    let mut process = query_api(&variables).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("\"address\"")).unwrap().unwrap();
    drop(lines);

    let killed = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = tokio::task::spawn_blocking(move || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            match process.try_wait().unwrap() {
                None if std::time::Instant::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(20))
                }
                None => break process.kill().unwrap(),
                Some(status) => break assert_eq!(status.code(), Some(0)),
            }
        }
        assert_eq!(process.wait().unwrap().code(), Some(0));
    });
    ended.await.unwrap();
}
