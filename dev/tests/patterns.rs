//! A pattern of topics reads what it should, and never what Kafka keeps for itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use dev::bench::{Bench, SETTLES};
use dev::processes::{Settings, binaries};
use dev::produce::Record;
use dev::tables;
use dev::wait::until;

const STOPS: Duration = Duration::from_secs(30);
/// New topics are soon found.
const REFRESH: [(&str, &str); 1] = [("ANALYTICS_KAFKA_PROPERTY_TOPIC_METADATA_REFRESH_INTERVAL_MS", "1000")];

/// Settings of a worker that reads by pattern.
fn reading(bench: &Bench, group: &str, pattern: &str, more: &[(&str, &str)]) -> Settings {
    let mut settings = bench.worker_settings(group);
    settings.insert("ANALYTICS_KAFKA_TOPIC".to_owned(), pattern.to_owned());
    settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings
}

fn events(topic: &str, count: u128) -> Vec<Record> {
    let value = |_| br#"{"eventType":"e","source":"s","payload":{}}"#.to_vec();
    let record = |value| Record { topic: topic.to_owned(), value: Some(value), ..Record::default() };
    (0..count).map(value).map(record).collect()
}

/// Nothing of Kafka's own was read: no dead letter, no row of offsets.
async fn nothing_internal(bench: &Bench, group: &str) -> Result<()> {
    let letters = tables::dead_letters(&bench.database.pool).await?;
    ensure!(letters.is_empty(), "{letters:?}");
    let offsets = tables::offsets(&bench.database.pool, group).await?;
    let is_ours =
        |topic: &str| topic == "@http" || (topic.starts_with(&bench.prefix) && !topic.ends_with(".internal"));
    ensure!(offsets.iter().all(|row| is_ours(&row.topic)), "{offsets:?}");
    Ok(())
}

#[tokio::test]
async fn a_pattern_reads_topics_that_appear_and_none_of_kafkas_own() -> Result<()> {
    let bench = Bench::bare("pattern").await?;
    // The other tests' topics are theirs; Kafka's own are there since the first group.
    let pattern = format!("^({}|__).*", bench.prefix.replace('.', "[.]"));
    for topic in ["a", "b", "a.checkpoints.internal"] {
        bench.topics.create(&[(format!("{}{topic}", bench.prefix), 2)]).await?;
        bench.produce_records(&events(topic, 100)).await?;
    }
    let mut worker = bench.worker_with(reading(&bench, &bench.group, &pattern, &REFRESH)).await?;
    bench.settled(&bench.group, 200).await?;
    // Meanwhile the worker has told Kafka its offsets: records of `__consumer_offsets`.
    bench.topics.create(&[(format!("{}later", bench.prefix), 2)]).await?;
    bench.produce_records(&events("later", 100)).await?;
    bench.settled(&bench.group, 300).await?;
    nothing_internal(&bench, &bench.group).await?;
    worker.terminate(STOPS).await?;

    // Here the broker matches, and knows nothing of what the client leaves out.
    let group = format!("{}-consumer", bench.group);
    let protocol = [("ANALYTICS_KAFKA_PROPERTY_GROUP_PROTOCOL", "consumer")];
    let mut settings = reading(&bench, &group, &pattern, &protocol);
    settings.retain(|name, _| !name.ends_with("SESSION_TIMEOUT_MS") && !name.ends_with("INTERVAL_MS"));
    let mut worker = bench.worker_with(settings).await?;
    bench.settled(&group, 300).await?;
    worker.terminate(STOPS).await?;
    nothing_internal(&bench, &group).await?;
    bench.remove().await
}

#[tokio::test]
async fn check_lists_what_a_pattern_matches_and_warns_of_none() -> Result<()> {
    let bench = Bench::bare("pattern_check").await?;
    let own = bench.prefix.replace('.', "[.]");
    let topics: Vec<_> = (0..25).map(|number| (format!("{}t{number:02}", bench.prefix), 2)).collect();
    bench.topics.create(&topics).await?;
    let check = async |pattern: &str| -> Result<String> {
        let output = tokio::process::Command::new(binaries()?.join("ingest-worker"))
            .arg("check")
            .env_clear()
            .envs(reading(&bench, &bench.group, pattern, &[]))
            .output()
            .await?;
        Ok(format!("{}{}", String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    let said = check(&format!("^{own}t0[1-3]{{1,1}}$")).await?;
    ensure!(said.contains("matches 3 topics, 6 partitions"), "{said}");
    ensure!(said.contains(&format!("topic {}t02, 2 partitions", bench.prefix)), "{said}");
    let said = check(&format!("^({own}|__consumer)")).await?;
    ensure!(said.contains("matches 25 topics") && said.contains("… and 5 more"), "{said}");
    for pattern in [format!(r"^{own}t\d+$"), format!("^{own}none$")] {
        let said = check(&pattern).await?;
        ensure!(said.contains("  warning  ") && said.contains("matches none of "), "{said}");
    }
    let said = check("^[a").await?;
    ensure!(said.contains("ANALYTICS_KAFKA_TOPIC is `^[a`; allowed is "), "{said}");
    bench.remove().await
}

#[tokio::test]
async fn a_worker_whose_pattern_matches_nothing_says_so() -> Result<()> {
    let bench = Bench::bare("pattern_none").await?;
    let pattern = format!("^{}none$", bench.prefix.replace('.', "[.]"));
    let mut worker = bench.worker_with(reading(&bench, &bench.group, &pattern, &REFRESH)).await?;
    until("the worker says that nothing matches", SETTLES, async || {
        Ok(std::fs::read_to_string(&worker.log)?.contains("none matches"))
    })
    .await?;
    worker.terminate(STOPS).await?;
    bench.remove().await
}
