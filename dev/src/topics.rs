//! Topics of one's own, and how far they reach.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use crate::load::CANONICAL_TOPIC;
use crate::wait::{eventually, until};

/// What the worker reads by default comes from this table: a rule on a new topic is another entry there.
const RULES: &str = include_str!("../../ingest-worker/src/normalize/upstreams.json");

/// For a request to the broker.
const REQUEST: Duration = Duration::from_secs(20);

/// Offset after the last record, by topic and partition.
pub type EndOffsets = BTreeMap<(String, i32), i64>;

/// A rule of the worker, as far as it matters here.
#[derive(serde::Deserialize)]
struct Rule {
    topics: Vec<String>,
}

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

    /// The topics of the worker's rules and the canonical one behind a prefix, all with as many partitions.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn create_default(&self, prefix: &str, partitions: i32) -> Result<()> {
        let rules: Vec<Rule> = serde_json::from_str(RULES).context("the worker's table of rules")?;
        let topics: BTreeSet<_> = rules.iter().flat_map(|rule| &rule.topics).map(String::as_str).collect();
        let topics: Vec<_> = topics
            .into_iter()
            .chain([CANONICAL_TOPIC])
            .map(|topic| (format!("{prefix}{topic}"), partitions))
            .collect();
        self.create(&topics).await
    }

    /// Creates topics that keep records however old they say they are; one that is there is left as it is.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn create(&self, topics: &[(String, i32)]) -> Result<()> {
        self.create_with(topics, &[]).await
    }

    /// The same, with settings of their own.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn create_with(&self, topics: &[(String, i32)], settings: &[(&str, &str)]) -> Result<()> {
        let new = |(name, partitions)| {
            let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
                .set("retention.ms", "-1")
                .set("max.message.bytes", "4194304");
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        };
        let new: Vec<_> = topics.iter().map(|(name, partitions)| new((name.as_str(), *partitions))).collect();
        for result in self.admin.create_topics(&new, &options()).await.context("Kafka does not answer")? {
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
            self.admin.delete_topics(&names, &options()).await.context("Kafka does not answer")?;
        }
        Ok(())
    }

    /// Deletes a topic and waits until nothing of it is left.
    ///
    /// # Errors
    /// The broker does not answer, or does not delete it.
    pub async fn delete_wholly(&self, name: &str) -> Result<()> {
        self.delete(&[name.to_owned()]).await?;
        until("the topic is gone", REQUEST, async || Ok(self.names(|other| other == name)?.is_empty())).await
    }

    /// A topic has so many partitions from now on.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn grow(&self, name: &str, partitions: usize) -> Result<()> {
        let new = NewPartitions::new(name, partitions);
        for result in
            self.admin.create_partitions([&new], &options()).await.context("Kafka does not answer")?
        {
            if let Err((name, code)) = result {
                bail!("Kafka adds no partitions to {name}: {code}");
            }
        }
        until("they are known", REQUEST, async || {
            let metadata = self.admin.inner().fetch_metadata(Some(name), REQUEST)?;
            Ok(metadata.topics().iter().all(|topic| topic.partitions().len() == partitions))
        })
        .await
    }

    /// Removes what lies before these offsets, as retention does.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn delete_records(&self, before: &EndOffsets) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in before {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        let deleted = self.admin.delete_records(&list, &options()).await.context("Kafka does not answer")?;
        for element in deleted.elements() {
            element.error().with_context(|| format!("records of {} are not deleted", element.topic()))?;
        }
        Ok(())
    }

    /// Everything that a reader of committed transactions gets of a topic now, partition by partition.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn records(&self, topic: &str) -> Result<Vec<Found>> {
        let (bootstrap, topic) = (self.bootstrap.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || found(&bootstrap, &topic)).await?
    }

    /// How far each partition of the topics with this prefix reaches.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn ends(&self, prefix: &str) -> Result<EndOffsets> {
        // A partition that was just made, or a broker that was just started, does not tell at once.
        eventually("Kafka tells the ends", REQUEST, async || {
            let (bootstrap, prefix) = (self.bootstrap.clone(), prefix.to_owned());
            tokio::task::spawn_blocking(move || end_offsets(&bootstrap, &prefix)).await?.map(Some)
        })
        .await
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

/// A record that lies in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Of the topic.
    pub partition: i32,
    /// In the partition.
    pub offset: i64,
    /// Its bytes; none is a tombstone.
    pub value: Option<Vec<u8>>,
}

fn found(bootstrap: &str, topic: &str) -> Result<Vec<Found>> {
    let mut config = client(bootstrap);
    // A group's name is asked for; nothing is committed.
    config.set("group.id", "nobody").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().context("no Kafka client")?;
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).context("Kafka does not answer")?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut found, mut reading) = (Vec::new(), list.count());
    while reading > 0 {
        match consumer.poll(REQUEST) {
            Some(Ok(message)) => found.push(Found {
                partition: message.partition(),
                offset: message.offset(),
                value: message.payload().map(<[u8]>::to_vec),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => reading -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => bail!("{topic} cannot be read to its end"),
        }
    }
    Ok(found)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
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
