//! Names of headers are bytes: whatever they are, a good record is an event, and a dead letter keeps them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dev::bench::Bench;
use dev::produce::Record;
use dev::{oracle, tables};
use serde_json::{Value, json};

const RECORDS: usize = 2_000;
const TOPIC: &str = "iam.user.registered";

/// Not UTF-8, cut off in the middle of a character, with a NUL before and without a value, empty, as it should be.
fn headers() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let names: [(&[u8], Option<&[u8]>); 7] = [
        (b"\xff\xfe", Some(b"one")),
        (b"trac\xc3", Some(b"")),
        (b"a\0b", Some(b"\xff")),
        (b"c\0", None),
        (b"\xc0\x80", None),
        (b"", Some(b"x")),
        (b"tenant-id", Some(b"school-7")),
    ];
    names.into_iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
}

fn kept() -> Value {
    json!([
        ["\u{fffd}\u{fffd}", "b25l", "//4="],
        ["trac\u{fffd}", "", "dHJhY8M="],
        ["a\u{fffd}b", "/w==", "YQBi"],
        ["c\u{fffd}", null, "YwA="],
        ["\u{fffd}\u{fffd}", null, "wIA="],
        ["", "eA=="],
        ["tenant-id", "c2Nob29sLTc="],
    ])
}

fn record(topic: &str, number: usize) -> Record {
    let good = format!(r#"{{"userId":"u-{number}","registeredAt":[2025,11,16,18,14,{}]}}"#, number % 60);
    let value = if number.is_multiple_of(2) { good } else { "{".to_owned() };
    Record {
        topic: topic.to_owned(),
        partition: Some(0),
        value: Some(value.into_bytes()),
        headers: headers(),
        ..Record::default()
    }
}

#[tokio::test]
async fn names_of_headers_that_are_not_utf8_are_kept_and_harm_nobody() -> Result<()> {
    let bench = Bench::bare("headers").await?;
    let topic = format!("{}{TOPIC}", bench.prefix);
    bench.topics.create(&[(topic, 1)]).await?;
    let records: Vec<_> = (0..RECORDS).map(|number| record(TOPIC, number)).collect();
    bench.produce_records(&records).await?;
    let mut worker = bench.worker().await?;
    bench.settled(&bench.group, RECORDS).await?;
    worker.terminate(Duration::from_secs(30)).await?;

    let letters = tables::dead_letters(&bench.database.pool).await?;
    ensure!(letters.len() == RECORDS / 2, "{} dead letters", letters.len());
    let other = letters.iter().find(|letter| letter.record_headers != kept());
    ensure!(other.is_none(), "{other:?}");
    let events = tables::events(&bench.database.pool).await?;
    ensure!(events.len() == RECORDS / 2, "{} events", events.len());
    ensure!(events.iter().all(|event| event.tenant_id.as_deref() == Some("school-7")), "another tenant");

    let log = std::fs::read_to_string(&worker.log)?;
    ensure!(log.len() < 64 << 10, "{} bytes of log for {RECORDS} records", log.len());
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(line["level"] != "ERROR", "{line}");
    }
    oracle::ledger_balances(&bench.database.pool, &bench.group, &bench.topics.ends(&bench.prefix).await?)
        .await?;
    bench.remove().await
}
