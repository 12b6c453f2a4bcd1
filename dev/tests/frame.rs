//! What surrounds every request is the same in both processes: refusals below the router, limits, metrics, log lines.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dev::bench::Bench;
use dev::http::Server;
use dev::processes::Process;
use dev::wait::until;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PAGE: &str = "https://app.example.org";

#[tokio::test]
async fn both_processes_have_one_frame() -> Result<()> {
    let bench = Bench::new("frame").await?;
    let mut settings = bench.worker_settings(&bench.group);
    settings.insert("ANALYTICS_CORS_ORIGINS".to_owned(), PAGE.to_owned());
    let (mut worker, mut reader) = (bench.worker_with(settings).await?, bench.reader().await?);
    bodies(&worker.server).await?;
    for process in [&worker, &reader] {
        refusals_below_the_router(&process.server).await.with_context(|| process.name.clone())?;
        trailing_slashes(&process.server).await.with_context(|| process.name.clone())?;
    }
    same_metrics(&worker.server, &reader.server).await?;
    same_log_lines(&worker, &reader).await?;
    worker.terminate(Duration::from_secs(30)).await?;
    reader.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

/// What a body is, and which pages may send it.
async fn bodies(worker: &Server) -> Result<()> {
    let (ours, other) = (format!("origin: {PAGE}\r\n"), "origin: https://evil.example.org\r\n".to_owned());
    let (text, json) = ("content-type: text/plain;charset=UTF-8\r\n", "content-type: application/json\r\n");
    for (fields, status, kind) in [
        (ours.clone() + text, 201, ""),
        (ours.clone(), 201, ""),
        (other.clone() + json, 201, ""),
        (other.clone() + text, 415, "unsupported-media-type"),
        (other, 415, "unsupported-media-type"),
        (text.to_owned(), 415, "unsupported-media-type"),
        (format!("{json}{text}"), 415, "unsupported-media-type"),
        (format!("{json}content-encoding: Identity\r\ncontent-encoding: identity,\r\n"), 201, ""),
        (format!("{json}content-encoding: gzip\r\n"), 415, "unsupported-content-encoding"),
        (
            format!("{json}content-encoding: identity\r\ncontent-encoding: GZIP\r\n"),
            415,
            "unsupported-content-encoding",
        ),
    ] {
        let body = r#"{"eventType":"click","source":"page","payload":{}}"#;
        let fields = format!("{fields}content-length: {}\r\n", body.len());
        let sent = [get("/v1/analytics/events", &fields).as_slice(), body.as_bytes()].concat();
        let (head, body) =
            raw(worker, &[b"POST", sent.strip_prefix(b"GET").unwrap_or(&sent)].concat()).await?;
        ensure!(head.starts_with(&status.to_string()), "{fields}: {head} {body}");
        ensure!(status == 201 || body.contains(&format!("/docs#description/{kind}\"")), "{fields}: {body}");
        let told = head.contains(&format!(
            "access-control-allow-origin: {PAGE}\r\naccess-control-allow-credentials: true"
        ));
        ensure!(told == fields.contains(PAGE), "{fields}: {head}");
    }
    // A beacon of a Blob is asked for first.
    let fields = format!(
        "{ours}access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n"
    );
    let sent = get("/v1/analytics/events", &fields);
    let (head, _) = raw(worker, &[b"OPTIONS", sent.strip_prefix(b"GET").unwrap_or(&sent)].concat()).await?;
    ensure!(head.starts_with("204") && head.contains("access-control-allow-headers: content-type"), "{head}");
    ensure!(head.contains("access-control-allow-credentials: true"), "{head}");
    Ok(())
}

/// The last answer to these bytes: its head and its body.
async fn raw(server: &Server, sent: &[u8]) -> Result<(String, String)> {
    let address = server.base.strip_prefix("http://").context("another scheme")?;
    let mut stream = TcpStream::connect(address).await?;
    // A client that still sends must get the answer too.
    stream.write_all(sent).await?;
    let mut answer = String::new();
    timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.context("not closed")??;
    let (_, last) = answer.rsplit_once("HTTP/1.1 ").with_context(|| format!("no answer: {answer}"))?;
    let (head, body) = last.split_once("\r\n\r\n").context("no body")?;
    Ok((head.to_owned(), body.to_owned()))
}

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n").into_bytes()
}

async fn refusals_below_the_router(server: &Server) -> Result<()> {
    let fields = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let (live, long) = ("/health/live", |bytes| format!("/{}", "a".repeat(bytes)));
    for (name, sent, status, kind) in [
        ("90 fields", get(live, &fields(90)), 200, ""),
        ("150 fields", get(live, &fields(150)), 431, "head-too-large"),
        ("1,500 fields", get(live, &fields(1_500)), 431, "head-too-large"),
        ("a field of 80 KB", get(live, &format!("x: {}\r\n", "a".repeat(80_000))), 431, "head-too-large"),
        ("a field of 1 MB", get(live, &format!("x: {}\r\n", "a".repeat(1_000_000))), 431, "head-too-large"),
        ("a URL of 10 KB", get(&long(10_000), ""), 404, "not-found"),
        ("a URL of 20 KB", get(&long(20_000), ""), 414, "address-too-long"),
        ("a URL of 70 KB", get(&long(70_000), ""), 414, "address-too-long"),
        ("a URL of 1 MB", get(&long(1_000_000), ""), 414, "address-too-long"),
        ("a query of 20 KB", get(&format!("{live}?{}", "a".repeat(20_000)), ""), 414, "address-too-long"),
        ("no HTTP", b"GARBAGE\r\n\r\n".to_vec(), 400, "unreadable-request"),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400, "unreadable-request"),
        ("a bad field", get(live, "a b: 1\r\n"), 400, "unreadable-request"),
        ("two lengths", get(live, "content-length: 1\r\ncontent-length: 2\r\n"), 400, "unreadable-request"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505, "refused"),
        // After an answer that is still on its way.
        (
            "the second one",
            [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(), b"\x01\r\n\r\n"].concat(),
            400,
            "unreadable-request",
        ),
    ] {
        let (head, body) = raw(server, &sent).await.context(name)?;
        ensure!(head.starts_with(&status.to_string()), "{name}: {head}");
        if status == 200 {
            continue;
        }
        ensure!(head.contains("\r\ncontent-type: application/problem+json"), "{name}: {head}");
        let problem: Value = serde_json::from_str(&body).with_context(|| format!("{name}: {body}"))?;
        ensure!(problem["type"] == format!("/docs#description/{kind}"), "{name}: {body}");
        ensure!(problem["status"] == status, "{name}: {body}");
        let id = problem["requestId"].as_str().context("no id")?;
        ensure!(head.contains(&format!("\r\nx-request-id: {id}")), "{name}: {head}");
    }
    Ok(())
}

async fn trailing_slashes(server: &Server) -> Result<()> {
    for path in ["/health/", "/health/ready/", "/metrics/", "/docs/", "/v1/openapi.json/?a=1"] {
        let answer = server.get(path).await?;
        ensure!(answer.status.as_u16() == 200, "{path}: {}", answer.text);
    }
    for path in ["/health//", "/docs/scalar.js/", "/v1/"] {
        let answer = server.get(path).await?;
        ensure!(answer.status.as_u16() == 404, "{path}: {}", answer.text);
    }
    let answer = server.send(Method::DELETE, "/v1/analytics/events/").await?;
    ensure!(answer.status.as_u16() == 405 && answer.allow.is_some(), "{}", answer.text);
    Ok(())
}

/// One set of buckets, of labels and of help; routes are patterns.
async fn same_metrics(worker: &Server, reader: &Server) -> Result<()> {
    let mut frames = Vec::new();
    for server in [worker, reader] {
        server.get("/some/path/of/a/client").await?;
        server.get("/docs/scalar-of-another-release.js").await?;
        server.post("/api/v1/analytics/events", "").await?;
        let text = server.get("/metrics").await?.text;
        for route in ["none", "/docs/:file", "/health/ready", "/api/v1/analytics/events"] {
            ensure!(text.contains(&format!("route=\"{route}\"")), "{route} is missing in {text}");
        }
        ensure!(!text.contains("/some/path") && !text.contains("scalar-of"), "{text}");
        ensure!(text.lines().any(|line| line == "http_server_active_requests 1"), "{text}");
        let http = text.lines().filter(|line| line.contains("http_server_"));
        let constant = http.filter_map(|line| match line.split_once(" 0.").map_or(line, |(line, _)| line) {
            help if help.starts_with('#') => Some(help.to_owned()),
            bucket => Some(format!("le={}", bucket.split_once("le=\"")?.1.split('"').next()?)),
        });
        frames.push(constant.collect::<BTreeSet<_>>());
    }
    ensure!(frames[0] == frames[1] && frames[0].len() > 10, "{frames:?}");
    Ok(())
}

/// One shape of JSON lines: the request's id is in `span`.
async fn same_log_lines(worker: &Process, reader: &Process) -> Result<()> {
    let mut shapes = Vec::new();
    for process in [worker, reader] {
        let ended = raw(&process.server, &get("/nothing", "x-request-id: of-this-test\r\n")).await?;
        ensure!(ended.0.starts_with("404") && ended.0.contains("server-timing: total;dur="), "{}", ended.0);
        let mut found = None;
        until("the request is in the log", Duration::from_secs(10), async || {
            let log = std::fs::read_to_string(&process.log)?;
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found = lines.into_iter().find(|line| line["span"]["request.id"] == "of-this-test");
            Ok(found.is_some())
        })
        .await?;
        let line = found.context("no line")?;
        let keys = |value: &Value| {
            value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        shapes.push((keys(&line), keys(&line["span"])));
        // Refusals below the router have it in the same place.
        let log = std::fs::read_to_string(&process.log)?;
        let below = log.lines().find(|line| line.contains("refused below the router")).context("no line")?;
        ensure!(serde_json::from_str::<Value>(below)?["span"]["request.id"].is_string(), "{below}");
    }
    ensure!(shapes[0] == shapes[1], "{shapes:?}");
    Ok(())
}
