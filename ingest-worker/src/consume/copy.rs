use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, Timestamp};

use super::record::{KafkaRecord, RecordTimestamp, TimestampKind};

/// Keys and values that lie in one piece of memory: one after the other, they are written in one batch and so gone at about
/// the same time.
const PIECE: usize = 64 << 10;
/// Larger ones have their own, so that little of a piece is left unused.
const OWN: usize = PIECE / 8;

/// Copies records out of the client's fetch buffer: keeping a borrowed one would keep the whole buffer.
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

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let read = |index: usize| {
        // The client library panics over a name that is not UTF-8, and a record must not be able to stop the worker.
        catch_unwind(AssertUnwindSafe(|| {
            headers.try_get(index).map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        }))
        .unwrap_or_else(|_| Some(("(name is not UTF-8)".to_owned(), None)))
    };
    (0..headers.count()).map_while(read).collect()
}
