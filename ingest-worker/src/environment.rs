//! Twin: what the environment says, and where it says nothing, a file `.env` here or in a folder above.

use std::collections::BTreeMap;

/// Every setting of both processes: one `.env` serves both.
const EXAMPLE: &str = include_str!("../../.env.example");
/// A setting that was, and what there is now.
const GONE: (&str, &str) =
    ("ANALYTICS_HTTP_MAX_BODY", "ANALYTICS_RECORD_MAX_BYTES bounds events by HTTP too");
/// Stands for a `$` that means itself; for private use, so in nobody's password.
const DOLLAR: char = '\u{E000}';

/// What was set, and what is wrong with how.
#[derive(Debug, Default)]
pub struct Environment {
    /// By name; none is empty or has space around it, but for a password's.
    pub variables: BTreeMap<String, String>,
    /// Sentences that stop the process.
    pub errors: Vec<String>,
    /// Sentences that are only logged.
    pub warnings: Vec<String>,
}

impl Environment {
    /// Of this process.
    #[must_use]
    pub fn load() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => environment.set(name, &value),
                (Ok(name), Err(_)) if name.starts_with("ANALYTICS_") => {
                    environment.errors.push(format!("{name} is not UTF-8"));
                }
                _ => {}
            }
        }
        let here = std::env::current_dir().unwrap_or_default();
        if let Some(path) = here.ancestors().map(|folder| folder.join(".env")).find(|path| path.is_file()) {
            let file = path.display().to_string();
            match std::fs::read(&path) {
                Ok(bytes) => environment.add_file(&file, &bytes),
                Err(error) => environment.errors.push(format!("{file} cannot be read: {error}")),
            }
        }
        environment.find_strangers();
        environment
    }

    /// A line's end is no part of any value: Kubernetes' secrets and Windows' files often have one.
    fn set(&mut self, name: String, value: &str) {
        let line = value.trim_end_matches(['\r', '\n']);
        let value = if name.contains("PASSWORD") { line } else { line.trim() };
        if !value.trim().is_empty() {
            self.variables.insert(name, value.to_owned());
        }
    }

    /// A value may be a secret: a fault names the line or the variable.
    fn add_file(&mut self, file: &str, bytes: &[u8]) {
        // Without its byte order mark, which may also say UTF-16.
        let (text, _, broken) = encoding_rs::UTF_8.decode(bytes);
        if broken || text.contains('\0') {
            return self.errors.push(format!("{file} is not UTF-8"));
        }
        // To dotenvy, space at the very end begins another line.
        let text = text.replace("\r\n", "\n") + "\n";
        let plain_text = with_plain_dollars(&text);
        let dollar = |name: &str, what: &str| {
            format!("{file}: a `$` in {name} {what}; put the value into single quotes")
        };
        let mut found = BTreeMap::new();
        let lines = dotenvy::from_read_iter(text.as_bytes());
        for (line, plain) in lines.zip(dotenvy::from_read_iter(plain_text.as_bytes())) {
            match (line, plain) {
                (Ok((name, value)), plain) => {
                    let lost = plain.map_or(true, |(_, plain)| is_lost(&value, &plain, &found));
                    found.insert(name, (value, lost));
                }
                (Err(_), Ok((name, _))) => self.errors.push(dollar(&name, "makes it unreadable")),
                (Err(dotenvy::Error::LineParse(part, _)), Err(_)) => {
                    let before = text.split_once(&part).map_or("", |(before, _)| before);
                    let line = before.matches('\n').count() + 1;
                    self.errors.push(format!(
                        "{file}, line {line}: not NAME=value; values with spaces stand in quotes"
                    ));
                }
                (Err(fault), Err(_)) => self.errors.push(format!("{file} cannot be read: {fault}")),
            }
        }
        for (name, (value, lost)) in found {
            if !self.variables.contains_key(&name) {
                if lost && name.starts_with("ANALYTICS_") {
                    self.warnings
                        .push(dollar(&name, "and what follows it became nothing: no variable is called so"));
                }
                self.set(name, &value);
            }
        }
    }

    /// Misspelt names, and those that are no settings any more.
    fn find_strangers(&mut self) {
        let names = EXAMPLE.lines().filter_map(|line| line.trim_start_matches('#').split('=').next());
        let known: Vec<&str> = names.filter(|name| name.starts_with("ANALYTICS_")).collect();
        for name in self.variables.keys().filter(|name| name.starts_with("ANALYTICS_")) {
            let is_known = known.contains(&name.strip_suffix("_FILE").unwrap_or(name));
            if is_known || name.starts_with("ANALYTICS_KAFKA_PROPERTY_") || is_link(&self.variables, name) {
                continue;
            }
            let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
            let hint = match nearest {
                _ if name == GONE.0 => format!(" any more: {}", GONE.1),
                Some((distance, known)) if distance <= 4 => format!("; {known} is one"),
                _ => String::new(),
            };
            self.warnings.push(format!("{name} is no setting{hint}"));
        }
    }
}

/// Why this value is nobody's: into every container of a namespace, Kubernetes puts variables for each of its Services.
#[must_use]
pub fn service_link(variables: &BTreeMap<String, String>, name: &str, value: &str) -> Option<String> {
    let (service, url) = match name.strip_suffix("_SERVICE_HOST") {
        Some(service) => (service, variables.get(&format!("{service}_PORT"))?.as_str()),
        None => (name.strip_suffix("_PORT")?, value),
    };
    // Another host was set by a person.
    linked_host(url).filter(|host| !name.ends_with("_HOST") || *host == value)?;
    let service = service.to_lowercase().replace('_', "-");
    Some(format!(
        "{name} is `{value}`, made by Kubernetes for a Service named {service}; allowed is a value of your own, or \
         `enableServiceLinks: false` in the pod's spec"
    ))
}

/// Whether it comes with a `…_PORT=tcp://…` of the same Service.
fn is_link(variables: &BTreeMap<String, String>, name: &str) -> bool {
    let links = variables.iter().filter(|(_, value)| linked_host(value).is_some());
    let mut services = links.filter_map(|(link, _)| name.strip_prefix(link.strip_suffix("_PORT")?));
    services.any(|rest| rest.starts_with("_PORT") || rest.starts_with("_SERVICE_"))
}

/// The host of `tcp://10.0.0.1:5432`.
fn linked_host(url: &str) -> Option<&str> {
    let (scheme, place) = url.split_once("://")?;
    let (host, _) = place.rsplit_once(':').filter(|_| ["tcp", "udp", "sctp"].contains(&scheme))?;
    Some(host.trim_matches(['[', ']']))
}

fn with_plain_dollars(text: &str) -> String {
    let mut escaped = false;
    let plain = text.chars().map(|character| {
        let plain = character == '$' && !escaped;
        escaped = character == '\\' && !escaped;
        if plain { DOLLAR } else { character }
    });
    plain.collect()
}

/// Whether some `$` was substituted by nothing; `plain` is the value with none substituted.
fn is_lost<T>(value: &str, plain: &str, found: &BTreeMap<String, T>) -> bool {
    let is_set =
        |name: &str| !name.is_empty() && (std::env::var_os(name).is_some() || found.contains_key(name));
    let is_name = |rest: &str| match rest.strip_prefix('{') {
        Some(rest) => rest.split('}').next().is_some_and(is_set),
        None => rest.split(|character: char| !character.is_alphanumeric()).next().is_some_and(is_set),
    };
    plain.replace(DOLLAR, "$") != value && !plain.split(DOLLAR).skip(1).all(is_name)
}
