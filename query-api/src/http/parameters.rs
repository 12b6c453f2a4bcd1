//! One vocabulary of query parameters. Each is taken leniently and all are checked together, so that an answer names
//! every refused value and not only the first.

use std::borrow::Cow;
use std::collections::BTreeSet;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, Utc};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
// `Type` itself is not imported: its `is_empty`, which is always false, would stand before that of a `&str`.
use poem_openapi::types::{self, ParseFromParameter, ParseResult};
use serde_json::Value;

use super::error::ApiError;
use crate::problem::FieldError;
use crate::projections::events;

/// A parameter as it came, for a value of type `T`.
pub struct Lenient<T> {
    text: String,
    kind: std::marker::PhantomData<fn() -> T>,
}

/// What a parameter's text must be.
pub trait Parameter: Sized {
    /// The sentence in `allowed`.
    const ALLOWED: &'static str;

    /// Its schema in the OpenAPI document.
    fn schema() -> MetaSchema;

    /// `Err` says what the text is instead.
    ///
    /// # Errors
    /// The text is refused.
    fn parse(text: &str) -> Result<Self, String>;
}

/// Gathers what is refused.
#[derive(Default)]
pub struct Refusals(Vec<FieldError>);

impl Refusals {
    /// The value of a parameter, or `None` if it is missing or refused.
    pub fn take<T: Parameter>(&mut self, name: &str, parameter: Option<Lenient<T>>) -> Option<T> {
        let text = parameter?.text;
        let value = T::parse(&text);
        value.map_err(|detail| self.add(name, detail, T::ALLOWED)).ok()
    }

    /// One more.
    pub fn add(&mut self, parameter: &str, detail: String, allowed: &str) {
        let allowed = allowed.to_owned();
        self.0.push(FieldError { parameter: parameter.to_owned(), detail, allowed });
    }

    /// # Errors
    /// 422 with everything that was refused.
    pub fn check(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::RefusedValue(self.0)) }
    }
}

/// `windowMinutes=5` misspelt must not silently mean the default.
///
/// # Errors
/// 400 with every parameter that the route does not have, and every one that comes twice.
pub fn only(query: Option<&str>, known: &[&str]) -> Result<(), ApiError> {
    let allowed = if known.is_empty() { "no parameters".to_owned() } else { known.join(", ") };
    let mut seen = BTreeSet::new();
    let mut refused = Vec::new();
    for name in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let name = decode(name.split('=').next().unwrap_or("")).unwrap_or_default();
        let detail = if !known.contains(&name.as_str()) {
            "is not a parameter of this address"
        } else if seen.contains(&name) {
            "is given more than once"
        } else {
            seen.insert(name);
            continue;
        };
        let allowed = if known.contains(&name.as_str()) { "one value".to_owned() } else { allowed.clone() };
        refused.push(FieldError { parameter: shortened(&name), detail: detail.to_owned(), allowed });
    }
    refused.dedup();
    if refused.is_empty() { Ok(()) } else { Err(ApiError::UnknownParameter(refused)) }
}

/// Percent-decoding that refuses what is no encoding of UTF-8. `+` is a space.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(rest.next())? * 16 + digit(rest.next())?;
                u8::try_from(value).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What a client sent, in an answer of bounded length.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 64 { text.to_owned() } else { text.chars().take(63).chain(['…']).collect() }
}

fn integer<T: TryFrom<i64>>(text: &str, min: i64, max: i64) -> Result<T, String> {
    let number: i64 = text.parse().map_err(|_| match text {
        "" => "is empty".to_owned(),
        text => format!("is `{}`, not a whole number in range", shortened(text)),
    })?;
    let value = T::try_from(number).ok().filter(|_| (min..=max).contains(&number));
    value.ok_or_else(|| {
        format!("is {number}, {} {}", if number < min { "below" } else { "above" }, number.clamp(min, max))
    })
}

fn integer_schema(min: f64, max: f64) -> MetaSchema {
    MetaSchema { minimum: Some(min), maximum: Some(max), ..MetaSchema::new_with_format("integer", "int32") }
}

/// `windowMinutes`
pub struct WindowMinutes(pub u32);

impl WindowMinutes {
    /// Fewest minutes of a window.
    pub const MIN: u32 = 5;
    /// Most: a week.
    pub const MAX: u32 = 10_080;
}

impl Parameter for WindowMinutes {
    const ALLOWED: &'static str = "a whole number from 5 to 10080";

    fn schema() -> MetaSchema {
        integer_schema(Self::MIN.into(), Self::MAX.into())
    }

    fn parse(text: &str) -> Result<Self, String> {
        integer(text, Self::MIN.into(), Self::MAX.into()).map(Self)
    }
}

/// `limit`
pub struct Limit(pub u16);

impl Limit {
    /// Without the parameter.
    pub const DEFAULT: u16 = events::USUAL;
}

impl Parameter for Limit {
    const ALLOWED: &'static str = "a whole number from 1 to 500";

    fn schema() -> MetaSchema {
        MetaSchema { default: Some(Value::from(Self::DEFAULT)), ..integer_schema(1.0, 500.0) }
    }

    fn parse(text: &str) -> Result<Self, String> {
        integer(text, 1, 500).map(Self)
    }
}

/// `reference`
pub struct Reference(pub DateTime<Utc>);

impl Parameter for Reference {
    const ALLOWED: &'static str = "an instant of the years 1 to 9999: 2025-11-16T18:14:00Z, with an offset, with a fraction, \
                                   without either (UTC), or a date";

    fn schema() -> MetaSchema {
        let example = Some(Value::from("2025-11-16T18:14:00Z"));
        MetaSchema { example, ..MetaSchema::new_with_format("string", "date-time") }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let refusal = || match text {
            "" => "is empty".to_owned(),
            text => format!("is `{}`, not an instant", shortened(text)),
        };
        // A second 60 has no place on a time line without leap seconds.
        let known = |at: &DateTime<Utc>| {
            (1..=9999).contains(&at.year()) && at.timestamp_subsec_nanos() < 1_000_000_000
        };
        instant(text).filter(known).map(Self).ok_or_else(refusal)
    }
}

/// RFC 3339; the same without its offset, seconds or time, which is UTC. A `+` in a URL means a space, so a space
/// where an offset's sign would stand is one.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let signed = match text.rsplit_once(' ') {
        Some((time, offset)) if time.contains(':') && offset.len() == 5 => {
            Cow::Owned(format!("{time}+{offset}"))
        }
        _ => Cow::Borrowed(text),
    };
    if let Ok(at) = DateTime::parse_from_rfc3339(&signed) {
        return Some(at.to_utc());
    }
    if let Ok(at) = DateTime::parse_from_str(&signed, "%Y-%m-%dT%H:%M%:z") {
        return Some(at.to_utc());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let naive = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let naive = naive.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0));
    naive.map(|at| at.and_utc())
}

impl<T: Parameter> types::Type for Lenient<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "parameter".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(T::schema()))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::empty())
    }
}

impl<T: Parameter> ParseFromParameter for Lenient<T> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        Ok(Self { text: text.to_owned(), kind: std::marker::PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_many_forms_and_is_utc_without_an_offset() {
        let expected: DateTime<Utc> = "2025-11-16T18:14:00Z".parse().unwrap();
        for text in [
            "2025-11-16T18:14:00Z",
            "2025-11-16t18:14:00z",
            "2025-11-16T13:14:00-05:00",
            "2025-11-16T20:14:00+02:00",
            "2025-11-16T20:14:00 02:00",
            "2025-11-16T20:14:00.000000 02:00",
            "2025-11-16 18:14:00Z",
            "2025-11-16T20:14+02:00",
            "2025-11-16T18:14:00.000000",
            "2025-11-16T18:14:00",
            "2025-11-16 18:14:00",
            "2025-11-16T18:14",
            "2025-11-16 18:14",
        ] {
            assert_eq!(instant(text), Some(expected), "{text}");
        }
        assert_eq!(instant("2025-11-16"), Some("2025-11-16T00:00:00Z".parse().unwrap()));
        for text in [
            "",
            "yesterday",
            "2025-11-16T24:00:00Z",
            "2025-13-01",
            "2025-11-16T18:14:00 ",
            "1763316840",
            "16.11.2025",
        ] {
            assert_eq!(instant(text), None, "{text}");
        }
        assert!(Reference::parse("0000-12-31T00:00:00Z").is_err());
        assert!(Reference::parse("+10000-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn numbers_are_refused_with_what_they_are() {
        assert_eq!(integer::<u16>("500", 1, 500), Ok(500));
        assert_eq!(integer::<u16>("501", 1, 500), Err("is 501, above 500".to_owned()));
        assert_eq!(integer::<u16>("-1", 1, 500), Err("is -1, below 1".to_owned()));
        for text in ["", "five", "5.0", "1e2", " 5", "99999999999999999999"] {
            assert!(integer::<u16>(text, 1, 500).is_err(), "{text}");
        }
    }

    #[test]
    fn percent_encoding_is_strict() {
        assert_eq!(decode("a%20b+c%C3%A9").as_deref(), Some("a b cé"));
        for text in ["%", "%4", "%zz", "%+1", "%ff", "%c3"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_all_named() {
        assert!(only(Some("limit=5"), &["limit"]).is_ok());
        assert!(only(None, &[]).is_ok());
        let Err(ApiError::UnknownParameter(refused)) = only(Some("lim%69t=1&limit=2&a=3&b"), &["limit"])
        else {
            panic!("accepted");
        };
        let names: Vec<_> = refused.iter().map(|refused| refused.parameter.as_str()).collect();
        assert_eq!(names, ["limit", "a", "b"]);
    }
}
