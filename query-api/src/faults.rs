//! What is wrong with the settings: collected, so that one start tells everything.

use std::fmt;
use std::time::Duration;

use crate::settings::{Setting, Values};
use crate::units;

/// Everything that is wrong with the settings, told in one go.
#[derive(Debug, Default)]
pub struct Faults {
    errors: Vec<String>,
    /// What is allowed but probably not meant; logged at start.
    pub warnings: Vec<String>,
}

impl Faults {
    /// One more sentence.
    pub fn add(&mut self, sentence: String) {
        self.errors.push(sentence);
    }

    /// A sentence that stops nothing.
    pub fn warn(&mut self, sentence: String) {
        self.warnings.push(sentence);
    }

    /// Whether everything was right.
    #[must_use]
    pub fn none(&self) -> bool {
        self.errors.is_empty()
    }

    /// A setting that has a default or is required.
    pub fn read<T>(
        &mut self,
        values: &Values,
        setting: &Setting,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if values.get(setting).is_some() {
            return self.take(values, setting, |text| parse(text).ok_or_else(|| allowed.to_owned()));
        }
        self.add(format!("{} is not set; allowed is {allowed}", setting.variable));
        None
    }

    /// A setting that has a default, with a parser that knows what is allowed.
    pub fn take<T>(
        &mut self,
        values: &Values,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = values.get(setting).unwrap_or_default();
        let read = match values.service_link(setting.variable, &text) {
            Some(sentence) => Err(sentence),
            None => parse(&text).map_err(|allowed| {
                let shown = if setting.secret { "not readable".to_owned() } else { format!("`{text}`") };
                format!("{} is {shown}; allowed is {allowed}", setting.variable)
            }),
        };
        read.map_err(|sentence| self.add(sentence)).ok()
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
        self.errors.iter().chain(&self.warnings).try_for_each(|sentence| writeln!(formatter, "  {sentence}"))
    }
}

/// More than nothing and no longer than a day; otherwise what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text, Duration::from_millis(1)..=Duration::from_secs(86_400))
}
