//! One `.env` serves both processes: what one of them takes or refuses, so does the other, with the same words.

use std::path::PathBuf;
use std::process::Command;

use dev::processes::{binaries, build};

/// What a process said about a file `.env`.
struct Verdict {
    /// Ended for its settings; otherwise because nobody can listen where it was told to.
    refused: bool,
    said: String,
}

/// A folder with this `.env`, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, dotenv: &[u8]) -> Self {
        let folder = std::env::temp_dir().join(format!("settings-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(".env"), dotenv).unwrap();
        Self(folder)
    }

    fn verdict(&self, binary: &str, variables: &[(&str, &str)]) -> Verdict {
        let output = Command::new("/usr/bin/timeout")
            .arg("60")
            .arg(binaries().unwrap().join(binary))
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(&self.0)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code();
        assert!(code == Some(1) || code == Some(2), "{binary} ended with {code:?}: {said}");
        Verdict { refused: code == Some(2), said }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Nobody is there to log in to, and the address to listen on is nobody's, so that each process ends by itself.
const NEEDED: &str = "ANALYTICS_SERVICE_HOST=192.0.2.1\nANALYTICS_POSTGRES_HOST=127.0.0.1\n\
    ANALYTICS_POSTGRES_PORT=1\nANALYTICS_POSTGRES_USER=u\nANALYTICS_POSTGRES_DB=d\nANALYTICS_POSTGRES_PASSWORD=hunter2\n";

fn both(name: &str, dotenv: &[u8], variables: &[(&str, &str)]) -> Verdict {
    build().unwrap();
    let folder = Folder::with(name, dotenv);
    let [writer, reader] = ["ingest-worker", "query-api"].map(|binary| folder.verdict(binary, variables));
    let said = format!("{}\n{}", writer.said, reader.said);
    assert_eq!(writer.refused, reader.refused, "{}:\n{said}", String::from_utf8_lossy(dotenv));
    // The sentences about settings, which begin with two spaces.
    let sentences = |verdict: &Verdict| -> Vec<String> {
        verdict.said.lines().filter(|line| line.starts_with("  ")).map(str::to_owned).collect()
    };
    let [mut ours, mut theirs] = [sentences(&writer), sentences(&reader)];
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    Verdict { refused: writer.refused, said }
}

#[test]
fn both_processes_take_and_refuse_the_same_values() {
    let good = [
        "ANALYTICS_DRAIN_TIMEOUT=\"20 s\"",
        "ANALYTICS_DRAIN_TIMEOUT=5m",
        "ANALYTICS_DRAIN_TIMEOUT=500ms",
        "ANALYTICS_DRAIN_TIMEOUT='1m 30s'",
        "ANALYTICS_LOG_FORMAT=JSON",
        "ANALYTICS_LOG_FORMAT=' pretty '",
        "ANALYTICS_LOG=INFO",
        "ANALYTICS_LOG=info,ingest_worker::write=debug,query_api=trace",
        "ANALYTICS_LOG='info, sqlx=off'",
        "ANALYTICS_API_VERSION=V1",
        "ANALYTICS_APP_NAME='My analytics'",
        "ANALYTICS_ENVIRONMENT=staging",
        "ANALYTICS_SERVICE_PORT=0",
        "ANALYTICS_SERVICE_PORT=65535",
        "ANALYTICS_SERVICE_HOST=[2001:db8::1]",
        "ANALYTICS_SERVICE_HOST=no-such-host.invalid",
        "ANALYTICS_SERVICE_PORT=",
        "ANALYTICS_SERVICE_PORT='  '",
    ];
    let bad = [
        "ANALYTICS_DRAIN_TIMEOUT=20",
        "ANALYTICS_DRAIN_TIMEOUT=5M",
        "ANALYTICS_DRAIN_TIMEOUT=1month",
        "ANALYTICS_DRAIN_TIMEOUT='1 5s'",
        "ANALYTICS_DRAIN_TIMEOUT=15m",
        "ANALYTICS_DRAIN_TIMEOUT=50ms",
        "ANALYTICS_DRAIN_TIMEOUT=0s",
        "ANALYTICS_DRAIN_TIMEOUT=30d",
        "ANALYTICS_LOG_FORMAT=xml",
        "ANALYTICS_LOG=warning",
        "ANALYTICS_LOG=info,=debug",
        "ANALYTICS_LOG=sqlx=loud",
        "ANALYTICS_API_VERSION=v2",
        "ANALYTICS_APP_NAME='a name that leaves no room for that of the process'",
        "ANALYTICS_APP_NAME=\"two\\nlines\"",
        "ANALYTICS_ENVIRONMENT=\"a\tb\"",
        "ANALYTICS_SERVICE_PORT=65536",
        "ANALYTICS_SERVICE_PORT=80x",
        "ANALYTICS_SERVICE_PORT=-1",
        "ANALYTICS_SERVICE_PORT=tcp://10.0.0.1:8000",
        "ANALYTICS_SERVICE_HOST=http://0.0.0.0",
        "ANALYTICS_SERVICE_HOST=0.0.0.0:8000",
        "ANALYTICS_SERVICE_HOST=1.2.3.999",
        "ANALYTICS_SERVICE_HOST='*'",
    ];
    for (lines, refused) in [(good.as_slice(), false), (bad.as_slice(), true)] {
        for line in lines {
            let (name, _) = line.split_once('=').unwrap();
            let verdict = both("table", format!("{NEEDED}{line}\n").as_bytes(), &[]);
            assert_eq!(verdict.refused, refused, "{line}: {}", verdict.said);
            assert!(!refused || verdict.said.contains(&format!("  {name} is `")), "{line}: {}", verdict.said);
        }
    }
}

#[test]
fn the_encoding_of_dotenv_changes_nothing() {
    // The first line suffers from a byte order mark, the last one from its end.
    let text = format!("ANALYTICS_LOG_FORMAT=xml # no format\n{NEEDED}ANALYTICS_DRAIN_TIMEOUT=20 ");
    let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
    let crlf = text.replace('\n', "\r\n");
    for (name, dotenv) in [
        ("plain", text.clone().into_bytes()),
        ("mark", marked(b"\xef\xbb\xbf", text.as_bytes())),
        ("crlf", crlf.clone().into_bytes()),
        ("mark-crlf", marked(b"\xef\xbb\xbf", crlf.as_bytes())),
        ("utf-16le", marked(b"\xff\xfe", &utf16(u16::to_le_bytes))),
        ("utf-16be", marked(b"\xfe\xff", &utf16(u16::to_be_bytes))),
    ] {
        let verdict = both(name, &dotenv, &[]);
        let said: Vec<_> = verdict.said.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(said.len(), 4, "{name}: {said:#?}");
        for wrong in ["ANALYTICS_LOG_FORMAT is `xml`;", "ANALYTICS_DRAIN_TIMEOUT is `20`;"] {
            assert_eq!(verdict.said.matches(wrong).count(), 2, "{name}: {said:#?}");
        }
    }
    for (name, dotenv) in [("utf-16-unmarked", utf16(u16::to_le_bytes)), ("latin-1", b"A=\xe9\n".to_vec())] {
        let verdict =
            both(name, &dotenv, &[("ANALYTICS_POSTGRES_USER", "u"), ("ANALYTICS_POSTGRES_DB", "d")]);
        assert!(
            verdict.refused && verdict.said.matches(".env is not UTF-8").count() == 2,
            "{}",
            verdict.said
        );
    }
}

#[test]
fn a_line_that_is_no_setting_is_named_by_its_number_and_never_shown() {
    let verdict = both("line", format!("{NEEDED}# more\nANALYTICS_LANES=2\nhunter3 is it\n").as_bytes(), &[]);
    assert!(verdict.refused && !verdict.said.contains("hunter"), "{}", verdict.said);
    assert_eq!(verdict.said.matches(".env, line 9: not NAME=value").count(), 2, "{}", verdict.said);
    let verdict = both("quote", format!("{NEEDED}ANALYTICS_LANES='hunter3\nA=1\n").as_bytes(), &[]);
    assert!(verdict.refused && !verdict.said.contains("hunter"), "{}", verdict.said);
    assert_eq!(verdict.said.matches(".env, line 7: not NAME=value").count(), 2, "{}", verdict.said);
}

#[test]
fn a_dollar_that_became_nothing_is_told_and_the_value_never() {
    let with = |value: &str| format!("{NEEDED}OTHER=x\nANALYTICS_POSTGRES_PASSWORD={value}\n");
    let told = "a `$` in ANALYTICS_POSTGRES_PASSWORD";
    for value in [
        "hunter2$word",
        "hunter2$",
        "hunter2$$word",
        "hunter2${word}",
        "hunter2$1",
        "\"hunter2$word-\"",
        "\"hunter2${word}\"",
        "$word",
        "hunter2$.x",
        "x$OTHER$word",
        "hunter2$word # why",
    ] {
        let verdict = both("dollar", with(value).as_bytes(), &[]);
        assert_eq!(verdict.said.matches(told).count(), 2, "{value}: {}", verdict.said);
        assert!(!verdict.refused && verdict.said.contains("single quotes"), "{value}: {}", verdict.said);
        assert!(
            !verdict.said.contains("hunter") && !verdict.said.contains("word:"),
            "{value}: {}",
            verdict.said
        );
    }
    // Here dotenv takes the closing quote for a part of the value, which then never ends.
    for value in ["\"hunter2$\"", "\"hunter2$word\""] {
        let verdict = both("dollar", with(value).as_bytes(), &[]);
        assert!(verdict.refused && !verdict.said.contains("hunter"), "{value}: {}", verdict.said);
        assert_eq!(verdict.said.matches(told).count(), 2, "{value}: {}", verdict.said);
    }
    for value in [
        "'hunter2$word'",
        r"hunter2\$word",
        r#""hunter2\$word""#,
        "hunter2$OTHER",
        "hunter2${OTHER}y",
        "$HOME",
    ] {
        let verdict = both("dollar", with(value).as_bytes(), &[("HOME", "/")]);
        assert!(!verdict.refused && !verdict.said.contains("a `$`"), "{value}: {}", verdict.said);
    }
    // What is set elsewhere is not read here.
    let verdict = both("dollar", with("a$b").as_bytes(), &[("ANALYTICS_POSTGRES_PASSWORD", "hunter2")]);
    assert!(!verdict.said.contains("a `$`"), "{}", verdict.said);
}

#[test]
fn what_kubernetes_sets_for_a_service_is_no_setting() {
    let link = "tcp://10.0.0.9:5432";
    let of_analytics = [
        ("ANALYTICS_SERVICE_HOST", "10.0.0.9"),
        ("ANALYTICS_SERVICE_PORT", "8000"),
        ("ANALYTICS_SERVICE_PORT_HTTP", "8000"),
        ("ANALYTICS_PORT", "tcp://10.0.0.9:8000"),
        ("ANALYTICS_PORT_8000_TCP", "tcp://10.0.0.9:8000"),
        ("ANALYTICS_PORT_8000_TCP_ADDR", "10.0.0.9"),
    ];
    for (variables, name, service) in [
        ([("ANALYTICS_POSTGRES_PORT", link)].as_slice(), "ANALYTICS_POSTGRES_PORT", "analytics-postgres"),
        (&[("ANALYTICS_SERVICE_PORT", link)], "ANALYTICS_SERVICE_PORT", "analytics-service"),
        (&of_analytics, "ANALYTICS_SERVICE_HOST", "analytics"),
    ] {
        let verdict = both("link", NEEDED.as_bytes(), variables);
        assert!(verdict.refused && verdict.said.contains("enableServiceLinks: false"), "{}", verdict.said);
        let told = format!("made by Kubernetes for a Service named {service};");
        assert!(verdict.said.contains(&format!("  {name} is `")), "{}", verdict.said);
        assert_eq!(verdict.said.matches(&told).count(), 2, "{}", verdict.said);
    }
    // Settings of one's own are settings, and what is no setting disturbs nobody.
    let mut own = of_analytics.to_vec();
    own.extend([("ANALYTICS_SERVICE_HOST", "198.51.100.7"), ("ANALYTICS_KAFKA_PORT", link)]);
    own.extend([
        ("ANALYTICS_KAFKA_SERVICE_HOST", "10.0.0.9"),
        ("ANALYTICS_KAFKA_PORT_9092_TCP_PROTO", "tcp"),
    ]);
    let verdict = both("link", NEEDED.as_bytes(), &own);
    assert!(!verdict.refused && !verdict.said.contains("no setting"), "{}", verdict.said);
}

#[test]
fn a_name_that_is_no_setting_is_told_with_the_nearest_that_is() {
    let dotenv = format!("{NEEDED}ANALYTICS_POSTGRES_PASWORD=x\nANALYTICS_LANES=2\nANALYTICS_POOL_SIZE=8\n");
    let variables = [
        ("ANALYTICS_HTTP_MAX_BODY", "8MiB"),
        ("ANALYTICS_EUREKA_ENABLED", "true"),
        ("ANALYTICS_KAFKA_PROPERTY_CLIENT_RACK", "a"),
    ];
    let verdict = both("stranger", dotenv.as_bytes(), &variables);
    for told in [
        "ANALYTICS_POSTGRES_PASWORD is no setting; ANALYTICS_POSTGRES_PASSWORD is one",
        "ANALYTICS_HTTP_MAX_BODY is no setting any more: ",
        "ANALYTICS_EUREKA_ENABLED is no setting\"",
    ] {
        assert_eq!(verdict.said.matches(told).count(), 2, "{told}: {}", verdict.said);
    }
    assert_eq!(verdict.said.matches("is no setting").count(), 6, "{}", verdict.said);
}

#[test]
fn the_end_of_a_line_is_no_part_of_a_value() {
    let variables = [
        ("ANALYTICS_LOG_FORMAT", "json\r"),
        ("ANALYTICS_SERVICE_PORT", " 0\n"),
        ("ANALYTICS_POSTGRES_USER", "u\r\n"),
        ("ANALYTICS_KAFKA_TOPIC", "a\n"),
        ("ANALYTICS_ENVIRONMENT", " \n"),
    ];
    let verdict = both("ends", NEEDED.as_bytes(), &variables);
    assert!(!verdict.refused, "{}", verdict.said);
}
