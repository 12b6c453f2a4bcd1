mod number;
mod order;
mod storable;
mod written;

use std::fmt;

use super::InvalidEvent;
use crate::json::{Members, kind};
use order::sorted;
pub use storable::Storable;

/// What the producer said: the text of a JSON object that `jsonb` accepts, every digit of every number kept, its members
/// nearly always in the order in which `jsonb` keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    text: String,
    written_bytes: Option<u32>,
}

/// How deep a payload may be, and how long PostgreSQL's text of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLimits {
    /// Objects and arrays within each other, the outermost counted.
    pub max_depth: u16,
    /// Bytes of `payload::text`, in which each number is written out in full.
    pub max_bytes: u32,
}

impl PayloadLimits {
    /// As deep and as long as there is.
    pub const NONE: Self = Self { max_depth: u16::MAX, max_bytes: u32::MAX };
}

impl Payload {
    /// Shorter texts are not worth a note.
    pub const NOTED_FROM: u32 = 16 << 10;

    /// Of a text that is known to be one JSON value.
    ///
    /// # Errors
    /// It is no object, too long when written out, or as [`Storable::new`] says.
    pub fn new(json: &str, limits: PayloadLimits) -> Result<Self, InvalidEvent> {
        let not_object = |_| InvalidEvent::PayloadNotObject { found: kind(json) };
        let members = Members::of(json).map_err(not_object)?;
        Self::of(&Storable::new(members, limits.max_depth)?, None, limits.max_bytes)
    }

    /// Of an object and one more member. Should the name be there already, this one wins, as the last always does in
    /// `jsonb`.
    ///
    /// # Errors
    /// It takes more than `max_bytes` when written out.
    pub fn with_member(
        object: &Storable<'_>,
        name: &str,
        value: &str,
        max_bytes: u32,
    ) -> Result<Self, InvalidEvent> {
        Self::of(object, Some((name, &quoted(name, value))), max_bytes)
    }

    fn of(object: &Storable<'_>, added: Option<(&str, &str)>, max_bytes: u32) -> Result<Self, InvalidEvent> {
        let text = sorted(object.members(), added);
        // Nothing but numbers grows, by a space behind each comma and colon at most: the usual payload needs no second look.
        let bound = (text.len() as u64).saturating_mul(2).saturating_add(object.expansion());
        let bytes =
            if bound > Self::NOTED_FROM.min(max_bytes).into() { written::written_bytes(&text) } else { 0 };
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= max_bytes => {
                Ok(Self { text, written_bytes: (bytes > Self::NOTED_FROM).then_some(bytes) })
            }
            _ => Err(InvalidEvent::PayloadBytes { bytes, max: max_bytes }),
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many bytes it takes when PostgreSQL writes it out, if more than [`Self::NOTED_FROM`].
    #[must_use]
    pub fn written_bytes(&self) -> Option<u32> {
        self.written_bytes
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// `"name":"value"`
fn quoted(name: &str, value: &str) -> String {
    let mut member = Vec::with_capacity(name.len() + value.len() + 5);
    for (text, behind) in [(name, &b":"[..]), (value, b"")] {
        // Only a value's own `Serialize` and the writer can fail, and these do not.
        serde_json::to_writer(&mut member, text).unwrap_or_default();
        member.extend_from_slice(behind);
    }
    String::from_utf8(member).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn payload(text: &str) -> Result<Payload, InvalidEvent> {
        Payload::new(text, PayloadLimits { max_depth: 128, ..PayloadLimits::NONE })
    }

    fn with_member(text: &str, name: &str, value: &str) -> String {
        let object = Storable::new(Members::of(text).unwrap(), 128).unwrap();
        Payload::with_member(&object, name, value, u32::MAX).unwrap().to_string()
    }

    #[test]
    fn what_jsonb_accepts_is_kept_to_the_letter() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127));
        let texts = [
            "{}",
            "{ }",
            r#"{"n":1e400,"x":1.10,"z":-0}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"s":"\ud83d\ude00 \\u0000"}"#,
            &deep,
        ];
        for text in texts {
            assert_eq!(payload(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn members_come_in_the_order_in_which_jsonb_keeps_them() {
        for (text, expected) in [
            (r#"{"bb":1,"b":2,"a":3}"#, r#"{"a":3,"b":2,"bb":1}"#),
            (r#"{ "bb" : [1, 2] , "a" :"x, }" }"#, r#"{"a" :"x, }","bb" : [1, 2]}"#),
            // The last of a name stays the last, also where only one of them is written with an escape.
            (r#"{"b":1,"a":2,"b":3}"#, r#"{"a":2,"b":1,"b":3}"#),
            (r#"{"b":0,"\u0061":1,"a":2}"#, r#"{"\u0061":1,"a":2,"b":0}"#),
            (r#"{"b":0,"a":1,"\u0061":2}"#, r#"{"a":1,"\u0061":2,"b":0}"#),
            // By bytes of UTF-8.
            (r#"{"éé":1,"zzz":2}"#, r#"{"zzz":2,"éé":1}"#),
        ] {
            assert_eq!(payload(text).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn large_objects_stay_as_they_are() {
        let many: Vec<_> = (0..65).rev().map(|number| format!("\"{number:02}\":0")).collect();
        let text = format!("{{{}}}", many.join(","));
        assert_eq!(payload(&text).unwrap().to_string(), text);
        assert_eq!(with_member(&text, "k", "v"), format!("{{{},\"k\":\"v\"}}", many.join(",")));
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
    fn a_member_is_added_to_any_object_and_wins() {
        for (text, expected) in [
            ("{}", r#"{"k":"v"}"#),
            ("{ }", r#"{ "k":"v"}"#),
            (r#"{"a":{}}"#, r#"{"a":{},"k":"v"}"#),
            (r#"{"a":"}"}"#, r#"{"a":"}","k":"v"}"#),
            (r#"{"name":1}"#, r#"{"k":"v","name":1}"#),
            (r#"{"k":1,"a":2}"#, r#"{"a":2,"k":1,"k":"v"}"#),
        ] {
            assert_eq!(with_member(text, "k", "v"), expected);
        }
        assert_eq!(with_member("{}", "\"", "\n"), r#"{"\"":"\n"}"#);
    }

    #[test]
    fn a_payload_is_bounded_by_what_postgresql_would_write() {
        let limits = |max_bytes| PayloadLimits { max_depth: 128, max_bytes };
        let tiny = r#"{"n":1e3}"#; // {"n": 1000}
        assert_eq!(Payload::new(tiny, limits(11)).unwrap().written_bytes(), None);
        assert_eq!(
            Payload::new(tiny, limits(10)).unwrap_err().to_string(),
            "payload takes 11 bytes when PostgreSQL writes it out, allowed are 10"
        );
        let poison = format!(r#"{{"x":[{}]}}"#, vec!["1e131071"; 9_000].join(","));
        let refused = Payload::new(&poison, limits(8 << 20)).unwrap_err();
        assert_eq!(refused, InvalidEvent::PayloadBytes { bytes: 1_179_666_007, max: 8 << 20 });
        // The largest record of the shortest numbers and of usual ones with exponents stays far below eight times itself.
        for number in ["1", "1e20", "1e-7", "0.5", "-1"] {
            let numbers = vec![number; ((1 << 20) - 20) / (number.len() + 1)].join(",");
            let payload = Payload::new(&format!(r#"{{"x":[{numbers}]}}"#), limits(8 << 20)).unwrap();
            assert!(payload.written_bytes().unwrap() > 1 << 20, "{number}");
        }
        let object = || Storable::new(Members::of(tiny).unwrap(), 128).unwrap();
        let added = Payload::with_member(&object(), "k", "\n\u{1}é", 30); // {"k": "\n\u0001é", "n": 1000}
        assert!(added.is_ok());
        assert!(Payload::with_member(&object(), "k", "\n\u{1}é", 29).is_err());
    }

    /// A JSON object with few names, so that some come twice.
    fn an_object() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            "[a-z\"\\\\{}\\[\\],:é ]{0,12}".prop_map(|text| Value::from(text).to_string()),
            Just(r#"{"z":[1,{"b":"]"}],"a":null}"#.to_owned()),
            Just(" true ".to_owned()),
        ];
        let name = "[abé\"\\\\]{0,3}|occurred_?[OoA][nt]".prop_map(|name| Value::from(name).to_string());
        proptest::collection::vec((name, value), 0..20).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{name} :{value}")).collect();
            format!("{{{}}}", members.join(", "))
        })
    }

    proptest! {
        #[test]
        fn sorting_changes_no_meaning(text in an_object(), added in any::<bool>()) {
            let mut meant: Value = serde_json::from_str(&text).unwrap();
            let sent = if added {
                meant["b"] = "v".into();
                with_member(&text, "b", "v")
            } else {
                payload(&text).unwrap().to_string()
            };
            prop_assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), meant, "{}", sent);
            let lengths: Vec<_> = Members::of(&sent).unwrap().names().map(|name| name.len()).collect();
            prop_assert!(lengths.is_sorted(), "{}", sent);
        }
    }
}
