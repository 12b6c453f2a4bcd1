use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::PartitionKey;

/// One partition, with an offset or without, as the Kafka client takes it.
pub(super) fn list_of(key: &PartitionKey, offset: Option<i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(&key.topic, key.partition);
    if let Some(offset) = offset {
        // Refused only for numbers that are no offset.
        drop(element.set_offset(Offset::Offset(offset)));
    }
    list
}
