//! What `jsonb` refuses becomes a dead letter with all its bytes; its neighbours are stored.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use dev::bench::Bench;
use dev::load::{CANONICAL_TOPIC, LIVE_TOPICS};
use dev::poison::{accepted, refused};
use dev::produce::Record;
use dev::{oracle, tables};
use uuid::Uuid;

/// Where each record went, and what must have become of it.
#[derive(Default)]
struct Plan {
    records: Vec<Record>,
    letters: BTreeSet<(String, i32, i64, Vec<u8>)>,
    ids: BTreeSet<Uuid>,
    accepted: usize,
    offsets: std::collections::HashMap<(String, i32), i64>,
}

impl Plan {
    fn put(&mut self, topic: &str, partition: i32, value: Vec<u8>) -> i64 {
        let offset = self.offsets.entry((topic.to_owned(), partition)).or_default();
        let here = *offset;
        *offset += 1;
        self.records.push(Record {
            topic: topic.to_owned(),
            partition: Some(partition),
            key: Some(b"k\xff".to_vec()),
            value: Some(value),
            ..Record::default()
        });
        here
    }

    fn poison(&mut self, topic: &str, partition: i32, value: &[u8]) {
        let offset = self.put(topic, partition, value.to_vec());
        self.letters.insert((topic.to_owned(), partition, offset, value.to_vec()));
    }

    fn good(&mut self, topic: &str, partition: i32) {
        let id = Uuid::from_u128(0x5f2c_3f5e_6e2b_4a2d_8f5e_0000_0000_0000 + self.ids.len() as u128);
        let value = format!(
            r#"{{"id":"{id}","eventType":"neighbour","source":"poison","occurredAt":"2025-11-16T18:14:00Z","payload":{{}}}}"#
        );
        self.put(topic, partition, value.into_bytes());
        self.ids.insert(id);
    }
}

/// Each alone, as first, in the middle, as last, and all together among what is accepted.
fn plan() -> Plan {
    let mut plan = Plan::default();
    let [first, middle, last, together, ..] = LIVE_TOPICS;
    for (partition, value) in (0..).zip(refused()) {
        plan.poison(CANONICAL_TOPIC, partition, &value);
        plan.poison(first, partition, &value);
        plan.good(first, partition);
        plan.good(first, partition);
        plan.good(middle, partition);
        plan.poison(middle, partition, &value);
        plan.good(middle, partition);
        plan.good(last, partition);
        plan.good(last, partition);
        plan.poison(last, partition, &value);
        plan.poison(together, 0, &value);
    }
    for value in accepted() {
        plan.put(together, 0, value);
        plan.accepted += 1;
    }
    plan
}

#[tokio::test]
async fn what_jsonb_refuses_is_a_dead_letter_and_its_neighbours_are_stored() -> Result<()> {
    let bench = Bench::bare("poison").await?;
    let (plan, width) = (plan(), i32::try_from(refused().len())?);
    let topics = LIVE_TOPICS.iter().chain([&CANONICAL_TOPIC]);
    let topics: Vec<_> = topics.map(|topic| (format!("{}{topic}", bench.prefix), width)).collect();
    bench.topics.create(&topics).await?;
    bench.produce_records(&plan.records).await?;
    let mut worker = bench.worker().await?;
    bench.settled(&bench.group, plan.records.len()).await?;
    worker.terminate(Duration::from_secs(30)).await?;

    let pool = &bench.database.pool;
    let letters = tables::dead_letters(pool).await?;
    ensure!(letters.iter().all(|letter| letter.record_key.as_deref() == Some(b"k\xff")), "a key is lost");
    ensure!(letters.iter().all(|letter| !letter.sentence.is_empty()), "a letter without a sentence");
    let found: BTreeSet<_> = letters
        .into_iter()
        .map(|letter| {
            let topic = letter.topic.strip_prefix(&bench.prefix).unwrap_or_default().to_owned();
            (topic, letter.partition, letter.record_offset, letter.record_value.unwrap_or_default())
        })
        .collect();
    let place = |letter: &(String, i32, i64, Vec<u8>)| (letter.0.clone(), letter.1, letter.2, letter.3.len());
    let missing: Vec<_> = plan.letters.difference(&found).map(place).collect();
    let surplus: Vec<_> = found.difference(&plan.letters).map(place).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "no dead letters: {missing:?}; not to be ones: {surplus:?}"
    );

    let events = tables::events(pool).await?;
    let neighbours: BTreeSet<_> =
        events.iter().filter(|event| event.event_type == "neighbour").map(|event| event.id).collect();
    ensure!(neighbours == plan.ids, "{} of {} neighbours are stored", neighbours.len(), plan.ids.len());
    ensure!(events.len() == plan.ids.len() + plan.accepted, "{} events are stored", events.len());
    oracle::counts_agree(pool).await?;
    oracle::ledger_balances(pool, &bench.group, &bench.topics.ends(&bench.prefix).await?).await?;
    bench.remove().await
}
