//! How settings are found and refused: flag, then variable, then `.env`, then default; an empty value counts as none.

use std::collections::{BTreeMap, HashMap};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};

use crate::environment::{Environment, service_link};
use crate::faults::Faults;

/// A setting that people can make.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The environment variable; the flag is made of it.
    pub variable: &'static str,
    value_name: &'static str,
    default: &'static str,
    help: &'static str,
    /// Never shown.
    pub(crate) secret: bool,
}

impl Setting {
    /// A setting with its default; an empty default is none.
    #[must_use]
    pub const fn new(variable: &'static str, value_name: &'static str, default: &'static str) -> Self {
        Self { variable, value_name, default, help: "", secret: false }
    }

    /// The sentence in `--help`.
    #[must_use]
    pub const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// Never shown, and no flag: command lines are public. May also come from a file, by the variable `…_FILE`.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The flag, unless it is a secret.
    #[must_use]
    pub fn arg(&self) -> Option<Arg> {
        let name = self.variable.strip_prefix("ANALYTICS_")?.to_lowercase().replace('_', "-");
        let default =
            if self.default.is_empty() { String::new() } else { format!(" [default: {}]", self.default) };
        let arg = Arg::new(self.variable)
            .long(name)
            .value_name(self.value_name)
            .global(true)
            .help_heading("Settings")
            .help(format!("{}\n[env: {}]{default}", self.help, self.variable));
        (!self.secret).then_some(arg)
    }

    /// A line for `--help`, if it is a secret.
    #[must_use]
    pub fn secret_line(&self) -> Option<String> {
        self.secret.then(|| format!("  {0}, {0}_FILE\n          {1}", self.variable, self.help))
    }
}

/// What was set, and where.
pub struct Values {
    flags: HashMap<String, String>,
    variables: BTreeMap<String, String>,
}

impl Values {
    /// Flags, the environment and `.env` in the working directory or above.
    pub fn load(matches: &ArgMatches, settings: &[Setting], faults: &mut Faults) -> Self {
        let mut flags = HashMap::new();
        for variable in settings.iter().filter(|setting| !setting.secret).map(|setting| setting.variable) {
            if matches.value_source(variable) == Some(ValueSource::CommandLine)
                && let Some(value) = matches.get_one::<String>(variable)
            {
                flags.insert(variable.to_owned(), value.clone());
            }
        }
        let environment = Environment::load();
        environment.errors.into_iter().for_each(|sentence| faults.add(sentence));
        environment.warnings.into_iter().for_each(|sentence| faults.warn(sentence));
        Self { flags, variables: environment.variables }
    }

    /// As it was set, or the default; `None` if there is neither.
    #[must_use]
    pub fn get(&self, setting: &Setting) -> Option<String> {
        let set = self.by_name(setting.variable);
        set.or_else(|| Some(setting.default.to_owned()).filter(|default| !default.is_empty()))
    }

    pub(crate) fn by_name(&self, variable: &str) -> Option<String> {
        let flag = self.flags.get(variable).filter(|value| !value.is_empty());
        flag.or_else(|| self.variables.get(variable)).cloned()
    }

    /// Why this value is nobody's, if Kubernetes made it.
    pub(crate) fn service_link(&self, variable: &str, value: &str) -> Option<String> {
        service_link(&self.variables, variable, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Setting = Setting::new("ANALYTICS_TEST_PORT", "PORT", "8000");
    const SECRET: Setting = Setting::new("ANALYTICS_TEST_SECRET", "TEXT", "").secret();

    fn values(flags: &[(&str, &str)], variables: &[(&str, &str)]) -> Values {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Values {
            flags: pairs(flags).into_iter().collect(),
            variables: pairs(variables).into_iter().collect(),
        }
    }

    #[test]
    fn a_flag_wins_over_the_variable_over_the_default_and_an_empty_flag_is_none() {
        let set = [("ANALYTICS_TEST_PORT", "2")];
        assert_eq!(values(&[("ANALYTICS_TEST_PORT", "1")], &set).get(&PORT).unwrap(), "1");
        assert_eq!(values(&[("ANALYTICS_TEST_PORT", "")], &set).get(&PORT).unwrap(), "2");
        assert_eq!(values(&[], &[]).get(&PORT).unwrap(), "8000");
    }

    #[test]
    fn faults_name_variable_value_and_what_is_allowed_but_no_secret() {
        let mut faults = Faults::default();
        let values = values(&[("ANALYTICS_TEST_PORT", "x"), ("ANALYTICS_TEST_SECRET", "hush")], &[]);
        assert_eq!(faults.read(&values, &PORT, "0 to 65535", |text| text.parse::<u16>().ok()), None);
        assert_eq!(faults.read(&values, &SECRET, "a URL", |_| None::<u8>), None);
        assert_eq!(
            faults.to_string(),
            "  ANALYTICS_TEST_PORT is `x`; allowed is 0 to 65535\n  ANALYTICS_TEST_SECRET is not readable; allowed is a URL\n"
        );
    }
}
