mod order;
mod storable;

use std::fmt;

use super::InvalidEvent;
use crate::json::{Members, kind};
use order::sorted;
pub use storable::Storable;

/// What the producer said: the text of a JSON object that `jsonb` accepts, every digit of every number kept, its members
/// nearly always in the order in which `jsonb` keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(String);

impl Payload {
    /// Of a text that is known to be one JSON value.
    ///
    /// # Errors
    /// It is no object, or as [`Storable::new`] says.
    pub fn new(json: &str, max_depth: u16) -> Result<Self, InvalidEvent> {
        let not_object = |_| InvalidEvent::PayloadNotObject { found: kind(json) };
        let members = Members::of(json).map_err(not_object)?;
        Ok(Self(sorted(Storable::new(members, max_depth)?.members(), None)))
    }

    /// Of an object and one more member. Should the name be there already, this one wins, as the last always does in
    /// `jsonb`.
    #[must_use]
    pub fn with_member(object: &Storable<'_>, name: &str, value: &str) -> Self {
        Self(sorted(object.members(), Some((name, &quoted(name, value)))))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
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
        Payload::new(text, 128)
    }

    fn with_member(text: &str, name: &str, value: &str) -> String {
        let object = Storable::new(Members::of(text).unwrap(), 128).unwrap();
        Payload::with_member(&object, name, value).to_string()
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
