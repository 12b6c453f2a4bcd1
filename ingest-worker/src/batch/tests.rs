use std::sync::Arc;

use chrono::TimeDelta;
use proptest::collection::vec;
use proptest::prelude::*;
use shared::analytics::{EventId, EventParts, EventType, Payload, PayloadLimits, Source, Tenant};

use super::*;
use crate::decode::RejectionClass;

/// A record: its partition, its id, and what tells it from another with that id.
type Word = (i32, u8, u8);

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: Arc::from("t"), partition }
}

fn uuid(id: u8) -> Uuid {
    Uuid::from_u128(u128::from(id) + 1)
}

fn event((_, id, content): Word) -> AnalyticsEvent {
    AnalyticsEvent::new(EventParts {
        id: EventId::external(uuid(id)).unwrap(),
        event_type: EventType::new(format!("type {}", id % 2)).unwrap(),
        source: Source::new("source".to_owned()).unwrap(),
        occurred_at: DateTime::UNIX_EPOCH + TimeDelta::hours(content.into()),
        says_when: true,
        tenant: [None, Some(""), Some("t")][usize::from(content) % 3]
            .map(|tenant| Tenant::new(tenant.to_owned()).unwrap()),
        actor: None,
        payload: Payload::new(r#"{"n":1}"#, PayloadLimits::NONE).unwrap(),
    })
}

fn batch(words: &[Word]) -> Batch {
    let claim = Claim { epoch: 1, incarnation: 1, start_offset: 0, next_offset: 0, last: None };
    let mut batch = Batch::default();
    for (offset, word) in (0..).zip(words) {
        let record = KafkaRecord {
            topic: Arc::from("t"),
            partition: word.0,
            offset,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
            epoch: 1,
        };
        let gap = batch.by_key.get(&key(word.0)).map(|index| batch.partitions[*index].next);
        let range = batch.range(&key(word.0), &claim, gap.unwrap_or(offset));
        batch.push(range, record, Fate::Event(event(*word)));
    }
    batch
}

fn offset(event: &BatchEvent) -> i64 {
    match &event.origin {
        Origin::Record(record) => record.offset,
        Origin::Command { .. } => panic!("no record"),
    }
}

fn rejection() -> Rejection {
    Rejection::new(RejectionClass::RefusedByDatabase, "poison")
}

#[test]
fn holes_are_counted_and_the_last_one_ends_where_it_ends() {
    let batch = batch(&[(0, 1, 0), (1, 2, 0), (0, 3, 0)]);
    let zero = &batch.partitions()[0];
    assert_eq!((zero.from, zero.next, zero.totals.gaps, zero.hole_end), (0, 3, 1, Some(2)));
    assert_eq!(batch.partitions()[1].hole_end, None);
}

#[test]
fn a_command_that_is_refused_gives_its_place_to_the_next_with_its_id() {
    let claim = Claim { epoch: 1, incarnation: 1, start_offset: 0, next_offset: 0, last: None };
    let mut batch = Batch::default();
    for word in [(0, 1, 1), (0, 2, 1), (0, 1, 1), (0, 1, 2)] {
        batch.push_command(&key(0), &claim, 0, event(word), [0; 32]);
    }
    assert_eq!(batch.refuse(uuid(1), &rejection()), Some(vec![0, 2]));
    let mut commands: Vec<_> = batch.events().iter().filter_map(BatchEvent::command).collect();
    commands.sort_unstable();
    assert_eq!((commands, batch.partitions()[0].next), (vec![1, 3], 2));
    assert_eq!(batch.refuse(uuid(9), &rejection()), None);
}

proptest! {
    /// As a plain model has it: of each id the first is written that is of an owned partition, recent enough, and not
    /// refused; every record is somewhere, once.
    #[test]
    fn of_each_id_the_first_that_can_be_written_is(
        words in vec((0..3_i32, 0..4_u8, 0..4_u8), 1..30),
        lost in 0..4_i32,
        expired_before in 0..3_u8,
        poison in 0..5_u8,
    ) {
        let is_kept = |(partition, _, content): Word| partition != lost && content >= expired_before;
        let mut batch = batch(&words);
        let keep = |candidate: &BatchEvent| is_kept(words[usize::try_from(offset(candidate)).unwrap()]);
        // What PostgreSQL would refuse is refused one by one, as it is met.
        for _ in 0..=words.len() {
            batch.settle(keep);
            let culprit = batch.events().iter().find(|event| {
                keep(event) && words[usize::try_from(offset(event)).unwrap()].2 == poison
            });
            let Some(id) = culprit.map(BatchEvent::id) else { break };
            prop_assert_eq!(batch.refuse(id, &rejection()), Some(vec![]));
        }
        let mut written: Vec<i64> = batch.events().iter().filter(|event| keep(event)).map(offset).collect();
        written.sort_unstable();
        let mut expected: Vec<i64> = (0..4_u8)
            .filter_map(|id| {
                words.iter().position(|word| word.1 == id && is_kept(*word) && word.2 != poison)
            })
            .map(|position| i64::try_from(position).unwrap())
            .collect();
        expected.sort_unstable();
        prop_assert_eq!(written, expected);

        for written in batch.all_events() {
            let (series, event) = (&batch.series()[written.series], &written.event);
            prop_assert_eq!(series.tenant.as_ref(), event.tenant());
            prop_assert_eq!((&series.source, &series.event_type), (event.source(), event.event_type()));
        }
        let refused = batch.refused().iter().map(|refused| refused.record.offset);
        let mut all: Vec<i64> = batch.all_events().map(offset).chain(refused).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..i64::try_from(words.len()).unwrap()).collect::<Vec<_>>());
        let mut ids: Vec<_> = batch.events().iter().map(BatchEvent::id).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), batch.events().len());
        let letters: i64 = batch.partitions().iter().map(|range| range.totals.dead_letters).sum();
        prop_assert_eq!(letters, i64::try_from(batch.refused().len()).unwrap());
    }
}
