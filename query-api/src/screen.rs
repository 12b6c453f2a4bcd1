//! Twin: the screen of `check`: what is well, what is wrong, and what to do about it.
#![expect(clippy::print_stdout, reason = "the command line talks to people")]

/// What was found so far; each line is printed as it is found.
pub struct Screen {
    wrong: usize,
}

impl Screen {
    /// Begins with the name and version of the process.
    #[must_use]
    pub fn of(process: &str, version: &str) -> Self {
        println!("{process} {version}");
        Self { wrong: 0 }
    }

    /// What the next lines are about.
    pub fn title(&self, name: &str, target: &str) {
        println!("\n{name}  {target}");
    }

    /// As it should be.
    pub fn ok(&self, sentence: &str) {
        println!("  ok       {sentence}");
    }

    /// Allowed, but probably not meant.
    pub fn warn(&self, sentence: &str, remedy: &str) {
        println!("  warning  {sentence}\n           {remedy}");
    }

    /// The process cannot do its work.
    pub fn wrong(&mut self, sentence: &str, remedy: &str) {
        self.wrong += 1;
        println!("  WRONG    {sentence}\n           {remedy}");
    }

    /// The last line, and whether everything is well, warnings aside.
    #[must_use]
    pub fn end(self) -> bool {
        match self.wrong {
            0 => println!("\nNothing is wrong."),
            1 => println!("\n1 thing is wrong."),
            n => println!("\n{n} things are wrong."),
        }
        self.wrong == 0
    }
}
