//! One screen: what is well, what is wrong, and what to do about it.

mod postgres;
mod kafka;

use crate::config::Config;

/// What was found so far; each line is printed as it is found.
pub(super) struct Screen {
    wrong: usize,
}

impl Screen {
    fn title(&self, name: &str, target: &str) {
        println!("\n{name}  {target}");
    }

    fn ok(&self, sentence: &str) {
        println!("  ok       {sentence}");
    }

    fn warn(&self, sentence: &str, remedy: &str) {
        println!("  warning  {sentence}\n           {remedy}");
    }

    fn wrong(&mut self, sentence: &str, remedy: &str) {
        self.wrong += 1;
        println!("  WRONG    {sentence}\n           {remedy}");
    }
}

/// Whether everything is well, warnings aside.
pub(super) async fn check(config: &Config) -> anyhow::Result<bool> {
    let mut screen = Screen { wrong: 0 };
    println!("ingest-worker {}", env!("CARGO_PKG_VERSION"));
    for warning in &config.warnings {
        screen.warn(warning, "see ingest-worker --help");
    }
    postgres::check(&config.database, &mut screen).await?;
    let kafka = config.kafka.clone();
    // The client's calls block.
    let screen = tokio::task::spawn_blocking(move || {
        kafka::check(&kafka, &mut screen);
        screen
    });
    let screen = screen.await?;
    match screen.wrong {
        0 => println!("\nNothing is wrong."),
        1 => println!("\n1 thing is wrong."),
        n => println!("\n{n} things are wrong."),
    }
    Ok(screen.wrong == 0)
}
