use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use crate::{environment::service_link, units};

/// A text that never shows itself in a log line.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for whoever must send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Collects what is wrong with the settings, so that one start reports it all. A reading that fails notes its sentence
/// and returns a stand-in that nobody uses.
#[derive(Default)]
pub struct Faults {
    /// For what is no flag: secrets, and properties of the Kafka client.
    pub environment: BTreeMap<String, String>,
    /// Sentences that stop the process.
    pub errors: Vec<String>,
    /// Sentences that are only logged.
    pub warnings: Vec<String>,
}

impl Faults {
    /// Notes a sentence that stops the process.
    pub fn error(&mut self, sentence: impl Into<String>) {
        self.errors.push(sentence.into());
    }

    /// Notes a sentence that is only logged.
    pub fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    /// What `parse` makes of the value; if nothing, names the variable, the value and what is allowed.
    pub fn read<T: Default>(
        &mut self,
        name: &str,
        value: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        self.take(name, value, |value| parse(value).ok_or_else(|| allowed.to_owned()))
    }

    /// The same with a parser that knows what is allowed.
    pub fn take<T: Default>(
        &mut self,
        name: &str,
        value: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let value = value.trim();
        let read = match service_link(&self.environment, name, value) {
            Some(sentence) => Err(sentence),
            None => parse(value).map_err(|allowed| format!("{name} is `{value}`; allowed is {allowed}")),
        };
        read.unwrap_or_else(|sentence| {
            self.error(sentence);
            T::default()
        })
    }

    /// One of these words, in any case; returned as written here.
    pub fn word(&mut self, name: &str, value: &str, words: &[&'static str]) -> &'static str {
        self.take(name, value, |value| units::word(value, words))
    }

    /// A whole number.
    pub fn number<T>(&mut self, name: &str, value: &str, range: RangeInclusive<T>) -> T
    where
        T: Default + Display + FromStr + PartialOrd,
    {
        self.take(name, value, |value| units::number(value, range))
    }

    /// A duration such as `500ms`, `5s`, `2m`, `1h` or `366d`.
    pub fn duration(&mut self, name: &str, value: &str, range: RangeInclusive<Duration>) -> Duration {
        self.take(name, value, |value| units::duration(value, range))
    }

    /// A number of bytes such as `16MiB`.
    pub fn size(&mut self, name: &str, value: &str, range: RangeInclusive<usize>) -> usize {
        self.take(name, value, |value| units::size(value, range))
    }

    /// A secret from its variable, or from the file that the variable `…_FILE` names; a line break at the file's end is
    /// not part of it. There is no flag: command lines are public.
    pub fn secret(&mut self, name: &str) -> Option<Secret> {
        let set = |name: &str| self.environment.get(name).filter(|value| !value.is_empty()).cloned();
        match (set(name), set(&format!("{name}_FILE"))) {
            (Some(_), Some(_)) => {
                self.error(format!("{name} and {name}_FILE are both set; allowed is one of them"))
            }
            (Some(value), None) => return Some(Secret(value)),
            (None, Some(file)) => match std::fs::read_to_string(&file) {
                Ok(text) => return Some(Secret(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    self.error(format!("{name}_FILE is `{file}`; allowed is a readable file: {error}"))
                }
            },
            (None, None) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_that_everybody_reads_alike() {
        let any = Duration::ZERO..=Duration::from_secs(1_000 * 86_400);
        for (text, milliseconds) in [
            ("500ms", Some(500)),
            ("5s", Some(5_000)),
            ("5 s", Some(5_000)),
            ("2m", Some(120_000)),
            ("2min", Some(120_000)),
            ("1h 30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("366d", Some(366 * 86_400_000)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("-5s", None),
            ("5M", None),
            ("1month", None),
            ("1y", None),
            ("1 year", None),
            ("1 5s", None),
            ("1h 3 0m", None),
            ("5S", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
        ] {
            let read = units::duration(text, any.clone()).ok();
            assert_eq!(read, milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        for (text, expected) in [
            ("16MiB", Some(16 << 20)),
            ("16 mib", Some(16 << 20)),
            ("16Mi", Some(16 << 20)),
            ("1.5KiB", Some(1536)),
            ("512", Some(512)),
            ("512 B", Some(512)),
            ("2GiB", Some(2 << 30)),
            ("16MB", None),
            ("16M", None),
            ("16k", None),
            ("-1", None),
            ("MiB", None),
        ] {
            assert_eq!(units::size(text, 0..=1 << 40).ok(), expected, "{text}");
        }
        for (range, allowed) in
            [(1500..=16 << 20, "from 1500B to 16MiB"), (0..=1 << 40, "from 0B to 1024GiB")]
        {
            let refused = units::size("99999999999GiB", range).unwrap_err();
            assert!(refused.ends_with(allowed), "{refused}");
        }
    }

    #[test]
    fn a_secret_comes_from_its_variable_or_its_file() {
        let file = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        std::fs::write(&file, "from a file\n").unwrap();
        let variables = [
            ("A", "plain"),
            ("B_FILE", file.to_str().unwrap()),
            ("C_FILE", "/does/not/exist"),
            ("D", "both"),
            ("D_FILE", "both"),
            ("E", ""),
        ];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut faults = Faults { environment, ..Faults::default() };
        let secrets = ["A", "B", "C", "D", "E"]
            .map(|name| faults.secret(name).map(|secret| secret.expose().to_owned()));
        std::fs::remove_file(file).unwrap();
        assert_eq!(secrets, [Some("plain".to_owned()), Some("from a file".to_owned()), None, None, None]);
        assert_eq!(faults.errors.len(), 2, "{:?}", faults.errors);
    }
}
