use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

/// One record as it stood in Kafka, copied out of the client's fetch buffer.
#[derive(Debug, Clone)]
pub struct KafkaRecord {
    /// Name as Kafka knows it, prefix included.
    pub topic: Arc<str>,
    /// Partition of that topic.
    pub partition: i32,
    /// Position in the partition.
    pub offset: i64,
    /// When the producer made it or the broker stored it.
    pub timestamp: Option<RecordTimestamp>,
    /// The key's bytes.
    pub key: Option<Bytes>,
    /// The value's bytes; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values, in the record's order, names may repeat.
    pub headers: Vec<Header>,
    /// The claim under which its fetch was started.
    pub epoch: i64,
}

/// A header's name and value: bytes both, though names should be UTF-8. The value may be null.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record's timestamp, milliseconds, and who set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTimestamp {
    /// The instant.
    pub at: DateTime<Utc>,
    /// Who set it.
    pub kind: TimestampKind,
}

/// Who set a record's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampKind {
    /// The producer.
    CreateTime,
    /// The broker.
    LogAppendTime,
}

impl TimestampKind {
    /// As `dead_letters.timestamp_type` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateTime => "create_time",
            Self::LogAppendTime => "log_append_time",
        }
    }
}

/// A topic's partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Name as Kafka knows it, prefix included.
    pub topic: Arc<str>,
    /// Number in that topic.
    pub partition: i32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.partition)
    }
}

impl KafkaRecord {
    /// Where it came from.
    #[must_use]
    pub fn partition_key(&self) -> PartitionKey {
        PartitionKey { topic: Arc::clone(&self.topic), partition: self.partition }
    }

    /// Whether it came from there.
    #[must_use]
    pub fn is_of(&self, key: &PartitionKey) -> bool {
        self.partition == key.partition && self.topic == key.topic
    }

    /// Bytes as they travelled.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + headers.sum::<usize>()
    }

    /// Bytes of memory from fetch to commit, the event made of it included.
    #[must_use]
    pub fn memory(&self) -> usize {
        const EVENT_OVERHEAD: usize = 600;
        let payload = self.value.as_ref().map_or(0, Bytes::len);
        std::mem::size_of::<Self>() + EVENT_OVERHEAD + self.bytes() + payload
    }

    /// SHA-256 of topic, partition, offset, timestamp, key and value, each part framed by its length: the key of a dead
    /// letter, and the digest behind the id of an event that has no other identity.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.topic.len() as u64).to_be_bytes());
        digest.update(self.topic.as_bytes());
        digest.update(self.partition.to_be_bytes());
        digest.update(self.offset.to_be_bytes());
        digest.update(
            self.timestamp.map_or(i64::MIN, |timestamp| timestamp.at.timestamp_millis()).to_be_bytes(),
        );
        for part in [self.key.as_deref(), self.value.as_deref()] {
            digest.update(part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
            digest.update(part.unwrap_or_default());
        }
        digest.finalize().into()
    }

    /// What is kept of a partition's last record, to tell a recreated topic by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        fingerprint.iter_mut().zip(self.digest()).for_each(|(byte, digest)| *byte = digest);
        fingerprint
    }
}

/// The first half of a record's digest.
pub type Fingerprint = [u8; 16];
