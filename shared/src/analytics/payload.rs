use std::fmt;

use bytes::Bytes;
use memchr::memchr2;

use super::InvalidEvent;

/// Digits that PostgreSQL's `numeric`, and so `jsonb`, keeps before and after the decimal point.
const NUMERIC_MAX_INTEGER_DIGITS: i64 = 131_072;
const NUMERIC_MAX_FRACTION_DIGITS: i64 = 16_383;

/// What the producer said: the text of a JSON object that `jsonb` accepts, every digit of every number kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// From brace to brace.
    object: Bytes,
    /// Members that were added, each after its comma where it needs one.
    added: String,
}

impl Payload {
    /// `json` is the text of one value without space around it. Where it is a part of `whole` it is shared and not copied,
    /// and all of `whole` lives on with it. That it is JSON is known already; what `jsonb` refuses beyond is refused here.
    ///
    /// # Errors
    /// Not an object, nested deeper than `max_depth` (the object itself is level 1), U+0000 in a string or a key, half
    /// of a surrogate pair, or a number outside `numeric`.
    pub fn new(json: &str, whole: &Bytes, max_depth: u16) -> Result<Self, InvalidEvent> {
        Self::check(json, max_depth)?;
        let object = if whole.as_ptr_range().contains(&json.as_ptr()) {
            whole.slice_ref(json.as_bytes())
        } else {
            Bytes::copy_from_slice(json.as_bytes())
        };
        Ok(Self { object, added: String::new() })
    }

    fn check(json: &str, max_depth: u16) -> Result<(), InvalidEvent> {
        match json.as_bytes().first() {
            Some(b'{') => {}
            Some(b'[') => return Err(InvalidEvent::PayloadNotObject { found: "an array" }),
            Some(b'"') => return Err(InvalidEvent::PayloadNotObject { found: "a string" }),
            Some(b't' | b'f') => return Err(InvalidEvent::PayloadNotObject { found: "a boolean" }),
            Some(b'n') => return Err(InvalidEvent::PayloadNotObject { found: "null" }),
            _ => return Err(InvalidEvent::PayloadNotObject { found: "a number" }),
        }
        Scan { bytes: json.as_bytes(), at: 0 }.run(max_depth)
    }

    /// Adds a member at the end. Should the name be there already, this one wins, as the last always does in `jsonb`.
    #[must_use]
    pub fn with_member(mut self, name: &str, value: &str) -> Self {
        let is_empty = self.added.is_empty() && self.open().trim_ascii_end().len() == 1;
        let separator = if is_empty { "" } else { "," };
        self.added += &[separator, &quoted(name), ":", &quoted(value)].concat();
        self
    }

    /// The JSON text, as `jsonb` will take it, in pieces.
    #[must_use]
    pub fn pieces(&self) -> [&[u8]; 3] {
        [self.open(), self.added.as_bytes(), b"}"]
    }

    /// Bytes of the text.
    #[must_use]
    pub fn size(&self) -> usize {
        self.object.len() + self.added.len()
    }

    /// The object but for its closing brace.
    fn open(&self) -> &[u8] {
        self.object.split_last().map_or(&[], |(_, open)| open)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.pieces().concat()))
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default() // Only a value's own `Serialize` can fail, and this one does not.
}

/// One walk over text that is known to be JSON.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn run(mut self, max_depth: u16) -> Result<(), InvalidEvent> {
        let mut depth = 0_u16;
        while let Some(byte) = self.peek() {
            match byte {
                b'{' | b'[' => {
                    depth = depth.saturating_add(1);
                    if depth > max_depth {
                        return Err(InvalidEvent::PayloadDepth { max: max_depth });
                    }
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn string(&mut self) -> Result<(), InvalidEvent> {
        self.at += 1;
        while let Some(plain) = memchr2(b'"', b'\\', self.bytes.get(self.at..).unwrap_or_default()) {
            self.at += plain;
            match (self.peek(), self.bytes.get(self.at + 1)) {
                (Some(b'"'), _) => {
                    self.at += 1;
                    return Ok(());
                }
                (_, Some(b'u')) => self.unicode_escape()?,
                _ => self.at += 2,
            }
        }
        Ok(())
    }

    /// Stands on the backslash of `\uXXXX`.
    fn unicode_escape(&mut self) -> Result<(), InvalidEvent> {
        let unit = self.code_unit(self.at);
        match unit {
            Some(0) => Err(InvalidEvent::NulCharacter { field: "payload" }),
            Some(0xd800..=0xdbff) if matches!(self.code_unit(self.at + 6), Some(0xdc00..=0xdfff)) => {
                self.at += 12;
                Ok(())
            }
            Some(0xd800..=0xdfff) => Err(InvalidEvent::LoneSurrogate { escape: self.text(self.at, 6) }),
            _ => {
                self.at += 6;
                Ok(())
            }
        }
    }

    fn code_unit(&self, at: usize) -> Option<u16> {
        let escape = self.bytes.get(at..at + 6)?;
        let digits = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Result<(), InvalidEvent> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let number = self.bytes.get(start..self.at).unwrap_or_default();
        // Few digits and no exponent: by far most numbers.
        let plain = number.len() <= 100 && !number.iter().any(|byte| matches!(byte, b'e' | b'E'));
        if plain || fits_numeric(number) {
            Ok(())
        } else {
            Err(InvalidEvent::NumberRange { number: self.text(start, number.len().min(40)) })
        }
    }

    fn text(&self, at: usize, length: usize) -> String {
        String::from_utf8_lossy(self.bytes.get(at..at + length).unwrap_or_default()).into_owned()
    }
}

/// PostgreSQL's own limits, by the rules of `numeric_in`: digits before the point after shifting by the exponent, and
/// the scale, which counts written zeros too.
fn fits_numeric(number: &[u8]) -> bool {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let split = number.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(number.len());
    let (mantissa, exponent) = number.split_at(split);
    let exponent = match exponent.get(1..).map(|digits| String::from_utf8_lossy(digits).parse::<i64>()) {
        None => 0,
        Some(Ok(exponent)) if exponent.abs() < i64::from(i32::MAX) / 2 => exponent,
        Some(_) => return false,
    };
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let (integer, fraction) = mantissa.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    let length = |digits: &[u8]| i64::try_from(digits.len()).unwrap_or(i64::MAX);
    if length(fraction) - exponent > NUMERIC_MAX_FRACTION_DIGITS {
        return false;
    }
    let first_digit = integer.iter().chain(fraction).position(|byte| *byte != b'0');
    first_digit.is_none_or(|zeros| {
        let leading = length(integer) - i64::try_from(zeros).unwrap_or(i64::MAX);
        leading + exponent <= NUMERIC_MAX_INTEGER_DIGITS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(text: &str) -> Result<Payload, InvalidEvent> {
        Payload::new(text, &Bytes::new(), 128)
    }

    #[test]
    fn what_jsonb_accepts_is_kept_to_the_letter() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127));
        let texts = [
            "{}",
            r#"{"n":1e400,"z":-0,"x":1.10}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"s":"\ud83d\ude00 \\u0000"}"#,
            &deep,
        ];
        for text in texts {
            assert_eq!(payload(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_jsonb_refuses_is_refused_with_its_reason() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(128), "]".repeat(128));
        for (text, sentence) in [
            (r#"{"a":"\u0000"}"#, "payload contains the character U+0000, which PostgreSQL cannot store"),
            (r#"{"\u0000":1}"#, "payload contains the character U+0000, which PostgreSQL cannot store"),
            (r#"{"a":"\ud800"}"#, r"payload contains half of a UTF-16 surrogate pair (\ud800)"),
            (r#"{"a":"\udc00\ud800"}"#, r"payload contains half of a UTF-16 surrogate pair (\udc00)"),
            (r#"{"a":1e200000}"#, "payload contains a number beyond PostgreSQL's numeric range (1e200000)"),
            (r#"{"a":1e-20000}"#, "payload contains a number beyond PostgreSQL's numeric range (1e-20000)"),
            ("[1]", "payload is an array, not a JSON object"),
            ("null", "payload is null, not a JSON object"),
            (&deep, "payload is nested more than 128 levels deep"),
        ] {
            assert_eq!(payload(text).unwrap_err().to_string(), sentence, "{text}");
        }
    }

    #[test]
    fn the_borders_of_numeric_are_exact() {
        for (number, fits) in [
            ("1e131071", true),
            ("1e131072", false),
            ("0.001e131074", true),
            ("0.001e131075", false),
            ("1e-16383", true),
            ("1e-16384", false),
            ("1.5e-16382", true),
            ("1.5e-16383", false),
            ("0e131072", true),
            ("1e99999999999999999999", false),
        ] {
            assert_eq!(fits_numeric(number.as_bytes()), fits, "{number}");
        }
    }

    #[test]
    fn a_member_is_added_at_the_end_of_any_object() {
        for (text, expected) in [
            ("{}", r#"{"k":"v"}"#),
            ("{ }", r#"{ "k":"v"}"#),
            (r#"{"a":{}}"#, r#"{"a":{},"k":"v"}"#),
            (r#"{"a":"}"}"#, r#"{"a":"}","k":"v"}"#),
        ] {
            assert_eq!(payload(text).unwrap().with_member("k", "v").to_string(), expected);
        }
    }
}
