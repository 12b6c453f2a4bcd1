//! The OpenAPI documents and what is sent: schemathesis finds no difference on the real processes, the examples are their
//! own answers, and what both documents name is the same in both.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dev::bench::Bench;
use dev::http::Server;
use dev::stack::checkout;
use dev::tables;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

const EVENTS: &str = "/v1/analytics/events";
/// Longest run on one document; some ten seconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn schemathesis_finds_no_difference_between_documents_and_answers() -> Result<()> {
    let bench = Bench::new("schemathesis").await?;
    let mut worker = bench.worker().await?;
    let mut settings = bench.reader_settings();
    settings.insert("ANALYTICS_INGEST_PUBLIC_URL".to_owned(), worker.server.base.clone());
    let mut reader = bench.reader_with(settings).await?;
    // Something to be read.
    let events = tables::events(&bench.database.pool).await?.len();
    schemathesis(&worker.server).await?;
    let stored = tables::events(&bench.database.pool).await?.len() - events;
    ensure!(
        stored >= 20,
        "only {stored} of its events were good: what it sends is refused for another reason"
    );
    schemathesis(&reader.server).await?;
    worker.terminate(Duration::from_secs(30)).await?;
    reader.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

async fn schemathesis(server: &Server) -> Result<()> {
    let program =
        std::env::var_os("SCHEMATHESIS").context("SCHEMATHESIS is not set: dev/stack test-tools")?;
    let run = Command::new(program)
        .arg("--config-file")
        .arg(checkout().join("dev/tests/schemathesis.toml"))
        .arg("run")
        .arg(format!("{}/v1/openapi.json", server.base))
        .arg("--no-color")
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run).await.context("schemathesis takes too long")??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // It says so too if it had nothing to do.
    ensure!(said.contains("Fuzzing (in") && !said.contains("Tested: 0"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_examples_are_the_servers_own_answers() -> Result<()> {
    let bench = Bench::new("examples").await?;
    let (mut worker, mut reader) = (bench.worker().await?, bench.reader().await?);
    let writing = Examples::of(&worker.server).await?;
    let reading = Examples::of(&reader.server).await?;

    let command = writing.of_schema("Command")?;
    for status in [201, 200] {
        let mut answer = worker.server.post(EVENTS, command.to_string()).await?;
        ensure!(answer.status.as_u16() == status, "{} {}", answer.status, answer.text);
        let mut example = writing.of_schema("StoredEvent")?;
        one_form(&mut answer.json["ingestedAt"], &mut example["ingestedAt"])?;
        ensure!(answer.json == example, "{}, not {example}", answer.text);
    }
    let mut refused = command;
    refused.as_object_mut().context("no object")?.remove("eventType");
    let mut answer = worker.server.post(EVENTS, refused.to_string()).await?.json;
    writing.check_problem(&mut answer)?;

    for (path, schema) in [
        ("/v1/analytics/events/recent?limit=1", "RecentEvents"),
        ("/v1/analytics/metrics/summary?windowMinutes=60&reference=2025-11-16T18:30:00Z", "Summary"),
        ("/health", "HealthStatus"),
    ] {
        let (answer, example) = (reader.server.get_json(path).await?, reading.of_schema(schema)?);
        ensure!(answer == example, "{path} answers {answer}, not {example}");
    }
    let mut answer = reader.server.get("/v1/analytics/events/recent?limit=501").await?.json;
    reading.check_problem(&mut answer)?;
    let answer = worker.server.get_json("/health").await?;
    ensure!(answer == writing.of_schema("HealthStatus")?, "{answer}");
    worker.terminate(Duration::from_secs(30)).await?;
    reader.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}

/// A document, for its examples.
struct Examples(Value);

impl Examples {
    async fn of(server: &Server) -> Result<Self> {
        Ok(Self(server.get_json("/v1/openapi.json").await?))
    }

    fn of_schema(&self, name: &str) -> Result<Value> {
        let example = &self.0["components"]["schemas"][name]["example"];
        ensure!(example.is_object(), "{name} has no example");
        Ok(example.clone())
    }

    /// But for the id, which is another one for each request.
    fn check_problem(&self, answer: &mut Value) -> Result<()> {
        let mut example = self.of_schema("Problem")?;
        one_form(&mut answer["requestId"], &mut example["requestId"])?;
        ensure!(*answer == example, "{answer}, not {example}");
        Ok(())
    }
}

/// Takes out two texts that differ in letters and digits only, as instants and ids do.
fn one_form(answer: &mut Value, example: &mut Value) -> Result<()> {
    let form = |value: &Value| -> Result<String> {
        let text = value.as_str().context("no text")?;
        Ok(text.chars().map(|c| if c.is_ascii_hexdigit() { '0' } else { c }).collect())
    };
    ensure!(form(answer)? == form(example)?, "{answer} is of another form than {example}");
    (*answer, *example) = (Value::Null, Value::Null);
    Ok(())
}

fn golden(process: &str) -> Result<Value> {
    let path = checkout().join(process).join("tests/openapi.json");
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

#[test]
fn what_both_documents_name_is_the_same_in_both() -> Result<()> {
    let schemas = |document: Value| -> Result<_> {
        let mut schemas = document["components"]["schemas"].as_object().context("no schemas")?.clone();
        // Each process refuses other things.
        schemas
            .values_mut()
            .for_each(|schema| drop(schema.as_object_mut().map(|schema| schema.remove("example"))));
        Ok(schemas)
    };
    let (writing, reading) = (schemas(golden("ingest-worker")?)?, schemas(golden("query-api")?)?);
    let mut shared = Vec::new();
    for (name, schema) in &writing {
        if let Some(other) = reading.get(name) {
            ensure!(schema == other, "{name} is {schema} in one document and {other} in the other");
            shared.push(name.as_str());
        }
    }
    ensure!(shared == ["FieldError", "HealthStatus", "Problem"], "{shared:?}");
    Ok(())
}

/// The kinds of problem that a document's introduction explains are those that its process can answer.
#[test]
fn every_kind_of_problem_is_explained() -> Result<()> {
    for process in ["ingest-worker", "query-api"] {
        let introduction = golden(process)?["info"]["description"].as_str().context("no text")?.to_owned();
        let source = std::fs::read_to_string(Path::new(&checkout()).join(process).join("src/http/error.rs"))?;
        let (_, kinds) = source.split_once("fn kind(&self)").context("no kinds")?;
        let (kinds, _) = kinds.split_once("/// The HTTP status.").context("no end of the kinds")?;
        let kinds = kinds
            .split('"')
            .filter(|text| text.contains('-') || *text == "unavailable" || *text == "timeout");
        let mut found = 0;
        for kind in kinds.filter(|kind| !kind.contains(' ')) {
            ensure!(introduction.contains(&format!("\n## {kind}\n")), "{process} does not explain {kind}");
            found += 1;
        }
        ensure!(found >= 9, "only {found} kinds are found in {process}");
    }
    Ok(())
}

/// An optional member that is null is absent, and one that the document does not know is ignored.
#[tokio::test]
async fn the_answer_to_an_event_is_as_its_schema_says() -> Result<()> {
    let bench = Bench::new("members").await?;
    let mut worker = bench.worker().await?;
    let schema = Examples::of(&worker.server).await?.0["components"]["schemas"].take();
    let event = json!({ "eventType": "click", "source": "web", "payload": {}, "unknown": [] });
    for (member, value) in schema["Command"]["properties"].as_object().context("no members")? {
        let required = schema["Command"]["required"].as_array().context("no list")?.contains(&json!(member));
        let mut event = event.clone();
        event[member] = Value::Null;
        let answer = worker.server.post(EVENTS, event.to_string()).await?;
        let nullable = value["nullable"] == json!(true);
        ensure!(nullable != required, "{member} is required and may be null, or neither");
        ensure!(answer.status.is_success() == nullable, "{member}: {}", answer.text);
        let other = worker.server.send(Method::PUT, EVENTS).await?;
        ensure!(other.status.as_u16() == 405 && other.allow.as_deref() == Some("POST"), "{}", other.text);
    }
    worker.terminate(Duration::from_secs(30)).await?;
    bench.remove().await
}
