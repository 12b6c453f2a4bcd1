//! Runs scenarios, asks the oracle after each, and says what came of it.

#![expect(clippy::print_stdout, reason = "the runner talks to people")]

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use super::Scene;
use super::oracle::Figures;
use super::scenarios::{self, Scenario};

/// What is to be run, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything that is random.
    pub seed: u64,
    /// The part for `make test`.
    pub quick: bool,
    /// Instead of each scenario's own number.
    pub rounds: Option<u32>,
    /// So many at a time, those apart that disturb others.
    pub jobs: usize,
    /// Parts of names; none is all.
    pub names: Vec<String>,
}

/// What came of a scenario.
struct Report {
    name: &'static str,
    rounds: u32,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Good(Figures),
    Bad(Figures),
    /// It came to no end: why.
    Broken(String),
    /// Why it cannot run here.
    Skipped(String),
}

/// A line for each scenario there is.
pub fn list() {
    for scenario in scenarios::all() {
        println!("{:24} {}", scenario.name, scenario.what);
    }
}

/// Runs the plan's scenarios, those first that may run side by side; true if nothing failed.
///
/// # Errors
/// No scenario has such a name.
pub async fn run(plan: &Plan) -> Result<bool> {
    let wanted = |name: &str| plan.names.is_empty() || plan.names.iter().any(|part| name.contains(part));
    let chosen: Vec<_> =
        scenarios::all().filter(|scenario| wanted(scenario.name) && plan.rounds_of(scenario) > 0).collect();
    if chosen.is_empty() {
        bail!("no scenario is called {}: --list names them", plan.names.join(" or "));
    }
    println!("seed {}", plan.seed);
    let (alone, together): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|scenario| scenario.alone);
    let mut reports: Vec<Report> = stream::iter(together)
        .map(|scenario| play(scenario, plan))
        .buffer_unordered(plan.jobs.max(1))
        .collect()
        .await;
    for scenario in alone {
        reports.push(play(scenario, plan).await);
    }
    print_table(&reports);
    Ok(!reports.iter().any(Report::is_bad))
}

impl Plan {
    fn rounds_of(&self, scenario: &Scenario) -> u32 {
        let own = if self.quick { scenario.rounds_quick } else { scenario.rounds_full };
        self.rounds.unwrap_or(own)
    }

    /// A scenario has the same dice alone as among others.
    fn seed_of(&self, scenario: &Scenario) -> u64 {
        scenario
            .name
            .bytes()
            .fold(self.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
    }
}

async fn play(scenario: &'static Scenario, plan: &Plan) -> Report {
    let (rounds, started) = (plan.rounds_of(scenario), Instant::now());
    let outcome = match (scenario.hindrance)() {
        Some(why) => Outcome::Skipped(why),
        None => {
            act(scenario, plan, rounds).await.unwrap_or_else(|error| Outcome::Broken(format!("{error:#}")))
        }
    };
    let report = Report { name: scenario.name, rounds, took: started.elapsed(), outcome };
    report.print(plan);
    report
}

async fn act(scenario: &Scenario, plan: &Plan, rounds: u32) -> Result<Outcome> {
    let mut scene = Scene::new(scenario.name, plan.seed_of(scenario), rounds, scenario.alone).await?;
    let kept = format!(
        "kept are the database {} (until the next run) and the logs in {}",
        scene.bench.database.name,
        scene.bench.logs.display()
    );
    // Every wait within has a limit of its own; this one is for what was forgotten.
    let limit = Duration::from_secs(600) + Duration::from_secs(180) * rounds;
    let run = timeout(limit, (scenario.run)(&mut scene)).await;
    if scenario.alone {
        // Whatever came of it: the next one finds a broker.
        scene.bench.stack.run(&["start-kafka"]).await?;
    }
    let figures = match run.unwrap_or_else(|_| bail!("it did not end within {} s", limit.as_secs())) {
        Ok(()) => scene.finish().await,
        Err(error) => Err(error),
    };
    let mut figures = figures.with_context(|| kept.clone())?;
    if figures.faults.is_empty() {
        scene.remove().await?;
        return Ok(Outcome::Good(figures));
    }
    figures.faults.push(kept);
    Ok(Outcome::Bad(figures))
}

impl Report {
    fn is_bad(&self) -> bool {
        matches!(self.outcome, Outcome::Bad(_) | Outcome::Broken(_))
    }

    /// As soon as it is known: the table comes when all is over.
    fn print(&self, plan: &Plan) {
        let seconds = self.took.as_secs_f32();
        match &self.outcome {
            Outcome::Good(_) => println!("{}: good, {seconds:.0} s", self.name),
            Outcome::Skipped(why) => println!("{}: not here, {why}", self.name),
            Outcome::Bad(Figures { faults, .. }) => {
                println!("{}: FAILED, {seconds:.0} s", self.name);
                faults.iter().for_each(|fault| println!("  {}", fault.replace('\n', "\n  ")));
            }
            Outcome::Broken(why) => {
                println!("{}: FAILED, {seconds:.0} s\n  {}", self.name, why.replace('\n', "\n  "));
            }
        }
        if self.is_bad() {
            let rounds = plan.rounds.map(|rounds| format!(" --rounds {rounds}")).unwrap_or_default();
            let quick = if plan.quick { " --quick" } else { "" };
            println!("  again: dev/faults --seed {}{quick}{rounds} {}", plan.seed, self.name);
        }
    }
}

fn print_table(reports: &[Report]) {
    println!(
        "\n{:24} {:>6} {:>8} {:>5} {:>7} {:>6} {:>9} {:>9} {:>7}  result",
        "scenario", "rounds", "records", "lost", "doubled", "wrong", "recovered", "memory", "took"
    );
    for Report { name, rounds, took, outcome } in reports {
        let took = took.as_secs_f32();
        let (figures, result) = match outcome {
            Outcome::Good(figures) => (figures, "good"),
            Outcome::Bad(figures) => (figures, "FAILED"),
            Outcome::Broken(_) => {
                println!("{name:24} {rounds:>6} {:>57.0} s  FAILED: came to no end", took);
                continue;
            }
            Outcome::Skipped(why) => {
                println!("{name:24} not here: {why}");
                continue;
            }
        };
        println!(
            "{name:24} {rounds:>6} {:>8} {:>5} {:>7} {:>6} {:>7.1} s {:>5} MiB {:>5.0} s  {result}",
            figures.records,
            figures.lost,
            figures.doubled,
            figures.wrong_counts,
            figures.slowest_recovery.as_secs_f32(),
            figures.peak_memory_kilobytes >> 10,
            took,
        );
    }
}
