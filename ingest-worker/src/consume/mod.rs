//! The first door: Kafka in, [`KafkaRecord`]s out to the lanes, each partition from where PostgreSQL says.

mod record;
mod pattern;
mod topics;
mod client;
mod context;
mod list;
pub(crate) mod assignment;
pub(crate) mod position;
mod claiming;
mod copy;
mod headers;
mod lane_door;
mod inbox;
mod consumer;
mod progress;
mod stall;

pub use client::{KafkaArgs, KafkaSettings, StartAt};
pub use consumer::Consumer;
pub use inbox::ToConsumer;
pub use lane_door::LaneDoor;
pub use pattern::TopicPattern;
pub use record::{Fingerprint, Header, KafkaRecord, PartitionKey, RecordTimestamp, TimestampKind};
pub use topics::TopicSelection;
