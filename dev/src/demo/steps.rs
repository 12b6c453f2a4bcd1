#![expect(clippy::print_stdout, reason = "this is what the demonstration says")]

use std::io::{IsTerminal as _, stdin, stdout};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Says what is being done and that it is done.
pub(super) struct Steps {
    /// Whether somebody looks on.
    pub(super) terminal: bool,
}

impl Steps {
    pub(super) fn on_stdout() -> Self {
        Self { terminal: stdout().is_terminal() && stdin().is_terminal() }
    }

    /// A step: on a terminal something moves while it lasts.
    pub(super) async fn run<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let spinner = self.terminal.then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
            let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        let outcome = work.await;
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        match &outcome {
            Ok(_) => self.done(what, Some(started.elapsed())),
            Err(_) => println!("{} {what}", self.coloured("31", "✗")),
        }
        outcome
    }

    /// Something is done.
    pub(super) fn done(&self, what: &str, took: Option<Duration>) {
        let took = took.map(|took| format!("  {:.1} s", took.as_secs_f64())).unwrap_or_default();
        println!("{} {what}{}", self.coloured("32", "✓"), self.coloured("2", &took));
    }

    /// A line.
    pub(super) fn say(&self, line: &str) {
        println!("{line}");
    }

    pub(super) fn coloured(&self, code: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(0).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        for (number, expected) in [(0_u64, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
    }
}
