use std::collections::HashMap;

use chrono::{DateTime, DurationRound as _, FixedOffset, Offset as _, TimeDelta, Utc};
use uuid::Uuid;

use super::people::{Challenge, Person, uuid};
use super::shapes::{
    Completion, Execution, Made, Profile, Run, challenge_linked, completed, executed, profile,
    user_registered,
};

const SERVERS: [&str; 3] = ["code-runner-7d9f5c6b8-x2kqp", "code-runner-7d9f5c6b8-m4ztr", "unknown"];

/// The platform: it remembers who is there and what they have solved.
pub(super) struct World {
    people: Vec<Person>,
    challenges: Vec<Challenge>,
    guides: Vec<Uuid>,
    /// Which solution solved which challenge for whom.
    solved: HashMap<(usize, usize), Uuid>,
}

impl World {
    /// A platform whose size suits this many records.
    pub(super) fn new(random: &mut fastrand::Rng, records: usize) -> Self {
        let people = (records / 100).clamp(20, 5_000);
        Self {
            people: (0..people).map(|_| Person::new(random)).collect(),
            challenges: (0..120).map(|_| Challenge::new(random)).collect(),
            guides: (0..30).map(|_| uuid(random)).collect(),
            solved: HashMap::new(),
        }
    }

    /// What one person does at this instant, and the messages it causes.
    pub(super) fn activity(&mut self, random: &mut fastrand::Rng, at: DateTime<Utc>) -> Vec<Made> {
        match random.u16(0..1000) {
            0..700 => self.submit(random, at),
            700..820 => self.sign_up(random, at),
            820..900 => self.change_profile(random, at),
            900..998 => self.link(random, at),
            _ => self.synchronize(random, at),
        }
    }

    /// A program is run; where all tests pass the challenge is solved, maybe again.
    fn submit(&mut self, random: &mut fastrand::Rng, at: DateTime<Utc>) -> Vec<Made> {
        let (who, what) = (few_often(random, self.people.len()), few_often(random, self.challenges.len()));
        let (Some(person), Some(challenge)) = (self.people.get(who), self.challenges.get(what)) else {
            return Vec::new();
        };
        let run = run(random, challenge.tests.len());
        let solved = matches!(run, Run::Tested { passed, .. } if passed == challenge.tests.len());
        let execution = Execution {
            id: uuid(random),
            challenge,
            student: person.user_id,
            milliseconds: if matches!(run, Run::TimedOut) {
                random.u32(30_000..31_000)
            } else {
                random.u32(700..4_000)
            },
            run,
            offset: offset(random),
            server: random.choice(SERVERS).unwrap_or("unknown"),
            at: grain(random, at),
        };
        // For three quarters of an hour CodeRunner wrote to the wrong topic.
        let topic = if random.u16(0..1000) < 3 { "challenge.completed" } else { "execution.analytics" };
        let mut made = vec![executed(&execution, topic)];
        if solved {
            let answered = at + TimeDelta::nanoseconds(random.i64(20_000_000..90_000_000));
            let repeated = self.solved.get(&(who, what)).copied();
            let solution = repeated.unwrap_or_else(|| uuid(random));
            made.push(completed(&Completion {
                student: person.user_id,
                challenge,
                solution,
                multiplier: random.choice([100, 100, 80, 60, 40, 20]).unwrap_or(100),
                milliseconds: execution.milliseconds,
                seconds: random.u32(60..5_400),
                already_completed: (random.u16(0..1000) >= 5).then_some(repeated.is_some()),
                at: grain(random, answered),
            }));
            self.solved.insert((who, what), solution);
        }
        made
    }

    /// Somebody new: IAM says so, for an OAuth user twice, and Profiles passes it on.
    fn sign_up(&mut self, random: &mut fastrand::Rng, at: DateTime<Utc>) -> Vec<Made> {
        let person = Person::new(random);
        let shape = if random.u16(0..1000) < 10 { Profile::RegisteredV1 } else { Profile::Registered };
        let mut made = vec![user_registered(&person, "local", grain(random, at))];
        let later = |milliseconds| at + TimeDelta::milliseconds(milliseconds);
        made.push(profile(&person, shape, grain(random, later(40))));
        if person.provider != "local" {
            made.push(user_registered(&person, person.provider, grain(random, later(8))));
            made.push(profile(&person, Profile::Updated, grain(random, later(60))));
        }
        // The platform does not grow without bound, however long the trickle.
        if self.people.len() < 20_000 {
            self.people.push(person);
        }
        made
    }

    /// A new picture and perhaps a name of one's own.
    fn change_profile(&mut self, random: &mut fastrand::Rng, at: DateTime<Utc>) -> Vec<Made> {
        let index = few_often(random, self.people.len());
        let Some(person) = self.people.get_mut(index) else { return Vec::new() };
        person.avatar = Some(format!("https://cdn.example.org/avatars/{}.png", random.u32(1..100_000)));
        if random.bool() {
            person.username = format!("{}{}", person.first_name.to_lowercase(), random.u16(1..10_000));
        }
        vec![profile(person, Profile::Updated, grain(random, at))]
    }

    fn link(&self, random: &mut fastrand::Rng, at: DateTime<Utc>) -> Vec<Made> {
        let challenge = self.challenges.get(random.usize(0..self.challenges.len().max(1)));
        let guide = random.choice(&self.guides);
        let Some((guide, challenge)) = guide.zip(challenge) else { return Vec::new() };
        vec![challenge_linked(*guide, challenge, grain(random, at))]
    }

    /// Somebody calls `profiles/sync`: all profiles are registered anew; here a dozen of them.
    fn synchronize(&self, random: &mut fastrand::Rng, at: DateTime<Utc>) -> Vec<Made> {
        let first = random.usize(0..self.people.len().max(1));
        let people = self.people.iter().skip(first).take(12).enumerate();
        let registered = |(index, person)| {
            let index = i64::try_from(index).unwrap_or_default();
            profile(person, Profile::Registered, at + TimeDelta::microseconds(700 * index))
        };
        people.map(registered).collect()
    }
}

/// An index: the first ones come much more often, as with people and challenges anywhere.
fn few_often(random: &mut fastrand::Rng, length: usize) -> usize {
    let skewed = random.usize(0..length.max(1)) * (random.usize(0..1_000) + 1) / 1_000;
    skewed.min(length.saturating_sub(1))
}

fn run(random: &mut fastrand::Rng, tests: usize) -> Run {
    match random.u16(0..1000) {
        0..420 => Run::Tested { passed: tests, with_results: random.u8(0..10) < 2 },
        420..840 => Run::Tested { passed: random.usize(0..tests), with_results: random.u8(0..10) < 3 },
        840..960 => Run::DoesNotCompile,
        _ => Run::TimedOut,
    }
}

/// Where CodeRunner's machine thinks it is.
fn offset(random: &mut fastrand::Rng) -> FixedOffset {
    let hours = random.choice([0, 0, -5, -5, -5, 1]).unwrap_or(0);
    FixedOffset::east_opt(hours * 3600).unwrap_or(Utc.fix())
}

/// What the producer's clock can tell: mostly nano- or microseconds; hand-made data has whole seconds or minutes.
fn grain(random: &mut fastrand::Rng, at: DateTime<Utc>) -> DateTime<Utc> {
    let grain = match random.u16(0..1000) {
        0..550 => return at,
        550..900 => TimeDelta::microseconds(1),
        900..970 => TimeDelta::milliseconds(1),
        970..996 => TimeDelta::seconds(1),
        _ => TimeDelta::minutes(1),
    };
    at.duration_trunc(grain).unwrap_or(at)
}
