mod order;
mod storable;

use std::fmt;

use bytes::Bytes;

use super::InvalidEvent;
use crate::json::{Members, kind};
use order::{Place, sorted};
pub use storable::Storable;

/// What the producer said: the text of a JSON object that `jsonb` accepts, every digit of every number kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// From brace to brace.
    object: Bytes,
    /// A member that was added, if any.
    added: Box<[u8]>,
    /// The members in the order in which they go to PostgreSQL; empty: as they are written, the added one last.
    order: Box<[Place]>,
}

impl Payload {
    /// Of a text that is known to be one JSON value. Where it is a part of `whole` it is shared and not copied, and all of
    /// `whole` lives on with it.
    ///
    /// # Errors
    /// It is no object, or as [`Storable::new`] says.
    pub fn new(json: &str, whole: &Bytes, max_depth: u16) -> Result<Self, InvalidEvent> {
        let not_object = |_| InvalidEvent::PayloadNotObject { found: kind(json) };
        let members = Members::of(json).map_err(not_object)?;
        Ok(Self::with(&Storable::new(members, max_depth)?, whole, None))
    }

    /// Of an object and one more member. Should the name be there already, this one wins, as the last always does in
    /// `jsonb`. The object is shared as in [`Payload::new`].
    #[must_use]
    pub fn with_member(object: &Storable<'_>, whole: &Bytes, name: &str, value: &str) -> Self {
        Self::with(object, whole, Some((name, value)))
    }

    fn with(object: &Storable<'_>, whole: &Bytes, member: Option<(&str, &str)>) -> Self {
        let members = object.members();
        let text = members.text();
        let added = member.map_or_else(Vec::new, |(name, value)| quoted(name, value));
        let behind = text.len()..text.len() + added.len();
        let order = sorted(members, member.map(|(name, _)| (name, behind)));
        let is_part = whole.as_ptr_range().contains(&text.as_ptr());
        let object =
            if is_part { whole.slice_ref(text.as_bytes()) } else { Bytes::copy_from_slice(text.as_bytes()) };
        Self { object, added: added.into(), order }
    }

    /// Appends the JSON text, as `jsonb` will take it.
    pub fn append_to(&self, text: &mut Vec<u8>) {
        if self.order.is_empty() {
            let (_, open) = self.object.split_last().unwrap_or((&b'}', b"{"));
            text.extend_from_slice(open);
            if !self.added.is_empty() && open.trim_ascii_end() != b"{" {
                text.push(b',');
            }
            text.extend_from_slice(&self.added);
        }
        for (index, place) in self.order.iter().enumerate() {
            text.push(if index == 0 { b'{' } else { b',' });
            text.extend_from_slice(place.of(&self.object, &self.added));
        }
        text.push(b'}');
    }

    /// Bytes that the text takes in memory, to within a few.
    #[must_use]
    pub fn size(&self) -> usize {
        self.object.len() + self.added.len()
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(self.size() + 1);
        self.append_to(&mut text);
        formatter.write_str(&String::from_utf8_lossy(&text))
    }
}

/// `"name":"value"`
fn quoted(name: &str, value: &str) -> Vec<u8> {
    let mut member = Vec::with_capacity(name.len() + value.len() + 5);
    for (text, behind) in [(name, &b":"[..]), (value, b"")] {
        // Only a value's own `Serialize` and the writer can fail, and these do not.
        serde_json::to_writer(&mut member, text).unwrap_or_default();
        member.extend_from_slice(behind);
    }
    member
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn payload(text: &str) -> Result<Payload, InvalidEvent> {
        Payload::new(text, &Bytes::new(), 128)
    }

    fn with_member(text: &str, name: &str, value: &str) -> String {
        let object = Storable::new(Members::of(text).unwrap(), 128).unwrap();
        Payload::with_member(&object, &Bytes::new(), name, value).to_string()
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
    fn a_part_is_shared_and_anything_else_is_copied() {
        let whole = Bytes::from_static(br#"{"payload":{"b":1,"a":2}}"#);
        let part = std::str::from_utf8(&whole[11..24]).unwrap();
        let shared = Payload::new(part, &whole, 128).unwrap();
        assert_eq!(shared.object.as_ptr(), part.as_ptr());
        assert_eq!(shared, payload(part).unwrap());
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
