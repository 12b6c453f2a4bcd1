//! Every encoding of an instant that travels on the wire, read to the nanosecond and without `f64`.
//!
//! Jackson writes a `LocalDateTime` as an array of 5 to 7 integers and an `Instant` as decimal epoch seconds; Go and
//! people write RFC 3339, Java's `ZonedDateTime` with its zone behind (RFC 9557). An instant without an offset is UTC.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use shared::json::{kind, text};

/// Integers above are milliseconds, the others seconds: as seconds this is the year 5138, as milliseconds 1973.
const LARGEST_EPOCH_SECOND: i64 = 100_000_000_000;

/// Longest piece of the text that a sentence repeats.
const MAX_QUOTED: usize = 40;

/// Reads the instant; the error ends a sentence that begins with the field's name.
///
/// # Errors
/// Another encoding, or no instant of the calendar in the years 1 to 9999.
pub fn parse(value: &RawValue) -> Result<DateTime<Utc>, String> {
    let raw = value.get();
    let instant = match raw.as_bytes().first() {
        Some(b'[') => array(raw),
        Some(b'"') => text(value).as_deref().and_then(date_time),
        Some(b'-' | b'0'..=b'9') => epoch(raw),
        _ => return Err(format!("is {}", kind(value.get()))),
    };
    let written_with_four_digits = instant.filter(|at| (1..=9999).contains(&at.year()));
    written_with_four_digits.ok_or_else(|| format!("is {}", quoted(raw)))
}

/// What is allowed.
pub const EXPECTED: &str =
    "a real date and time as RFC 3339, epoch seconds or milliseconds, or an array of 3 to 7 integers";

/// A date is no secret, but the field may hold anything: only what looks like part of a date is repeated.
fn quoted(raw: &str) -> String {
    let harmless = |character: char| {
        matches!(
            character,
            '0'..='9'
                | ':'
                | '.'
                | ','
                | '+'
                | '-'
                | '['
                | ']'
                | '"'
                | ' '
                | 'T'
                | 'Z'
                | 't'
                | 'z'
                | 'e'
                | 'E'
        )
    };
    if !raw.chars().all(harmless) {
        "not a date".to_owned()
    } else if raw.len() <= MAX_QUOTED {
        raw.to_owned()
    } else {
        format!("{}...", raw.get(..MAX_QUOTED).unwrap_or_default())
    }
}

/// `[year, month, day, hour, minute, second, nanosecond]`; what is left out at the end is 0.
fn array(raw: &str) -> Option<DateTime<Utc>> {
    let inner = raw.strip_prefix('[')?.strip_suffix(']')?;
    let mut parts = [0_u32; 7];
    let mut slots = parts.iter_mut();
    let mut count = 0_usize;
    for part in inner.split(',') {
        *slots.next()? = part.trim_ascii().parse().ok()?; // An eighth part finds no slot.
        count += 1;
    }
    let [year, month, day, hour, minute, second, nano] = parts;
    if count < 3 {
        return None;
    }
    utc(year, month, day, [hour, minute, second], nano)
}

/// Second 60 is refused: chrono would take it as a nanosecond beyond the last.
fn utc(year: u32, month: u32, day: u32, time: [u32; 3], nano: u32) -> Option<DateTime<Utc>> {
    let [hour, minute, second] = time;
    if nano > 999_999_999 {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    Some(date.and_hms_nano_opt(hour, minute, second, nano)?.and_utc())
}

/// Epoch seconds with or without a fraction, or epoch milliseconds without one.
fn epoch(raw: &str) -> Option<DateTime<Utc>> {
    let (negative, digits) = raw.strip_prefix('-').map_or((false, raw), |digits| (true, digits));
    let (whole, fraction) =
        digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let whole: i64 = whole.parse().ok()?; // An exponent is no digit, so it ends here or in the fraction.
    if fraction.is_none() && !negative && whole > LARGEST_EPOCH_SECOND {
        return DateTime::from_timestamp_millis(whole);
    }
    let (whole, nano) = (whole, i64::from(nanoseconds(fraction.unwrap_or_default())?));
    let start = if negative { whole.checked_neg()? } else { whole };
    let fraction = TimeDelta::nanoseconds(if negative { -nano } else { nano });
    DateTime::from_timestamp(start, 0)?.checked_add_signed(fraction)
}

/// The digits after the point as nanoseconds; digits beyond the ninth are cut.
fn nanoseconds(digits: &str) -> Option<u32> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(nine.fold(0, |nano, digit| nano * 10 + u32::from(digit - b'0')))
}

/// RFC 3339 and its naive forms: `2025-11-16T18:14:00.048931-05:00`, with a space, a decimal comma, without seconds,
/// without an offset, or only the date.
fn date_time(text: &str) -> Option<DateTime<Utc>> {
    let mut rest = Rest(text);
    let year = rest.digits(4)?;
    let month = rest.after("-")?.digits(2)?;
    let day = rest.after("-")?.digits(2)?;
    if rest.0.is_empty() {
        return utc(year, month, day, [0; 3], 0);
    }
    let hour = rest.after("Tt ")?.digits(2)?;
    let minute = rest.after(":")?.digits(2)?;
    let second = if rest.after(":").is_some() { rest.digits(2)? } else { 0 };
    let nano = if rest.after(".,").is_some() { rest.fraction()? } else { 0 };
    let local = utc(year, month, day, [hour, minute, second], nano)?.naive_utc();
    at_offset(local, rest)
}

/// The first offset was -12:00 and the last +14:00; beyond ±14:00 it is a mistake.
fn at_offset(local: NaiveDateTime, mut rest: Rest<'_>) -> Option<DateTime<Utc>> {
    if rest.0.is_empty() || (rest.after("Zz").is_some() && rest.is_zone()) {
        return Some(local.and_utc());
    }
    let east = rest.0.starts_with('+');
    let hours = rest.after("+-")?.digits(2)?;
    let minutes = if rest.is_zone() {
        0
    } else {
        let _colon = rest.after(":"); // ISO 8601 may leave it out.
        rest.digits(2)?
    };
    if !rest.is_zone() || minutes > 59 || hours * 60 + minutes > 14 * 60 {
        return None;
    }
    let offset = TimeDelta::minutes(i64::from(hours * 60 + minutes));
    let instant = if east { local.checked_sub_signed(offset) } else { local.checked_add_signed(offset) };
    Some(instant?.and_utc())
}

/// What of a text has not been read yet.
struct Rest<'t>(&'t str);

impl Rest<'_> {
    /// Steps over one of these ASCII characters.
    fn after(&mut self, allowed: &str) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(|character| allowed.contains(character))?;
        Some(self)
    }

    /// Exactly so many ASCII digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }

    /// Whether nothing is left but the names of a zone or a calendar in brackets, as in `[Europe/Paris]`: behind an offset
    /// they change nothing.
    fn is_zone(&self) -> bool {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_/+-:=!".contains(&byte))
        };
        let mut names = self.0.split_inclusive(']');
        names.all(|name| name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).is_some_and(is_name))
    }

    /// At least one digit after the point or comma.
    fn fraction(&mut self) -> Option<u32> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        if digits.is_empty() { None } else { nanoseconds(digits) }
    }
}

#[cfg(test)]
mod tests;
