//! Every file of `dev/upstreams`, through Kafka, to the exact row.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use chrono::{DateTime, TimeDelta, Utc};
use dev::bench::Bench;
use dev::produce::Record;
use dev::stack::checkout;
use dev::tables::{self, DeadLetterRow, EventRow};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// A message and what it must become.
#[derive(Deserialize)]
struct Golden {
    #[serde(skip)]
    name: String,
    record: Message,
    #[serde(deserialize_with = "becomes")]
    becomes: Becomes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    topic: String,
    partition: i32,
    timestamp: DateTime<Utc>,
    key: Option<String>,
    key_base64: Option<String>,
    headers: Vec<(String, Option<String>)>,
    /// The bytes are its text as it stands in the file.
    value: Option<Box<RawValue>>,
    value_text: Option<String>,
    value_base64: Option<String>,
}

enum Becomes {
    Event { event: Event, id_from: String },
    DeadLetter(Refusal),
    Tombstone,
}

/// By hand: serde's own way to tell variants apart does not keep the payload's text.
fn becomes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Becomes, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Members {
        event: Option<Event>,
        id_from: Option<String>,
        dead_letter: Option<Refusal>,
    }
    let text = Box::<RawValue>::deserialize(deserializer)?;
    if text.get() == r#""tombstone""# {
        return Ok(Becomes::Tombstone);
    }
    let members: Members = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
    match (members.event.zip(members.id_from), members.dead_letter) {
        (Some((event, id_from)), None) => Ok(Becomes::Event { event, id_from }),
        (None, Some(refusal)) => Ok(Becomes::DeadLetter(refusal)),
        _ => Err(D::Error::custom("becomes is an event with idFrom, a deadLetter or \"tombstone\"")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    id: Uuid,
    event_type: String,
    source: String,
    occurred_at: DateTime<Utc>,
    tenant_id: Option<String>,
    actor_id: Option<String>,
    payload: Box<RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    class: String,
    sentence: String,
}

fn files() -> Result<Vec<Golden>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(checkout().join("dev/upstreams"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.display().to_string();
            let golden: Golden =
                serde_json::from_str(&std::fs::read_to_string(&path)?).context(name.clone())?;
            files.push(Golden { name, ..golden });
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    ensure!(files.len() > 100, "only {} files", files.len());
    Ok(files)
}

/// Several files tell the same event in other words: each must be seen alone, so no round has an id twice.
fn rounds(files: Vec<Golden>) -> Vec<Vec<Golden>> {
    let (mut rounds, mut ids): (Vec<Vec<Golden>>, Vec<HashSet<Uuid>>) = (Vec::new(), Vec::new());
    for file in files {
        let id = if let Becomes::Event { event, .. } = &file.becomes { Some(event.id) } else { None };
        let round = ids.iter().position(|ids| id.is_none_or(|id| !ids.contains(&id))).unwrap_or(ids.len());
        if round == ids.len() {
            rounds.push(Vec::new());
            ids.push(HashSet::new());
        }
        rounds[round].push(file);
        ids[round].extend(id);
    }
    rounds
}

#[tokio::test]
async fn every_message_of_the_workshop_becomes_the_row_its_file_says() -> Result<()> {
    let mut differences = Vec::new();
    for (number, files) in rounds(files()?).into_iter().enumerate() {
        differences.extend(differences_of(number, &files).await?);
    }
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

async fn differences_of(number: usize, files: &[Golden]) -> Result<Vec<String>> {
    let bench = Bench::bare(&format!("golden{number}")).await?;
    let mut partitions: BTreeMap<String, i32> = BTreeMap::new();
    for file in files {
        let topic = partitions.entry(format!("{}{}", bench.prefix, file.record.topic)).or_default();
        *topic = (*topic).max(file.record.partition + 1);
    }
    bench.topics.create(&partitions.clone().into_iter().collect::<Vec<_>>()).await?;
    let mut settings = bench.worker_settings(&bench.group);
    let names: Vec<_> = partitions.into_keys().collect();
    settings.insert("ANALYTICS_KAFKA_TOPIC".to_owned(), names.join(","));
    let mut worker = bench.start_worker(settings)?;
    let records: Vec<_> = files.iter().map(|file| file.record.record()).collect::<Result<_>>()?;
    bench.produce_records(&records).await?;
    bench.settled(&bench.group, records.len()).await?;
    worker.terminate(Duration::from_secs(30)).await?;
    let differences = compare(&bench, files).await?;
    if differences.is_empty() {
        bench.remove().await?;
    }
    Ok(differences)
}

async fn compare(bench: &Bench, files: &[Golden]) -> Result<Vec<String>> {
    let pool = &bench.database.pool;
    let (events, letters) = (tables::events(pool).await?, tables::dead_letters(pool).await?);
    let (mut differences, mut expected_events, mut expected_letters) = (Vec::new(), 0, 0);
    // The bench's topics begin at 0 and are written in the files' order.
    let mut offsets: HashMap<(&str, i32), i64> = HashMap::new();
    for file in files {
        let offset = offsets.entry((&file.record.topic, file.record.partition)).or_default();
        let difference = match &file.becomes {
            Becomes::Event { event, id_from } => {
                expected_events += 1;
                event.compare(id_from, &events, pool).await?
            }
            Becomes::DeadLetter(refusal) => {
                expected_letters += 1;
                file.record.compare(&bench.prefix, *offset, refusal, &letters)?
            }
            Becomes::Tombstone => None,
        };
        differences.extend(difference.map(|difference| format!("{}: {difference}", file.name)));
        *offset += 1;
    }
    let found = (events.len(), letters.len());
    if found != (expected_events, expected_letters) {
        differences.push(format!(
            "{found:?} events and dead letters, not {:?}",
            (expected_events, expected_letters)
        ));
    }
    Ok(differences)
}

impl Message {
    fn key(&self) -> Result<Option<Vec<u8>>> {
        let bytes = self.key_base64.as_ref().map(|text| BASE64_STANDARD.decode(text)).transpose()?;
        Ok(self.key.clone().map(String::into_bytes).or(bytes))
    }

    fn value(&self) -> Result<Option<Vec<u8>>> {
        let json = self.value.as_ref().map(|value| value.get().to_owned().into_bytes());
        let text = self.value_text.clone().map(String::into_bytes);
        let bytes = self.value_base64.as_ref().map(|text| BASE64_STANDARD.decode(text)).transpose()?;
        Ok(json.or(text).or(bytes))
    }

    fn record(&self) -> Result<Record> {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone().map(String::into_bytes)));
        Ok(Record {
            topic: self.topic.clone(),
            partition: Some(self.partition),
            key: self.key()?,
            value: self.value()?,
            timestamp: Some(self.timestamp),
            headers: headers.collect(),
        })
    }

    /// What is wrong with the dead letter, if anything.
    fn compare(
        &self,
        prefix: &str,
        offset: i64,
        refusal: &Refusal,
        letters: &[DeadLetterRow],
    ) -> Result<Option<String>> {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| json!([name, value.as_ref().map(|text| BASE64_STANDARD.encode(text))]));
        let expected = DeadLetterRow {
            topic: format!("{prefix}{}", self.topic),
            partition: self.partition,
            record_offset: offset,
            record_key: self.key()?,
            record_value: self.value()?,
            record_headers: Value::Array(headers.collect()),
            record_timestamp: Some(self.timestamp),
            class: refusal.class.clone(),
            sentence: refusal.sentence.clone(),
        };
        let position = |row: &DeadLetterRow| (row.topic.clone(), row.partition, row.record_offset);
        let found = letters.iter().find(|row| position(row) == position(&expected));
        Ok((found != Some(&expected)).then(|| format!("{found:?}, not {expected:?}")))
    }
}

impl Event {
    /// What is wrong with the row, if anything. An id made of the record's position is another one here than in the
    /// file; it still is of its millisecond.
    async fn compare(&self, id_from: &str, rows: &[EventRow], pool: &PgPool) -> Result<Option<String>> {
        // PostgreSQL writes what it was given in its own way: every digit is kept, names are sorted.
        let payload: String = sqlx::query_scalar("SELECT $1::text::jsonb::text")
            .bind(self.payload.get())
            .fetch_one(pool)
            .await?;
        let expected = |id: Uuid| EventRow {
            id,
            event_type: self.event_type.clone(),
            source: self.source.clone(),
            occurred_at: self.occurred_at,
            tenant_id: self.tenant_id.clone(),
            actor_id: self.actor_id.clone(),
            payload: payload.clone(),
        };
        let is_it = |row: &&EventRow| {
            let id = if id_from == "position" { row.id } else { self.id };
            **row == expected(id) && (id_from != "position" || is_of_millisecond(row.id, self.occurred_at))
        };
        if rows.iter().any(|row| is_it(&row)) {
            return Ok(None);
        }
        let near: Vec<_> = rows.iter().filter(|row| row.id == self.id || row.payload == payload).collect();
        Ok(Some(format!("{near:?}, not {:?}", expected(self.id))))
    }
}

fn is_of_millisecond(id: Uuid, at: DateTime<Utc>) -> bool {
    let millisecond = i64::try_from(id.as_u128() >> 80).ok().and_then(DateTime::from_timestamp_millis);
    id.get_version_num() == 8
        && millisecond.is_some_and(|start| start <= at && at < start + TimeDelta::milliseconds(1))
}
