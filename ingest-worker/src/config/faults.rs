use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

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
        parse(value.trim()).unwrap_or_else(|| {
            self.error(format!("{name} is `{value}`; allowed is {allowed}"));
            T::default()
        })
    }

    /// One of these words, in any case; returned as written here.
    pub fn word(&mut self, name: &str, value: &str, words: &[&'static str]) -> &'static str {
        self.read(name, value, &words.join(" | "), |value| {
            words.iter().find(|word| word.eq_ignore_ascii_case(value)).copied()
        })
    }

    /// A whole number.
    pub fn number<T>(&mut self, name: &str, value: &str, range: RangeInclusive<T>) -> T
    where
        T: Default + Display + FromStr + PartialOrd,
    {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, value, &allowed, |value| value.parse().ok().filter(|number| range.contains(number)))
    }

    /// A duration such as `500ms`, `5s`, `2m`, `1h` or `366d`.
    pub fn duration(&mut self, name: &str, value: &str, range: RangeInclusive<Duration>) -> Duration {
        let (min, max) = (duration_text(*range.start()), duration_text(*range.end()));
        let allowed = format!("a duration such as 500ms, 5s, 2m, from {min} to {max}");
        self.read(name, value, &allowed, |value| duration(value).filter(|length| range.contains(length)))
    }

    /// A number of bytes such as `16MiB`.
    pub fn size(&mut self, name: &str, value: &str, range: RangeInclusive<usize>) -> usize {
        let allowed = format!(
            "a size such as 512KiB or 16MiB, from {} to {}",
            size_text(*range.start()),
            size_text(*range.end())
        );
        self.read(name, value, &allowed, |value| size(value).filter(|bytes| range.contains(bytes)))
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

fn split_unit(value: &str) -> Option<(u64, &str)> {
    let digits = value.find(|character: char| !character.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

fn duration(value: &str) -> Option<Duration> {
    let (number, unit) = split_unit(value)?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

fn duration_text(length: Duration) -> String {
    let seconds = length.as_secs();
    match (length.subsec_millis(), seconds) {
        (0, seconds) if seconds >= 86_400 && seconds.is_multiple_of(86_400) => {
            format!("{}d", seconds / 86_400)
        }
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{}ms", length.as_millis()),
    }
}

const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn size(value: &str) -> Option<usize> {
    let (number, unit) = split_unit(value)?;
    let unit = if unit.is_empty() { "B" } else { unit };
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    usize::try_from(number).ok()?.checked_mul(*factor)
}

fn size_text(bytes: usize) -> String {
    let fitting = UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    fitting.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("5s", Some(Duration::from_secs(5))),
            ("2m", Some(Duration::from_secs(120))),
            ("366d", Some(Duration::from_secs(366 * 86_400))),
            ("5", None),
            ("", None),
            ("-5s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        for (text, expected) in [
            ("16MiB", Some(16 << 20)),
            ("16 mib", Some(16 << 20)),
            ("512", Some(512)),
            ("2GiB", Some(2 << 30)),
            ("16MB", None),
            ("MiB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
        assert_eq!(size_text(16 << 20), "16MiB");
        assert_eq!(size_text(1500), "1500B");
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
