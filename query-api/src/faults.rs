//! What is wrong with the settings: collected, so that one start tells everything.

use std::fmt;
use std::time::Duration;

use crate::settings::{Setting, Values};

/// Everything that is wrong with the settings, told in one go.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// One more sentence.
    pub fn add(&mut self, sentence: String) {
        self.0.push(sentence);
    }

    /// Whether everything was right.
    #[must_use]
    pub fn none(&self) -> bool {
        self.0.is_empty()
    }

    /// A setting that has a default or is required.
    pub fn read<T>(
        &mut self,
        values: &Values,
        setting: &Setting,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if let Some(text) = values.get(setting) {
            let value = parse(&text);
            if value.is_none() {
                let shown = if setting.secret { "not readable".to_owned() } else { format!("`{text}`") };
                self.add(format!("{} is {shown}; allowed is {allowed}", setting.variable));
            }
            return value;
        }
        self.add(format!("{} is not set; allowed is {allowed}", setting.variable));
        None
    }

    /// A setting that may be missing; `Some(None)` if it is.
    pub fn read_optional<T>(
        &mut self,
        values: &Values,
        setting: &Setting,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Option<T>> {
        if values.get(setting).is_some() {
            self.read(values, setting, allowed, parse).map(Some)
        } else {
            Some(None)
        }
    }

    /// A secret from its variable or from the file that `…_FILE` names, without the line's end.
    pub fn secret(&mut self, values: &Values, setting: &Setting) -> Option<String> {
        let file_variable = format!("{}_FILE", setting.variable);
        match (values.get(setting), values.by_name(&file_variable)) {
            (Some(_), Some(_)) => {
                self.add(format!(
                    "{} and {file_variable} are both set; allowed is one of them",
                    setting.variable
                ));
                None
            }
            (Some(secret), None) => Some(secret),
            (None, Some(file)) => {
                match std::fs::read_to_string(&file) {
                    Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(fault) => {
                        self.add(format!("{file_variable} is `{file}`, which cannot be read: {fault}; allowed is a file's path"));
                        None
                    }
                }
            }
            (None, None) => None,
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|sentence| writeln!(formatter, "  {sentence}"))
    }
}

/// `500ms`, `5s`, `2m`, `1h`: a whole number and a unit, more than nothing and no longer than a day.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
    (1..=86_400_000).contains(&total).then(|| Duration::from_millis(total))
}

/// `512`, `64KiB`, `16MiB`, `1GiB`: a whole number of bytes, with or without a unit.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// What [`size`] allows, for people.
pub const SIZE: &str = "a size such as 512KiB or 16MiB";

/// What [`duration`] allows, for people.
pub const DURATION: &str = "a number with its unit, such as 500ms, 5s or 2m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        for (text, bytes) in [
            ("16MiB", Some(16 << 20)),
            ("16 mib", Some(16 << 20)),
            ("512", Some(512)),
            ("2GiB", Some(2 << 30)),
            ("16MB", None),
            ("MiB", None),
            ("", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, milliseconds) in
            [("500ms", Some(500)), ("5s", Some(5_000)), ("2m", Some(120_000)), ("24h", Some(86_400_000))]
        {
            assert_eq!(duration(text).map(|duration| duration.as_millis()), milliseconds);
        }
        for text in ["", "5", "s", "0s", "-1s", "1.5s", "5 s", "25h", "99999999999999999999h", "5sec"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
