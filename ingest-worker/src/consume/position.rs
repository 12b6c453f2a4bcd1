use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::context::Context;
use super::{PartitionKey, StartAt};
use crate::batch::Claim;

/// How long a broker may take to answer; one that is up does in milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Where fetching of a claimed partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// At this offset.
    At(i64),
    /// Nothing before `low` is left, and it was not read: a gap.
    RetentionPassed {
        /// The first offset that is left.
        low: i64,
    },
    /// The stored offsets are not of this log: the topic was recreated or truncated.
    Another {
        /// Where it begins.
        low: i64,
    },
}

/// Fetching begins at the last stored record, which the lane compares and discards: between it and the next offset was
/// nothing, and if that is not so any more the log is another one. Where the record itself has expired or been compacted
/// away, nothing contradicts us.
pub(crate) fn of(claim: &Claim, low: i64, high: i64) -> Position {
    let next = claim.next_offset;
    match claim.last {
        _ if next > high => Position::Another { low },
        _ if next < low => Position::RetentionPassed { low },
        Some(last) => Position::At(last.offset.max(low)),
        // It began where the log began, and a log's beginning does not go back.
        None if claim.incarnation > 1 && low < claim.start_offset => Position::Another { low },
        None => Position::At(claim.start_offset.max(low)),
    }
}

/// First and next offset of a partition, as a reader of committed transactions sees it. Blocks.
pub(super) fn watermarks(consumer: &BaseConsumer<Context>, key: &PartitionKey) -> KafkaResult<(i64, i64)> {
    consumer.fetch_watermarks(&key.topic, key.partition, ANSWER_TIMEOUT)
}

/// Where the partitions of a topic begin of which nothing is stored: all of them at once, so that one that is missing
/// later is known to have been added, and begins at its first record. Blocks.
pub(super) fn starts_of_topic(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    start_at: StartAt,
) -> KafkaResult<Vec<(i32, i64)>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    let end = if start_at == StartAt::Latest { Offset::End } else { Offset::Beginning };
    let mut question = TopicPartitionList::new();
    for partition in partitions {
        question.add_partition_offset(topic, partition.id(), end)?;
    }
    // Kafka's own question for offsets by time knows both ends as times that cannot be.
    let answer = consumer.offsets_for_times(question, ANSWER_TIMEOUT)?;
    let start = |element: TopicPartitionListElem<'_>| match (element.error(), element.offset()) {
        (Ok(()), Offset::Offset(offset)) => Ok((element.partition(), offset)),
        (Err(error), _) => Err(error),
        (Ok(()), _) => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)),
    };
    answer.elements().into_iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::LastRecord;

    fn claim(next_offset: i64, last: Option<i64>) -> Claim {
        let last = last.map(|offset| LastRecord { offset, fingerprint: [0; 16], timestamp: None });
        Claim { epoch: 1, incarnation: 1, start_offset: 3, next_offset, last }
    }

    #[test]
    fn fetching_begins_at_the_last_stored_record_if_it_is_still_there() {
        for (next, last, low, high, expected) in [
            (3, None, 0, 3, 3),
            (9, None, 0, 9, 3),
            (5, Some(4), 0, 9, 4),
            (7, Some(4), 0, 7, 4),
            (5, Some(4), 5, 9, 5),
            (9, Some(4), 6, 9, 6),
            (7, None, 5, 9, 5),
        ] {
            assert_eq!(of(&claim(next, last), low, high), Position::At(expected));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_skipped() {
        assert_eq!(of(&claim(5, Some(4)), 0, 3), Position::Another { low: 0 });
        assert_eq!(of(&claim(5, Some(4)), 6, 9), Position::RetentionPassed { low: 6 });
        assert_eq!(of(&claim(5, Some(4)), 6, 4), Position::Another { low: 6 });
    }
}
