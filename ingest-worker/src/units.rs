//! Twin: how the value of a setting is written. A reading that fails says what is allowed.

use std::{fmt::Display, net::IpAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use bytesize::ByteSize;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// How long a stop may take.
pub const DRAIN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

/// One of these words in any case; returned as written here.
pub fn word(text: &str, words: &[&'static str]) -> Result<&'static str, String> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text.trim()));
    found.copied().ok_or_else(|| words.join(" | "))
}

/// A whole number.
pub fn number<T: Display + FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Result<T, String> {
    let number = text.trim().parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// `500ms`, `5s`, `2m`, `1h`, `30d`, also `1h 30m`.
pub fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).ok().filter(|length| range.contains(length));
    length.filter(|_| is_unambiguous(text)).ok_or_else(|| {
        let (min, max) = (duration_text(*range.start()), duration_text(*range.end()));
        format!("a duration such as 500ms, 5s, 2m, 1h or 30d, from {min} to {max}")
    })
}

/// The library takes more: `M` for months, easily meant as minutes; years; `1 5s` for 15 s.
fn is_unambiguous(text: &str) -> bool {
    let mut units = text.split(|character: char| !character.is_alphabetic());
    let is_digit = |character: char| character.is_ascii_digit();
    let parts: Vec<&str> = text.split_whitespace().collect();
    let cut =
        |pair: &[&str]| matches!(pair, [one, two] if one.ends_with(is_digit) && two.starts_with(is_digit));
    !parts.windows(2).any(cut) && !units.any(|unit| unit.starts_with(['M', 'y']) || unit.starts_with("mon"))
}

fn duration_text(length: Duration) -> String {
    match length.as_millis() {
        days if days > 0 && days.is_multiple_of(86_400_000) => format!("{}d", days / 86_400_000),
        seconds if seconds.is_multiple_of(1_000) => format!("{}s", seconds / 1_000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

/// Bytes: `512KiB`, `16MiB`; without a unit they are meant. The library also takes `16MB`: a million each for some, 2^20
/// for PostgreSQL.
pub fn size(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let text = text.trim();
    let unit = text.trim_start_matches(|character: char| !character.is_alphabetic());
    let binary = unit.is_empty() || unit.eq_ignore_ascii_case("b") || unit.contains(['i', 'I']);
    let read = Some(text).filter(|_| binary).and_then(|text| text.parse().ok());
    let bytes = read.and_then(|ByteSize(bytes)| usize::try_from(bytes).ok());
    bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
        let (min, max) = (size_text(*range.start()), size_text(*range.end()));
        format!("a size such as 512KiB or 16MiB, from {min} to {max}")
    })
}

fn size_text(bytes: usize) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = units.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    fitting.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Of the service, or of where it runs: short enough for the name of a session, which has the process's behind it and which
/// PostgreSQL cuts at 63 bytes.
pub fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let name = Some(text).filter(|text| (1..=48).contains(&text.len()) && printable);
    name.map(str::to_owned).ok_or_else(|| "1 to 48 letters, digits, spaces and signs of ASCII".to_owned())
}

/// What to listen on; brackets around an IPv6 address are taken off.
pub fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    let host = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // `10.1` is an address to some resolvers, `1.2.3.999` to none.
    let is_word = |host: &str| host.rsplit('.').next().is_some_and(|last| last.parse::<u64>().is_err());
    let is_name = host == text && host.len() <= 253 && is_word(host) && host.split('.').all(is_label);
    let found = Some(host).filter(|host| is_name || host.parse::<IpAddr>().is_ok());
    found
        .map(str::to_owned)
        .ok_or_else(|| "an address or a name without a port; 0.0.0.0 is everywhere".to_owned())
}

/// What is logged. To the library a word that is no level is a module's name: `warning` would silence everything.
pub fn log_filter(text: &str) -> Result<String, String> {
    let is_word = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
    let strange = |part: &&str| is_word(part) && LevelFilter::from_str(part).is_err();
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let filter = Some(parts.join(",")).filter(|filter| EnvFilter::builder().parse(filter).is_ok());
    filter.filter(|_| !parts.iter().any(strange)).ok_or_else(|| {
        "error, warn, info, debug, trace or off, also by module, such as info,sqlx=debug".to_owned()
    })
}
