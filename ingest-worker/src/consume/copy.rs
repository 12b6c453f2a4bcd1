use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use rdkafka::message::{BorrowedMessage, Message as _, Timestamp};

use super::headers::headers;
use super::record::{KafkaRecord, RecordTimestamp, TimestampKind};

/// Keys and values of a lane that lie in one piece of memory: they come one after the other, are written in one batch or the
/// next, and so are gone at about the same time.
const PIECE: usize = 64 << 10;
/// Larger ones have their own, so that little of a piece is left unused.
const OWN: usize = PIECE / 8;

/// Copies a lane's records out of the client's fetch buffer: keeping a borrowed one would keep the whole buffer.
#[derive(Debug, Default)]
pub(super) struct Copier {
    piece: BytesMut,
}

impl Copier {
    pub(super) fn copy(&mut self, message: &BorrowedMessage<'_>, topic: Arc<str>, epoch: i64) -> KafkaRecord {
        KafkaRecord {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            timestamp: timestamp(message.timestamp()),
            key: message.key().map(|key| self.keep(key)),
            value: message.payload().map(|value| self.keep(value)),
            headers: headers(message),
            epoch,
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > OWN {
            return Bytes::copy_from_slice(bytes);
        }
        if self.piece.capacity() < bytes.len() {
            self.piece = BytesMut::with_capacity(PIECE);
        }
        self.piece.extend_from_slice(bytes);
        self.piece.split().freeze()
    }
}

fn timestamp(timestamp: Timestamp) -> Option<RecordTimestamp> {
    let (millis, kind) = match timestamp {
        Timestamp::NotAvailable => return None,
        Timestamp::CreateTime(millis) => (millis, TimestampKind::CreateTime),
        Timestamp::LogAppendTime(millis) => (millis, TimestampKind::LogAppendTime),
    };
    // -1 is Kafka's way to say that there is none.
    let at = (millis >= 0).then(|| DateTime::from_timestamp_millis(millis)).flatten()?;
    Some(RecordTimestamp { at, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_as_it_was_whatever_comes_after() {
        let mut copier = Copier::default();
        let lengths = [0, 1, OWN, OWN + 1, 3, OWN - 1, PIECE, 0, 7];
        let given: Vec<Vec<u8>> =
            (0..100_u8).flat_map(|round| lengths.map(|length| vec![round; length])).collect();
        let kept: Vec<Bytes> = given.iter().map(|bytes| copier.keep(bytes)).collect();
        assert!(kept.iter().eq(given.iter()));
    }

    #[test]
    fn small_ones_lie_side_by_side_and_large_ones_alone() {
        let mut copier = Copier::default();
        let [one, large, other] =
            [vec![1; 10], vec![2; OWN + 1], vec![3; 10]].map(|bytes| copier.keep(&bytes));
        assert_eq!(one.as_ptr().addr() + one.len(), other.as_ptr().addr());
        assert!(!(one.as_ptr()..=other.as_ptr()).contains(&large.as_ptr()));
    }
}
