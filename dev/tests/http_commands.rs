//! Commands over HTTP: what is answered 201 is stored, once, and to be seen.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dev::bench::Bench;
use dev::http::{Answer, Server};
use dev::{oracle, tables};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

const EVENTS: &str = "/v1/analytics/events";
const CLIENTS: usize = 64;
const POSTS: usize = 8;

#[tokio::test]
async fn a_posted_event_is_in_the_summary_and_in_recent_at_once() -> Result<()> {
    let bench = Bench::new("posted").await?;
    let (mut worker, mut reader) = (bench.worker().await?, bench.reader().await?);
    for (number, mount) in ["", "/api"].into_iter().enumerate() {
        let body = json!({
            "eventType": "challenge.completed", "source": "challenge-service",
            "occurredAt": format!("2025-11-16T18:14:0{number}.048931"), "tenantId": null,
            "payload": { "studentId": "s-1", "points": 10 }, "more": "is ignored",
        });
        let answer = worker.server.post(&format!("{mount}{EVENTS}"), body.to_string()).await?;
        ensure!(answer.status.as_u16() == 201, "{} {}", answer.status, answer.text);
        let members: Vec<_> = answer.json.as_object().context("no object")?.keys().collect();
        ensure!(members.len() == 6, "{members:?}");
        let path = format!("{mount}/v1/analytics/events/recent?limit=1");
        let recent = reader.server.get_json(&path).await?;
        let expected = json!({ "count": 1, "items": [{
            "id": answer.json["id"], "eventType": "challenge.completed", "source": "challenge-service",
            "occurredAt": format!("2025-11-16T18:14:0{number}.048931+00:00"), "tenantId": null,
            "payload": { "studentId": "s-1", "points": 10 },
        }]});
        ensure!(recent == expected, "{recent}, not {expected}");
        let path =
            format!("{mount}/v1/analytics/metrics/summary?windowMinutes=5&reference=2025-11-16T18:15:00Z");
        let summary = reader.server.get_json(&path).await?;
        let expected = json!({
            "windowStart": "2025-11-16T18:10:00+00:00", "windowEnd": "2025-11-16T18:15:00+00:00",
            "eventsPerType": { "challenge.completed": number + 1 },
            "eventsPerInterval": [{ "bucketStart": "2025-11-16T18:10:00+00:00", "count": number + 1 }],
        });
        ensure!(summary == expected, "{summary}, not {expected}");
    }
    worker.terminate(Duration::from_secs(30)).await?;
    reader.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

#[tokio::test]
async fn many_clients_at_once_each_get_their_own_event() -> Result<()> {
    let bench = Bench::new("posting").await?;
    let mut worker = bench.worker().await?;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(post_some(worker.server.clone(), client));
    }
    let mut ids = HashSet::new();
    while let Some(posted) = clients.join_next().await {
        for id in posted?? {
            ensure!(ids.insert(id), "the id {id} was given twice");
        }
    }
    let stored: HashSet<_> =
        tables::events(&bench.database.pool).await?.into_iter().map(|event| event.id).collect();
    ensure!(stored.len() == CLIENTS * POSTS && stored == ids, "{} given, {} stored", ids.len(), stored.len());
    oracle::counts_agree(&bench.database.pool).await?;
    // The commands' own rows in the ledger add up too.
    oracle::ledger_balances(&bench.database.pool, &bench.group, &std::collections::BTreeMap::new()).await?;
    worker.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

async fn post_some(server: Server, client: usize) -> Result<Vec<Uuid>> {
    let mut ids = Vec::new();
    for number in 0..POSTS {
        let body = json!({ "eventType": "click", "source": "web", "payload": { "client": client, "number": number } });
        let answer = server.post(EVENTS, body.to_string()).await?;
        ensure!(answer.status.as_u16() == 201, "{} {}", answer.status, answer.text);
        ids.push(answer.json["id"].as_str().context("no id")?.parse()?);
    }
    Ok(ids)
}

#[tokio::test]
async fn the_same_id_again_is_answered_and_not_stored_again() -> Result<()> {
    let bench = Bench::new("again").await?;
    let mut worker = bench.worker().await?;
    let body = json!({
        "id": "5f2c3f5e-6e2b-4a2d-8f5e-9b1a2c3d4e5f", "eventType": "click", "source": "web", "payload": {},
        "occurredAt": "2025-11-16T18:14:00Z",
    });
    let first = worker.server.post(EVENTS, body.to_string()).await?;
    let second = worker.server.post(EVENTS, body.to_string()).await?;
    ensure!(first.status.as_u16() == 201, "{} {}", first.status, first.text);
    ensure!(second.status.as_u16() == 200 && second.json == first.json, "{} {}", second.status, second.text);
    ensure!(tables::events(&bench.database.pool).await?.len() == 1, "stored twice");
    worker.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

/// An event that is good but for this member.
fn with(member: &str, value: Value) -> String {
    let mut event = json!({ "eventType": "click", "source": "web", "payload": {} });
    event[member] = value;
    event.to_string()
}

#[tokio::test]
async fn what_cannot_be_an_event_is_refused_with_a_problem_document() -> Result<()> {
    let bench = Bench::new("refused").await?;
    let (mut worker, mut reader) = (bench.worker().await?, bench.reader().await?);
    for (body, status) in [
        ("{\"eventType\":\"click\"".to_owned(), 400),
        (String::new(), 400),
        (r#"{"eventType":"click","source":"web"}"#.to_owned(), 422),
        (with("eventType", json!("")), 422),
        (with("eventType", json!("x".repeat(121))), 422),
        (with("eventType", json!(7)), 422),
        (with("source", json!("x".repeat(121))), 422),
        (with("tenantId", json!("x".repeat(65))), 422),
        (with("payload", json!([1])), 422),
        (with("payload", json!({ "a": "\0" })), 422),
        (with("occurredAt", json!("yesterday")), 422),
        (with("id", json!("not a uuid")), 422),
        (with("id", json!("00000000-0000-0000-0000-000000000000")), 422),
        (with("eventId", json!("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF")), 422),
    ] {
        let answer = worker.server.post(EVENTS, body.clone()).await?;
        is_problem(&answer, status).with_context(|| format!("POST {body}"))?;
    }
    for (server, method, path, status) in [
        (&worker.server, Method::GET, "/v1/analytics/nothing", 404),
        (&worker.server, Method::GET, EVENTS, 405),
        (&reader.server, Method::GET, "/v1/analytics/nothing", 404),
        (&reader.server, Method::POST, EVENTS, 405),
        (&reader.server, Method::DELETE, "/v1/analytics/metrics/summary", 405),
        (&reader.server, Method::GET, "/v1/analytics/metrics/summary?windowMinutes=4", 422),
        (&reader.server, Method::GET, "/v1/analytics/metrics/summary?windowMinutes=10081", 422),
        (&reader.server, Method::GET, "/v1/analytics/metrics/summary?windowMinute=5", 400),
        (&reader.server, Method::GET, "/v1/analytics/metrics/summary?reference=yesterday", 422),
        (&reader.server, Method::GET, "/v1/analytics/events/recent?limit=0", 422),
        (&reader.server, Method::GET, "/v1/analytics/events/recent?limit=501", 422),
    ] {
        let answer = server.send(method.clone(), path).await?;
        is_problem(&answer, status).with_context(|| format!("{method} {path}"))?;
        ensure!(status != 405 || answer.allow.is_some(), "{method} {path}: 405 without Allow");
    }
    ensure!(tables::events(&bench.database.pool).await?.is_empty(), "something refused is stored");
    worker.terminate(Duration::from_secs(30)).await?;
    reader.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

/// RFC 9457, in the one shape that all of ours have.
fn is_problem(answer: &Answer, status: u16) -> Result<()> {
    let told = format!("{} {} {}", answer.status, answer.content_type, answer.text);
    ensure!(answer.status.as_u16() == status, "not {status}: {told}");
    ensure!(answer.content_type.starts_with("application/problem+json"), "no problem document: {told}");
    ensure!(answer.json["status"] == status, "another status in the document: {told}");
    for member in ["type", "title", "requestId"] {
        ensure!(answer.json[member].is_string(), "no {member}: {told}");
    }
    Ok(())
}
