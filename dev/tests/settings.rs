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
        let output = Command::new(binaries().unwrap().join(binary))
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
        "ANALYTICS_DRAIN_TIMEOUT=1500ms",
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
        "ANALYTICS_DRAIN_TIMEOUT=500ms",
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
