//! Every file of `dev/upstreams` is a message and what it must become; the end-to-end test reads the same files.

use std::collections::BTreeMap;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::analytics::AnalyticsEvent;
use shared::instant;
use shared::json::text;

use super::tests::normalizer;
use crate::consume::{KafkaRecord, RecordTimestamp, TimestampKind};
use crate::decode::{Decoded, Limits, Rejection, decode};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    about: String,
    record: GoldenRecord,
    becomes: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GoldenRecord {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: DateTime<Utc>,
    key: Option<String>,
    key_base64: Option<String>,
    headers: Vec<(String, Option<String>)>,
    /// The bytes are this member's text as it stands in the file; null is a null value.
    value: Option<Box<RawValue>>,
    value_text: Option<String>,
    value_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Becomes {
    event: Option<Row>,
    id_from: Option<String>,
    dead_letter: Option<DeadLetter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    id: String,
    event_type: String,
    source: String,
    occurred_at: String,
    tenant_id: Option<String>,
    actor_id: Option<String>,
    payload: Box<RawValue>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct DeadLetter {
    class: String,
    sentence: String,
}

enum Outcome {
    Event(AnalyticsEvent),
    Refused(Rejection),
    Tombstone,
}

#[test]
fn every_message_of_the_workshop_becomes_what_its_file_says() {
    let mut failures = Vec::new();
    let files = files();
    assert!(files.len() > 100, "only {} golden files", files.len());
    for (name, content) in files {
        let golden: Golden = serde_json::from_str(&content).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!golden.about.is_empty(), "{name} does not say what it is about");
        let record = golden.record.build();
        if let Err(difference) = golden.compare(&become_of(&record)) {
            failures.push(format!("{name}: {difference}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev/upstreams");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn become_of(record: &KafkaRecord) -> Outcome {
    match decode(record, &Limits::default()) {
        Decoded::Tombstone => Outcome::Tombstone,
        Decoded::Refused(rejection) => Outcome::Refused(rejection),
        Decoded::Envelope(envelope) => {
            match normalizer().normalize(&envelope, record.timestamp.unwrap().at) {
                Ok(event) => Outcome::Event(event),
                Err(rejection) => Outcome::Refused(rejection),
            }
        }
    }
}

impl GoldenRecord {
    fn build(&self) -> KafkaRecord {
        let base64 = |text: &String| BASE64_STANDARD.decode(text).unwrap();
        let value = self.value.as_ref().map(|value| value.get().as_bytes().to_vec());
        let text = self.value_text.as_ref().map(|value| value.clone().into_bytes());
        KafkaRecord {
            topic: self.topic.as_str().into(),
            partition: self.partition,
            offset: self.offset,
            timestamp: Some(RecordTimestamp { at: self.timestamp, kind: TimestampKind::CreateTime }),
            key: self
                .key
                .clone()
                .map(String::into_bytes)
                .or(self.key_base64.as_ref().map(base64))
                .map(Bytes::from),
            value: value.or(text).or(self.value_base64.as_ref().map(base64)).map(Bytes::from),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.clone().into_bytes(), value.clone().map(String::into_bytes)))
                .collect(),
            epoch: 1,
        }
    }
}

impl Golden {
    fn compare(&self, outcome: &Outcome) -> Result<(), String> {
        if let Outcome::Tombstone = outcome {
            return same("outcome", self.becomes.get(), "\"tombstone\"");
        }
        let becomes: Becomes = serde_json::from_str(self.becomes.get()).map_err(|error| error.to_string())?;
        match (outcome, becomes.event, becomes.dead_letter) {
            (Outcome::Event(event), Some(row), None) => {
                row.compare(event)?;
                same("idFrom own", becomes.id_from.as_deref() == Some("own"), event.id().is_external())
            }
            (Outcome::Refused(rejection), None, Some(dead_letter)) => {
                same("class", dead_letter.class.as_str(), rejection.class().as_str())?;
                same("sentence", dead_letter.sentence.as_str(), rejection.sentence())
            }
            (Outcome::Event(event), ..) => Err(format!("became the event {event:?}")),
            (Outcome::Refused(rejection), ..) => Err(format!("was refused: {rejection}")),
            (Outcome::Tombstone, ..) => Ok(()),
        }
    }
}

impl Row {
    fn compare(&self, event: &AnalyticsEvent) -> Result<(), String> {
        same("id", &self.id, &event.id().to_string())?;
        same("eventType", self.event_type.as_str(), event.event_type().as_str())?;
        same("source", self.source.as_str(), event.source().as_str())?;
        same("occurredAt", &self.occurred_at, &instant::format(event.occurred_at()))?;
        same("tenantId", self.tenant_id.as_deref(), event.tenant().map(|tenant| tenant.as_str()))?;
        same("actorId", self.actor_id.as_deref(), event.actor().map(|actor| actor.as_str()))?;
        let payload = RawValue::from_string(event.payload().to_string()).unwrap();
        same("payload", sorted(&self.payload), sorted(&payload))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, actual: T) -> Result<(), String> {
    if expected == actual { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {actual:?}")) }
}

/// As `jsonb` compares: names sorted, of the same name the last, no space; but numbers to the letter.
fn sorted(value: &RawValue) -> String {
    match value.get().as_bytes()[0] {
        b'{' => {
            let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(value.get()).unwrap();
            let members = members.iter().map(|(name, value)| format!("{name:?}:{}", sorted(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        b'[' => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(value.get()).unwrap();
            format!("[{}]", items.iter().map(|item| sorted(item)).collect::<Vec<_>>().join(","))
        }
        b'"' => format!("{:?}", text(value).unwrap()),
        _ => value.get().to_owned(),
    }
}
