use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::kafka::{Kafka, News};
use super::lane::SimulatedLane;
use super::postgres::{Postgres, key, value};
use super::{LANES, PARTITIONS, Session, Worker};
use crate::batch::{Claim, LaneInput};
use crate::consume::assignment::{Answer, Assignment, ClaimOrder, Order, Terms};
use crate::consume::position::{self, Position};
use crate::consume::{KafkaRecord, PartitionKey, ToConsumer};

/// One process: the real assignment and the real lanes, between them the channels, and around them what the tasks and the
/// clients would do.
pub struct Process {
    number: Worker,
    topic: Arc<str>,
    assignment: Assignment,
    inbox: VecDeque<Message>,
    lanes: Vec<SimulatedLane>,
    /// Claims under way, of which each partition has one at most.
    claims: BTreeMap<PartitionKey, ClaimUnderWay>,
    /// What the Kafka client fetches: from which offset on, of which generation of the log.
    fetches: BTreeMap<usize, (i64, u64)>,
    /// Of which generation the log was when its offsets were last asked for: that it is recreated between the question and
    /// the fetch cannot be seen.
    asked: [u64; PARTITIONS],
}

enum Message {
    Lane(ToConsumer),
    OutOfRange,
    Answer(PartitionKey, u64, Option<(Claim, i64, Session)>),
}

struct ClaimUnderWay {
    order: ClaimOrder,
    claim: Option<(Claim, Session)>,
    proven: bool,
    begun_anew: bool,
}

impl Process {
    pub fn new(number: Worker, topic: &Arc<str>) -> Self {
        Self {
            number,
            topic: Arc::clone(topic),
            assignment: Assignment::new(LANES),
            inbox: VecDeque::new(),
            lanes: (0..LANES).map(SimulatedLane::new).collect(),
            claims: BTreeMap::new(),
            fetches: BTreeMap::new(),
            asked: [0; PARTITIONS],
        }
    }

    /// Its sessions with PostgreSQL.
    pub fn sessions(&self) -> impl Iterator<Item = Session> {
        self.lanes.iter().filter_map(SimulatedLane::session)
    }

    /// The sessions of its lanes, as claims see them.
    pub fn backends(&self) -> impl Iterator<Item = Session> {
        self.lanes.iter().filter_map(|lane| lane.backend)
    }

    /// What its lanes hold between fetch and commit.
    pub fn held_bytes(&self) -> usize {
        self.lanes.iter().map(SimulatedLane::held_bytes).sum()
    }

    /// One turn of the thread that polls Kafka.
    pub fn poll(&mut self, kafka: &mut Kafka, rng: &mut fastrand::Rng) {
        let mut orders = Vec::new();
        for _ in 0..rng.usize(0..=self.inbox.len()) {
            let Some(message) = self.inbox.pop_front() else { break };
            self.read(message, &mut orders);
            self.carry_out(&mut orders);
        }
        let fetching: Vec<_> = self.fetches.keys().copied().collect();
        for partition in fetching {
            self.fetch(partition, kafka, rng);
        }
        while let Some(news) = kafka.news[self.number].pop_front() {
            match news {
                News::Assigned(partition) => {
                    self.assignment.assigned(key(&self.topic, partition), &mut orders);
                }
                News::Revoked(partition) => {
                    self.fetches.remove(&partition);
                    self.assignment.revoked(&key(&self.topic, partition), &mut orders);
                }
            }
            self.carry_out(&mut orders);
        }
    }

    fn read(&mut self, message: Message, orders: &mut Vec<Order>) {
        match message {
            Message::Answer(key, attempt, settled) => {
                let answer = settled.map_or(Answer::Taken, |(claim, offset, session)| {
                    let current = self.lanes.iter().any(|lane| lane.backend == Some(session));
                    Answer::Ours { claim, offset, current }
                });
                self.assignment.answered(key, attempt, answer, orders);
            }
            Message::OutOfRange => self.assignment.out_of_range(orders),
            Message::Lane(told) => match told {
                ToConsumer::Taken { key, epoch } => {
                    self.assignment.taken(key, epoch, orders);
                }
                ToConsumer::Recreated { key, epoch } => self.assignment.recreated(key, epoch, orders),
                ToConsumer::LaneLost(lane) => self.assignment.lane_lost(lane, orders),
                ToConsumer::Committed(advanced) => self.assignment.committed(&advanced),
                other => unreachable!("a lane does not say {other:?}"),
            },
        }
    }

    fn carry_out(&mut self, orders: &mut Vec<Order>) {
        for order in orders.drain(..) {
            match order {
                Order::Claim(order) => {
                    let begun_anew = !matches!(order.terms, Terms::Recreated(_));
                    let proven = order.terms != Terms::Proven;
                    let key = order.key.clone();
                    self.claims.insert(key, ClaimUnderWay { order, claim: None, proven, begun_anew });
                }
                Order::Forget(key) => {
                    self.claims.remove(&key);
                }
                Order::Fetch(key, offset) => {
                    let partition = usize::try_from(key.partition).unwrap();
                    let asked = self.asked[partition];
                    let former = self.fetches.insert(partition, (offset, asked));
                    assert_eq!(former, None, "the client refuses what it fetches already");
                }
                Order::StopFetching(key) => {
                    let stopped = self.fetches.remove(&usize::try_from(key.partition).unwrap());
                    assert!(stopped.is_some(), "the client refuses what it does not fetch");
                }
                Order::Lane(lane, input) => self.lanes[lane].inputs.push_back(input),
            }
        }
    }

    /// As the client does: records in order, an error when the offset is not there, nothing when the log is another.
    fn fetch(&mut self, partition: usize, kafka: &Kafka, rng: &mut fastrand::Rng) {
        let Some((offset, generation)) = self.fetches.get_mut(&partition) else { return };
        let log = &kafka.logs[partition];
        let key = key(&self.topic, partition);
        let Some((reading, lane)) = self.assignment.reading_and_lane(&key.topic, key.partition) else {
            panic!("{key} is fetched but not read");
        };
        if log.generation != *generation {
            return;
        }
        let epoch = reading.epoch;
        if *offset < log.low || *offset > log.high() {
            return self.inbox.push_back(Message::OutOfRange);
        }
        let mut records = Vec::new();
        for _ in 0..rng.u8(0..6) {
            while *offset < log.high() && log.at(*offset).is_none() {
                *offset += 1;
            }
            let Some(number) = log.at(*offset) else { break };
            records.push(record(&key, *offset, epoch, value(number, *generation)));
            *offset += 1;
            reading.passed = *offset;
        }
        let lane = &mut self.lanes[lane];
        if !records.is_empty() {
            lane.load.add(records.iter().map(KafkaRecord::memory).sum());
            lane.inputs.push_back(LaneInput::Records(records));
        }
        if *offset == log.high() && reading.passed < *offset {
            reading.passed = *offset;
            lane.inputs.push_back(LaneInput::End { key, epoch, position: *offset });
        }
    }

    /// One step of a lane and its writer.
    pub fn step_lane(
        &mut self,
        lane: usize,
        now: Instant,
        world: (&Kafka, &mut Postgres),
        faults: bool,
        rng: &mut fastrand::Rng,
    ) {
        let lane = &mut self.lanes[lane];
        let mut told = Vec::new();
        lane.step(now, &mut told, rng);
        lane.step_writer(world, faults, rng);
        self.inbox.extend(told.into_iter().map(Message::Lane));
    }

    /// One step of a claim under way, if there is one.
    pub fn step_claim(
        &mut self,
        kafka: &Kafka,
        postgres: &mut Postgres,
        faults: bool,
        rng: &mut fastrand::Rng,
    ) {
        let index = rng.usize(0..self.claims.len().max(1));
        let Some(under_way) = self.claims.values_mut().nth(index) else { return };
        let order = under_way.order.clone();
        let partition = usize::try_from(order.key.partition).unwrap();
        if !under_way.proven {
            under_way.proven = kafka.owners[partition] == Some(self.number);
            return;
        }
        let Some(session) = self.lanes[order.lane].backend else { return };
        let answer_is_lost = faults && rng.u8(0..16) == 0;
        let outcome = match &under_way.claim {
            None => {
                let held = match order.terms {
                    Terms::Held(epoch) | Terms::Recreated(epoch) => Some(epoch),
                    Terms::Assigned | Terms::Proven => None,
                };
                postgres.claim(partition, session, held).map(|claim| claim.map(|claim| (claim, None)))
            }
            Some((claim, _)) => {
                let (low, high) = (kafka.logs[partition].low, kafka.logs[partition].high());
                let mut anew = |anew| postgres.go_on_at(partition, claim, low, anew);
                let claimed = match position::of(claim, low, high) {
                    _ if !under_way.begun_anew => anew(true),
                    Position::Another { .. } => anew(true),
                    Position::RetentionPassed { .. } => anew(false),
                    Position::At(offset) => {
                        self.asked[partition] = kafka.logs[partition].generation;
                        let settled =
                            under_way.claim.clone().map(|(claim, session)| (claim, offset, session));
                        let answer = Message::Answer(order.key.clone(), order.attempt, settled);
                        self.claims.remove(&order.key);
                        return self.inbox.push_back(answer);
                    }
                };
                let session = under_way.claim.as_ref().map(|(_, session)| *session);
                claimed.map(|claim| claim.map(|claim| (claim, session)))
            }
        };
        match outcome {
            // The frozen holder is ended; it is not always the first to be tried.
            Err(_) if rng.u8(0..4) == 0 => {
                if let Some(holder) = postgres.holder(partition)
                    && postgres.rows.get(&partition).is_some_and(|row| row.session == holder)
                {
                    postgres.end(holder);
                }
            }
            Err(_) => {}
            Ok(_) if answer_is_lost => {}
            Ok(None) => {
                self.claims.remove(&order.key);
                self.inbox.push_back(Message::Answer(order.key, order.attempt, None));
            }
            Ok(Some((claim, former))) => {
                under_way.begun_anew |= under_way.claim.is_some();
                under_way.claim = Some((claim, former.unwrap_or(session)));
            }
        }
    }
}

fn record(key: &PartitionKey, offset: i64, epoch: i64, value: Vec<u8>) -> KafkaRecord {
    KafkaRecord {
        topic: Arc::clone(&key.topic),
        partition: key.partition,
        offset,
        timestamp: None,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
        epoch,
    }
}
