//! Topics of one's own, and how far they reach.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use crate::load::{CANONICAL_TOPIC, LIVE_TOPICS};

/// For a request to the broker.
const REQUEST: Duration = Duration::from_secs(20);

/// Offset after the last record, by topic and partition.
pub type EndOffsets = BTreeMap<(String, i32), i64>;

/// The administrator's view of a broker.
pub struct Topics {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Topics {
    /// # Errors
    /// The client cannot be made.
    pub fn of(bootstrap: &str) -> Result<Self> {
        let admin = client(bootstrap).create().context("no Kafka client")?;
        Ok(Self { bootstrap: bootstrap.to_owned(), admin })
    }

    /// The live topics and the canonical one behind a prefix, all with as many partitions.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn create_default(&self, prefix: &str, partitions: i32) -> Result<()> {
        let topics: Vec<_> = LIVE_TOPICS
            .iter()
            .chain([&CANONICAL_TOPIC])
            .map(|topic| (format!("{prefix}{topic}"), partitions))
            .collect();
        self.create(&topics).await
    }

    /// Creates topics that keep records however old they say they are; one that is there is left as it is.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn create(&self, topics: &[(String, i32)]) -> Result<()> {
        let new = |(name, partitions)| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(1))
                .set("retention.ms", "-1")
                .set("max.message.bytes", "4194304")
        };
        let new: Vec<_> = topics.iter().map(|(name, partitions)| new((name.as_str(), *partitions))).collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        for result in self.admin.create_topics(&new, &options).await.context("Kafka does not answer")? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => bail!("Kafka refused to create the topic {name}: {code}"),
            }
        }
        Ok(())
    }

    /// The names of all topics for which this is true.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn names(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let metadata = self.admin.inner().fetch_metadata(None, REQUEST).context("Kafka does not answer")?;
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .filter(|name| wanted(name))
            .collect())
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn delete(&self, names: &[String]) -> Result<()> {
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
            self.admin.delete_topics(&names, &options).await.context("Kafka does not answer")?;
        }
        Ok(())
    }

    /// How far each partition of the topics with this prefix reaches.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn ends(&self, prefix: &str) -> Result<EndOffsets> {
        let (bootstrap, prefix) = (self.bootstrap.clone(), prefix.to_owned());
        tokio::task::spawn_blocking(move || end_offsets(&bootstrap, &prefix)).await?
    }

    /// The sum of the offsets that a group has told Kafka for the topics with this prefix.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn told(&self, group: &str, prefix: &str) -> Result<i64> {
        let (bootstrap, group, prefix) = (self.bootstrap.clone(), group.to_owned(), prefix.to_owned());
        tokio::task::spawn_blocking(move || offsets_told(&bootstrap, &group, &prefix)).await?
    }
}

fn offsets_told(bootstrap: &str, group: &str, prefix: &str) -> Result<i64> {
    let consumer: BaseConsumer =
        client(bootstrap).set("group.id", group).create().context("no Kafka client")?;
    let metadata = consumer.fetch_metadata(None, REQUEST).context("Kafka does not answer")?;
    let mut partitions = TopicPartitionList::new();
    for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(prefix)) {
        for partition in topic.partitions() {
            partitions.add_partition(topic.name(), partition.id());
        }
    }
    let told = consumer.committed_offsets(partitions, REQUEST)?;
    Ok(told
        .elements()
        .iter()
        .filter_map(|element| element.offset().to_raw())
        .map(|offset| offset.max(0))
        .sum())
}

fn end_offsets(bootstrap: &str, prefix: &str) -> Result<EndOffsets> {
    let consumer: BaseConsumer = client(bootstrap).create().context("no Kafka client")?;
    let metadata = consumer.fetch_metadata(None, REQUEST).context("Kafka does not answer")?;
    let mut ends = EndOffsets::new();
    for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(prefix)) {
        for partition in topic.partitions() {
            let (_, end) = consumer.fetch_watermarks(topic.name(), partition.id(), REQUEST)?;
            ends.insert((topic.name().to_owned(), partition.id()), end);
        }
    }
    Ok(ends)
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "3");
    config
}
