use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;

use super::context::Context;
use super::{PartitionKey, StartAt};
use crate::batch::Claim;

/// The poll thread waits for these answers; a broker that is up gives them in milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Where fetching of a claimed partition begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// At this offset.
    At(i64),
    /// Nowhere: what PostgreSQL knows and what the topic holds do not fit.
    Broken(String),
}

/// Fetching begins at the last stored record, which the lane compares and discards, or where there is none at the next
/// offset. Nothing is ever skipped.
pub(super) fn of(claim: &Claim, low: i64, high: i64) -> Position {
    let next = claim.next_offset;
    if next > high {
        let sentence = format!(
            "the stored offset {next} lies beyond the partition's end {high}: the topic was recreated or truncated"
        );
        return Position::Broken(sentence);
    }
    if next < low {
        let sentence = format!("offsets {next} to {low} are gone: retention has passed the stored offset");
        return Position::Broken(sentence);
    }
    match claim.last {
        Some(last) if last.offset >= low => Position::At(last.offset),
        // The last record itself has expired or been compacted away: nothing contradicts us.
        _ => Position::At(next),
    }
}

/// First and next offset of a partition, as a reader of committed transactions sees it.
pub(super) fn watermarks(consumer: &BaseConsumer<Context>, key: &PartitionKey) -> KafkaResult<(i64, i64)> {
    consumer.fetch_watermarks(&key.topic, key.partition, ANSWER_TIMEOUT)
}

/// Where the partitions of a topic begin of which nothing is stored: all of them at once, so that one that is missing
/// later is known to have been added, and begins at its first record.
pub(super) fn starts_of_topic(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    start_at: StartAt,
) -> KafkaResult<Vec<(i32, i64)>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
    let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
    partitions
        .map(|partition| {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), ANSWER_TIMEOUT)?;
            Ok((partition.id(), if start_at == StartAt::Latest { high } else { low }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::LastRecord;

    fn claim(next_offset: i64, last: Option<i64>) -> Claim {
        let last = last.map(|offset| LastRecord { offset, fingerprint: [0; 16], timestamp: None });
        Claim { epoch: 1, incarnation: 1, next_offset, last }
    }

    #[test]
    fn fetching_begins_at_the_last_stored_record_if_it_is_still_there() {
        for (next, last, low, high, expected) in [
            (0, None, 0, 0, 0),
            (5, Some(4), 0, 9, 4),
            (7, Some(4), 0, 7, 4),
            (5, Some(4), 5, 9, 5),
            (5, None, 5, 9, 5),
        ] {
            assert_eq!(of(&claim(next, last), low, high), Position::At(expected));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_skipped() {
        assert!(matches!(of(&claim(5, Some(4)), 0, 3), Position::Broken(_)));
        assert!(matches!(of(&claim(5, Some(4)), 6, 9), Position::Broken(_)));
    }
}
