//! What `jsonb` refuses becomes a dead letter with all its bytes; its neighbours are stored.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use dev::bench::Bench;
use dev::load::{CANONICAL_TOPIC, LIVE_TOPICS};
use dev::produce::Record;
use dev::{oracle, tables};
use uuid::Uuid;

/// A canonical event whose payload has this member.
fn with_member(member: &[u8]) -> Vec<u8> {
    let start =
        br#"{"eventType":"poison.test","source":"poison","occurredAt":"2025-11-16T18:14:00Z","payload":{"#;
    [start, member, b"}}"].concat()
}

/// What `jsonb` refuses, and what never gets so far.
fn refused() -> Vec<Vec<u8>> {
    let digits = [b"\"a\":".as_slice(), "1".repeat(200_000).as_bytes()].concat();
    let deep =
        [b"\"a\":".as_slice(), "[".repeat(100_000).as_bytes(), "]".repeat(100_000).as_bytes()].concat();
    let large = [b"\"a\":\"".as_slice(), "x".repeat(1_100_000).as_bytes(), b"\""].concat();
    let members: [&[u8]; 14] = [
        br#""a":"\u0000""#,
        br#""\u0000":1"#,
        b"\"a\":\"\x00\"",
        b"\"a\":\"\xff\"",
        b"\"a\":\"\xc0\x80\"",
        b"\"a\":\"\x01\"",
        br#""a":"\ud800""#,
        br#""a":"\udc00""#,
        br#""a":NaN"#,
        br#""a":1e200000"#,
        br#""a":1e-20000"#,
        &digits,
        &deep,
        &large,
    ];
    let mut values: Vec<_> = members.into_iter().map(with_member).collect();
    values.push([b"\xef\xbb\xbf", with_member(b"").as_slice()].concat());
    values.push([with_member(b"").as_slice(), b" garbage"].concat());
    values.push(Vec::new());
    values.push(b"  ".to_vec());
    values
}

/// What looks dangerous and is not.
fn accepted() -> Vec<Vec<u8>> {
    let deep = [b"\"a\":".as_slice(), "[".repeat(120).as_bytes(), "]".repeat(120).as_bytes()].concat();
    let members: [&[u8]; 6] = [
        br#""a":1e400"#,
        br#""a":-0"#,
        br#""a":1,"a":2"#,
        br#""a":"\ud83d\ude00""#,
        br#""a":"\\u0000""#,
        &deep,
    ];
    members.into_iter().map(with_member).collect()
}

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
