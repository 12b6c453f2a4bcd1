use memchr::{memchr, memchr2};

use super::number;
use crate::analytics::InvalidEvent;
use crate::json::{Member, Members};

/// A number of so many bytes is in range, if it has no exponent.
const MAX_SHORT: usize = 100;

/// A JSON object that `jsonb` accepts.
#[derive(Debug)]
pub struct Storable<'t> {
    members: Members<'t>,
    expansion: u64,
}

impl<'t> Storable<'t> {
    /// That it is JSON is known already; what `jsonb` refuses beyond is refused here.
    ///
    /// # Errors
    /// Nested deeper than `max_depth` (the object itself is level 1), U+0000 in a string or a key, half of a surrogate
    /// pair, or a number outside `numeric`.
    pub fn new(object: Members<'t>, max_depth: u16) -> Result<Self, InvalidEvent> {
        if max_depth == 0 {
            return Err(InvalidEvent::PayloadDepth { max: max_depth });
        }
        // Nearly every member is: a string can only be refused for what is escaped in it, and a short value without an
        // exponent is neither deep nor large.
        let is_harmless = |member: &Member<'t>| {
            let escapes = object.has_escapes() && memchr(b'\\', object.text_of(member).as_bytes()).is_some();
            !escapes
                && match member.value().get().as_bytes() {
                    [b'"' | b't' | b'f' | b'n', ..] => true,
                    value => {
                        value.len() <= MAX_SHORT.min(max_depth.into()) && memchr2(b'e', b'E', value).is_none()
                    }
                }
        };
        let mut expansion = 0_u64;
        for member in object.iter().filter(|member| !is_harmless(member)) {
            let scan = Scan { bytes: object.text_of(member).as_bytes(), at: 0, expansion: 0 };
            expansion = expansion.saturating_add(scan.run(max_depth)?);
        }
        Ok(Self { members: object, expansion })
    }

    /// The members of the object.
    #[must_use]
    pub fn members(&self) -> &Members<'t> {
        &self.members
    }

    /// By how many bytes its numbers together grow when PostgreSQL writes them out; only those with an exponent do.
    pub(super) fn expansion(&self) -> u64 {
        self.expansion
    }
}

/// One walk over a member's text, which is known to be JSON.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    expansion: u64,
}

impl Scan<'_> {
    /// By how much its numbers grow.
    fn run(mut self, max_depth: u16) -> Result<u64, InvalidEvent> {
        let mut depth = 1_u16; // The object's own level.
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
        Ok(self.expansion)
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
        if number.len() <= MAX_SHORT && !number.iter().any(|byte| matches!(byte, b'e' | b'E')) {
            return Ok(());
        }
        let Some(written) = number::written_bytes(number) else {
            return Err(InvalidEvent::NumberRange { number: self.text(start, number.len().min(40)) });
        };
        self.expansion = self.expansion.saturating_add(written.saturating_sub(number.len() as u64));
        Ok(())
    }

    fn text(&self, at: usize, length: usize) -> String {
        String::from_utf8_lossy(self.bytes.get(at..at + length).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A JSON value, as deep and as odd as there may be.
    fn a_value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "-?[1-9][0-9]{0,3}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,6})?",
            "[1-9][0-9]{95,110}",
            Just("true".to_owned()),
            Just("null".to_owned()),
            r#""([a-e ]|\\\\|\\u0000|\\u0065|\\ud83d|\\ude00){0,4}""#,
        ];
        leaf.prop_recursive(4, 16, 3, |inner| {
            let items = proptest::collection::vec(inner, 0..3).prop_map(|items| items.join(","));
            (items, any::<bool>()).prop_map(|(items, array)| match (array, items.is_empty()) {
                (true, _) => format!("[{items}]"),
                (false, true) => "{}".to_owned(),
                (false, false) => format!("{{\"k\":[{items}]}}"),
            })
        })
    }

    proptest! {
        #[test]
        fn no_shortcut_lets_through_what_a_look_at_everything_refuses(
            values in proptest::collection::vec(("[a-c]{0,2}", a_value()), 0..5),
            max_depth in 1..6_u16,
        ) {
            let members: Vec<_> = values.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let object = Members::of(&text).unwrap();
            let looks = object.iter().map(|member| {
                Scan { bytes: object.text_of(member).as_bytes(), at: 0, expansion: 0 }.run(max_depth)
            });
            let looked: Result<u64, _> = looks.sum();
            let storable = Storable::new(object, max_depth);
            prop_assert_eq!(storable.as_ref().map(Storable::expansion), looked.as_ref().copied(), "{}", text);
            if storable.is_ok() {
                // Each comma and colon gains a space at most; nothing else grows.
                let bound = 2 * text.len() as u64 + looked.unwrap();
                prop_assert!(super::super::written::written_bytes(&text) <= bound, "{}", text);
            }
        }
    }
}
