//! In: a seed, a number, a stretch of time. Out: the records that the upstream services would have sent, each with
//! what must become of it, so that a checker needs nothing but this list.

mod rhythm;
mod wire;
mod shapes;
mod faults;
mod people;
mod world;

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use chrono::{DateTime, TimeDelta, Utc};

use rhythm::Rhythm;
use world::World;

/// The topics that the load writes to, without a prefix.
pub const LIVE_TOPICS: [&str; 6] = [
    "iam.user.registered",
    "community.registration",
    "community.profile.updated",
    "guides.challenge.added.v1",
    "execution.analytics",
    "challenge.completed",
];

/// The documented entry point for canonical events: read by default, written by nobody upstream.
pub const CANONICAL_TOPIC: &str = "analytics.events";

/// What a load is: the same plan gives the same records.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Decides everything that is random.
    pub seed: u64,
    /// How many records.
    pub records: usize,
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The instant after the last.
    pub until: DateTime<Utc>,
    /// Which comes first.
    pub order: Order,
    /// How many records of a thousand cannot become an event; upstream services send none.
    pub faults_per_mille: u32,
}

/// In which order the records come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// As they happened.
    Live,
    /// Anyhow: the costly case for the read models.
    Random,
}

/// One record and what must become of it.
#[derive(Debug, Clone)]
pub struct LoadRecord {
    /// One of [`LIVE_TOPICS`].
    pub topic: &'static str,
    /// As upstream keys it.
    pub key: String,
    /// `None` is a tombstone.
    pub value: Option<String>,
    /// The producer's clock, a few milliseconds after the event.
    pub timestamp: DateTime<Utc>,
    /// What must become of it.
    pub becomes: Outcome,
}

/// What must become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An event with these facts.
    Event(Fact),
    /// Nothing: its event is there already.
    Duplicate,
    /// A dead letter.
    DeadLetter,
    /// Counted and passed over.
    Tombstone,
}

/// What is known of an event beforehand: everything but its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// As the canonical table names it.
    pub event_type: &'static str,
    /// The service behind it.
    pub source: &'static str,
    /// Microseconds.
    pub occurred_at: DateTime<Utc>,
    /// Who did it.
    pub actor: Option<String>,
    /// The member that the payload gets.
    pub iso_member: &'static str,
}

impl LoadRecord {
    /// The payload that must be stored: what was sent and the one member more.
    #[must_use]
    pub fn payload(&self, fact: &Fact) -> String {
        let value = self.value.as_deref().unwrap_or("{}");
        let object = value.strip_suffix('}').unwrap_or(value);
        format!(r#"{object},"{}":"{}"}}"#, fact.iso_member, shared::instant::format(fact.occurred_at))
    }

    /// The facts, if it must become an event.
    #[must_use]
    pub fn fact(&self) -> Option<&Fact> {
        match &self.becomes {
            Outcome::Event(fact) => Some(fact),
            _ => None,
        }
    }
}

/// The records of a plan, made one by one.
pub struct Load {
    plan: LoadPlan,
    rhythm: Rhythm,
    world: World,
    random: fastrand::Rng,
    waiting: VecDeque<LoadRecord>,
    /// Digests of the natural keys so far: what comes twice must be recognized.
    seen: HashSet<u64>,
    given: usize,
    is_live: bool,
}

impl Load {
    /// The records of this plan.
    #[must_use]
    pub fn new(plan: LoadPlan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        Self {
            rhythm: Rhythm::new(plan.from, plan.until),
            world: World::new(&mut random, plan.records),
            random,
            waiting: VecDeque::new(),
            seen: HashSet::new(),
            given: 0,
            is_live: false,
            plan,
        }
    }

    /// A record that is sent at this moment; goes on where the plan ended.
    pub fn live(&mut self, now: DateTime<Utc>) -> LoadRecord {
        if !self.is_live {
            // What is left of the plan's last activity is of another time.
            self.waiting.clear();
            self.is_live = true;
        }
        loop {
            if let Some(record) = self.after(now) {
                return record;
            }
        }
    }

    /// The next record; one that happens at this instant if nothing is left from before.
    fn after(&mut self, at: DateTime<Utc>) -> Option<LoadRecord> {
        if self.waiting.is_empty() {
            for made in self.world.activity(&mut self.random, at) {
                let becomes = if self.is_first(&made.identity, &made.fact) {
                    Outcome::Event(made.fact)
                } else {
                    Outcome::Duplicate
                };
                let delay = TimeDelta::milliseconds(self.random.i64(1..8));
                let record = LoadRecord {
                    topic: made.topic,
                    key: made.key,
                    value: Some(made.value),
                    timestamp: made.at + delay,
                    becomes,
                };
                self.queue(record);
            }
        }
        self.waiting.pop_front()
    }

    /// Puts a record in the queue, rarely with what goes wrong around it.
    fn queue(&mut self, record: LoadRecord) {
        if self.random.u32(0..1000) < self.plan.faults_per_mille {
            let broken = faults::broken(&mut self.random, &record);
            self.waiting.push_back(broken);
        }
        // A producer that got no answer sends the same bytes again.
        let again = self.random.u32(0..1000) < 3;
        self.waiting.push_back(record.clone());
        if again {
            self.waiting.push_back(LoadRecord { becomes: Outcome::Duplicate, ..record });
        }
    }

    fn is_first(&mut self, identity: &str, fact: &Fact) -> bool {
        let mut hasher = DefaultHasher::new();
        (fact.event_type, identity).hash(&mut hasher);
        self.seen.insert(hasher.finish())
    }
}

impl Iterator for Load {
    type Item = LoadRecord;

    fn next(&mut self) -> Option<LoadRecord> {
        if self.given >= self.plan.records {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a load has far fewer than 2^52 records")]
        let share = match self.plan.order {
            Order::Live => self.given as f64 / self.plan.records as f64,
            Order::Random => self.random.f64(),
        };
        let record = self.after(self.rhythm.at(share))?;
        self.given += 1;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(order: Order, faults_per_mille: u32) -> LoadPlan {
        let until: DateTime<Utc> = "2025-11-23T18:00:00Z".parse().unwrap();
        LoadPlan {
            seed: 7,
            records: 20_000,
            from: until - TimeDelta::days(7),
            until,
            order,
            faults_per_mille,
        }
    }

    #[test]
    fn the_same_plan_gives_the_same_records() {
        let texts = || Load::new(plan(Order::Random, 5)).map(|record| format!("{record:?}"));
        assert!(texts().eq(texts()));
    }

    #[test]
    fn every_value_is_json_of_about_the_real_size_on_every_topic() {
        let records: Vec<_> = Load::new(plan(Order::Live, 0)).collect();
        assert_eq!(records.len(), 20_000);
        let bytes: usize = records.iter().filter_map(|record| record.value.as_ref()).map(String::len).sum();
        assert!((380..=460).contains(&(bytes / records.len())), "{} bytes on average", bytes / records.len());
        for topic in LIVE_TOPICS {
            let here = records.iter().filter(|record| record.topic == topic).count();
            assert!(here > 200, "{here} records on {topic}");
        }
        for record in &records {
            let value: serde_json::Value = serde_json::from_str(record.value.as_ref().unwrap()).unwrap();
            assert!(value.is_object());
            if let Some(fact) = record.fact() {
                let payload: serde_json::Value = serde_json::from_str(&record.payload(fact)).unwrap();
                assert!(payload[fact.iso_member].is_string());
            }
        }
        let duplicates = records.iter().filter(|record| record.becomes == Outcome::Duplicate).count();
        assert!((20..200).contains(&duplicates), "{duplicates} duplicates");
    }

    #[test]
    fn live_order_is_the_order_of_time_but_for_a_minute_and_all_encodings_occur() {
        let records: Vec<_> = Load::new(plan(Order::Live, 0)).collect();
        let times: Vec<_> =
            records.iter().filter_map(LoadRecord::fact).map(|fact| fact.occurred_at).collect();
        for pair in times.windows(2) {
            assert!(pair[1] > pair[0] - TimeDelta::minutes(2), "{} after {}", pair[1], pair[0]);
        }
        let all: String = records.iter().filter_map(|record| record.value.clone()).collect();
        for needle in [
            "\"timed_out\"",
            "-05:00\"",
            "Z\"",
            "\"google\"",
            "\"alreadyCompleted\":true",
            "compilation_error",
            ".000000000}",
            "\"profileUrl\":null",
        ] {
            assert!(all.contains(needle), "no {needle}");
        }
        for items in [5, 6, 7] {
            let has = |record: &LoadRecord| {
                let value: serde_json::Value = serde_json::from_str(record.value.as_ref().unwrap()).unwrap();
                value["occurredOn"].as_array().is_some_and(|array| array.len() == items)
            };
            assert!(records.iter().any(has), "no date of {items} items");
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let records: Vec<_> = Load::new(plan(Order::Random, 20)).collect();
        let count = |outcome: &Outcome| records.iter().filter(|record| record.becomes == *outcome).count();
        assert!(count(&Outcome::DeadLetter) > 100 && count(&Outcome::Tombstone) > 20);
    }
}
