use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::assignment::Progress;
use super::consumer::Consumer;
use crate::clock;
use crate::fail_point::FailPoint;
use crate::metrics;

/// How often offsets are told to Kafka and lag is measured.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

impl Consumer {
    /// Tells Kafka what is committed, measures what is left and looks after the client, once in a while.
    pub(super) fn tell(&mut self) -> anyhow::Result<()> {
        if self.told_at.elapsed() >= TELL_INTERVAL {
            self.told_at = Instant::now();
            self.tell_now(CommitMode::Async);
            self.measure_lag();
            self.watch_for_stalls();
            self.watch_for_isolation()?;
        }
        Ok(())
    }

    /// For lag tools and autoscalers.
    pub(super) fn tell_now(&mut self, mode: CommitMode) {
        let all = self.consumer.context().takes_telling_again();
        let mut list = TopicPartitionList::new();
        for (key, progress) in self.assignment.progress() {
            let Some(committed) = progress.committed else { continue };
            // Backwards too: PostgreSQL may have been restored from an older copy.
            if all || progress.told != Some(committed) {
                let added = list.add_partition_offset(&key.topic, key.partition, Offset::Offset(committed));
                progress.told = added.is_ok().then_some(committed);
            }
        }
        if list.count() == 0 {
            return;
        }
        FailPoint::BeforeKafkaCommit.pass_on_thread();
        if let Err(error) = self.consumer.commit(&list, mode) {
            tracing::debug!(%error, "offsets not told to kafka");
        }
        FailPoint::AfterKafkaCommit.pass_on_thread();
    }

    fn measure_lag(&mut self) {
        let now = clock::now().timestamp_millis();
        for (key, progress) in self.assignment.progress() {
            let end = self.consumer.context().end_of(&key);
            let Some((end, committed)) = end.zip(progress.committed) else { continue };
            let records = (end - committed).max(0);
            let seconds = progress.seconds_behind(records, now);
            metrics::partition_lag(&key.topic, key.partition, records, seconds);
        }
        metrics::partitions_owned(self.assignment.all_reading().count());
    }
}

impl Progress {
    /// Age of the oldest unread record, at most: it came after the last one read, and after the last moment at which
    /// nothing was left.
    fn seconds_behind(&mut self, records: i64, now_millis: i64) -> f64 {
        if records == 0 {
            self.caught_up_at = Some(Instant::now());
            return 0.0;
        }
        let since_caught_up = self.caught_up_at.map(|at| at.elapsed().as_secs_f64());
        let millis = self.last_timestamp.map(|at| (now_millis - at).max(0));
        let since_last = millis.map(|millis| Duration::from_millis(millis.unsigned_abs()).as_secs_f64());
        since_caught_up.into_iter().chain(since_last).reduce(f64::min).unwrap_or(0.0)
    }
}
