//! Twin: the one reading of a PostgreSQL URL, strict. Its faults show nothing of it: what is misread may be the password.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use sqlx::postgres::PgSslMode;

use super::{Target, Tls};

/// What `sslmode` may be.
pub const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca or verify-full";

const PARAMETERS: [&str; 7] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "statement-cache-capacity"];
/// Other clients know them; each may be named, since the sentence shows our own text.
const UNSUPPORTED: &str = "application_name channel_binding client_encoding connect_timeout currentSchema dbname \
    fallback_application_name gssencmode hostaddr keepalives keepalives_idle krbsrvname options passfile password pgbouncer \
    require_auth schema search_path service sslcrl sslnegotiation sslpassword target_session_attrs tcp_user_timeout user";

/// `postgres://user:password@host:port/database?sslmode=…`. What it does not say about TLS is as `tls` has it.
///
/// # Errors
/// What is wrong and what is allowed, to be put behind the name of the setting.
pub fn read(url: &str, tls: Tls) -> Result<Target, String> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or("begins with neither postgres:// nor postgresql://")?;
    if rest.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err("has white space or a control character; a space is written %20".to_owned());
    }
    if rest.contains('#') {
        return Err("has a `#`; in a user, password or database it is written %23".to_owned());
    }
    let (login, server) = rest.split_once('@').ok_or("has no user; needed is user@ or user:password@")?;
    if login.contains(['/', '?']) {
        return Err(
            "has a `/` or `?` before the `@`; in a user or password they are written %2F and %3F".to_owned()
        );
    }
    if server.contains('@') {
        return Err("has more than one `@`; in a user, password or parameter it is written %40".to_owned());
    }
    let (user, password) = match login.split_once(':') {
        Some((_, password)) if password.contains(':') => {
            return Err(
                "has more than one `:` before the `@`; in a user or password it is written %3A".to_owned()
            );
        }
        Some((user, password)) => (user, Some(decoded(password, "password")?)),
        None => (login, None),
    };
    let (place, query) = server.split_once('?').map_or((server, None), |(place, query)| (place, Some(query)));
    let (address, database) =
        place.split_once('/').ok_or("has no database; needed is /database at its end")?;
    if database.contains('/') {
        return Err("has a second `/` after the host; in a database it is written %2F".to_owned());
    }
    let (host, port) = address_of(address)?;
    let mut target = Target {
        user: decoded(user, "user")?,
        password,
        database: decoded(database, "database")?,
        host: host.unwrap_or_default(),
        port: port.unwrap_or(5432),
        statement_cache: 100,
        tls,
    };
    parameters(query, &mut target, port.is_some())?;
    if target.host.is_empty() {
        return Err("has no host; needed is a name, an address or ?host=/folder".to_owned());
    }
    Ok(target)
}

/// `host:port` or `[::1]:port`; either may be missing.
fn address_of(address: &str) -> Result<(Option<String>, Option<u16>), String> {
    let end = if address.starts_with('[') { address.find(']').map(|end| end + 1) } else { address.find(':') };
    let (name, port) = address.split_at(end.unwrap_or(address.len()));
    let port = match port {
        "" => None,
        _ if port.matches(':').count() > 1 => {
            return Err(
                "has several `:` in its host; an IPv6 address stands in brackets, as [::1]".to_owned()
            );
        }
        _ => Some(port_of(port.strip_prefix(':').unwrap_or_default())?),
    };
    if name.is_empty() {
        return Ok((None, port));
    }
    let decoded = decoded(name, "host")?;
    Ok((Some(host(&decoded).map_err(|wrong| format!("has a host that {wrong}"))?), port))
}

fn port_of(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| "has a port that is not 1 to 65535".to_owned())
}

/// A host's name, an address (IPv6 with or without brackets), or a folder.
///
/// # Errors
/// What is wrong, to be put behind "a host that".
pub fn host(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') {
        return if text.contains('\0') { Err("has a NUL") } else { Ok(text.to_owned()) };
    }
    let bare = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'));
    let address = bare.map(|bare| bare.split_once('%').map_or(bare, |(address, _zone)| address));
    if let (Some(bare), Some(address)) = (bare, address)
        && address.parse::<Ipv6Addr>().is_ok()
    {
        return Ok(bare.to_owned());
    }
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    match text {
        "" => Err("is empty"),
        _ if text.contains("://") || text.contains('@') => {
            Err("is a URL; allowed is a host alone, a URL is ANALYTICS_DATABASE_URL")
        }
        _ if text.contains(',') => Err("is a list; allowed is one host"),
        _ if text.contains(['[', ']', ':']) => {
            Err("is no IPv6 address, or has a port, which is a setting of its own")
        }
        _ if text.len() > 253 || !text.chars().all(allowed) => {
            Err("has a character other than letters, digits, `-`, `_` and `.`, or more than 253")
        }
        _ => Ok(text.to_owned()),
    }
}

/// A login's or a database's name.
///
/// # Errors
/// What is wrong, without the text: a URL may hold a password.
pub fn name(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("is empty"),
        _ if text.contains("://") => {
            Err("is a URL; allowed is a name alone, a URL is ANALYTICS_DATABASE_URL")
        }
        _ if text.contains(char::is_control) => Err("has control characters"),
        _ => Ok(text.to_owned()),
    }
}

fn parameters(query: Option<&str>, target: &mut Target, mut has_port: bool) -> Result<(), String> {
    let mut seen = Vec::new();
    let (mut certificate, mut key) = (None, None);
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = PARAMETERS.iter().copied().find(|known| *known == name) else {
            return Err(unknown(index + 1, name));
        };
        if seen.contains(&name) || (name == "port" && std::mem::replace(&mut has_port, true)) {
            return Err(format!("says {name} twice"));
        }
        seen.push(name);
        let value = decoded(value, name)?;
        match name {
            "sslmode" => {
                target.tls.mode =
                    mode(&value).ok_or_else(|| format!("has an sslmode that is not {SSL_MODES}"))?
            }
            "sslrootcert" => target.tls.root = Some(PathBuf::from(value)),
            "sslcert" => certificate = Some(PathBuf::from(value)),
            "sslkey" => key = Some(PathBuf::from(value)),
            "port" => target.port = port_of(&value)?,
            "host" if !target.host.is_empty() => return Err("says host twice".to_owned()),
            "host" if value.starts_with('/') => target.host = value,
            "host" => {
                return Err(
                    "has a parameter host that is no folder; a name stands before the database".to_owned()
                );
            }
            _ => {
                let size = value.parse().ok().filter(|size| *size <= 10_000);
                target.statement_cache =
                    size.ok_or("has a statement-cache-capacity that is not 0 to 10000")?;
            }
        }
    }
    target.tls.identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("has one of sslcert and sslkey; allowed are both or none".to_owned()),
    };
    Ok(())
}

/// A mode by its name.
#[must_use]
pub fn mode(text: &str) -> Option<PgSslMode> {
    text.parse().ok()
}

fn unknown(index: usize, name: &str) -> String {
    let allowed = PARAMETERS.join(", ");
    if let Some(name) = UNSUPPORTED.split(' ').find(|unsupported| *unsupported == name) {
        return format!("has the parameter {name}, which is not supported; allowed are {allowed}");
    }
    let near = |known: &&&str| strsim::damerau_levenshtein(known, &name.to_lowercase()) <= 2;
    let near =
        PARAMETERS.iter().find(near).map_or(String::new(), |known| format!(", perhaps {known} is meant"));
    format!("has an unknown parameter, number {index}{near}; allowed are {allowed}")
}

/// Each `%` with two hexadecimal digits; neither empty nor more than PostgreSQL can take.
fn decoded(text: &str, part: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit =
                || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let pair = digit().zip(digit());
            let (high, low) =
                pair.ok_or_else(|| format!("has a `%` in its {part} without two digits; it is written %25"))?;
            bytes.push(high * 16 + low);
        } else {
            bytes.push(byte);
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Err(format!("has an empty {part}")),
        Ok(text) if text.contains('\0') => Err(format!("has a NUL in its {part}")),
        Ok(text) => Ok(text),
        Err(_) => Err(format!("has a {part} that is not UTF-8 once its percent-encoding is taken off")),
    }
}
