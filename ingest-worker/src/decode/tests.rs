use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use shared::json::text;

use super::*;

fn a_record(value: Option<Bytes>) -> KafkaRecord {
    let (key, headers) = (None, Vec::new());
    KafkaRecord { topic: "t".into(), partition: 0, offset: 0, timestamp: None, key, value, headers, epoch: 1 }
}

fn class_of(value: &[u8], limits: &Limits) -> Option<RejectionClass> {
    match decode(&a_record(Some(Bytes::copy_from_slice(value))), limits) {
        Decoded::Refused(rejection) => Some(rejection.class()),
        _ => None,
    }
}

#[test]
fn only_a_null_value_is_a_tombstone() {
    assert!(matches!(decode(&a_record(None), &Limits::default()), Decoded::Tombstone));
    assert_eq!(class_of(b"", &Limits::default()), Some(RejectionClass::Empty));
    assert_eq!(class_of(b" \n", &Limits::default()), Some(RejectionClass::Empty));
    assert_eq!(class_of(b"null", &Limits::default()), Some(RejectionClass::NotAnObject));
}

#[test]
fn the_limits_are_exact() {
    let limits = Limits { max_bytes: 12, max_depth: 2, ..Limits::default() };
    assert_eq!(class_of(b"{\"a\":[1,23]}", &limits), None);
    assert_eq!(class_of(b"{\"a\":[1,23]} ", &limits), Some(RejectionClass::TooLarge));
    assert_eq!(class_of(b"{\"a\":[[]]}", &limits), Some(RejectionClass::TooDeep));
    let Decoded::Refused(rejection) =
        decode(&a_record(Some(vec![b' '; 1_048_577].into())), &Limits::default())
    else {
        panic!("not refused")
    };
    assert_eq!(rejection.sentence(), "value has 1048577 bytes, allowed are at most 1048576");
}

/// The table of what `jsonb` refuses, and what it does not.
#[test]
fn what_jsonb_refuses_is_refused_here() {
    use RejectionClass::*;
    for (value, class) in [
        (&b"{\"a\":\"\\u0000\"}"[..], Some(NulCharacter)),
        (b"{\"\\u0000\":1}", Some(NulCharacter)),
        (b"{\"a\":\"\0\"}", Some(NotJson)),
        (b"{\"a\":1}\0", Some(NotJson)),
        (b"{\"a\":\"\xff\"}", Some(NotUtf8)),
        (b"{\"a\":\"\xc0\x80\"}", Some(NotUtf8)),
        (b"{\"a\":\"\xed\xa0\x80\"}", Some(NotUtf8)),
        (b"{\"a\":\"\x1f\"}", Some(NotJson)),
        (b"{\"a\":\"\\ud800\"}", Some(LoneSurrogate)),
        (b"{\"a\":\"\\udc00\"}", Some(LoneSurrogate)),
        (b"{\"\\ud800\":1}", Some(LoneSurrogate)),
        (b"{\"a\":\"\\x\"}", Some(NotJson)),
        (b"{\"a\":\"\\u12g4\"}", Some(NotJson)),
        (b"{\"a\":NaN}", Some(NotJson)),
        (b"{\"a\":01}", Some(NotJson)),
        (b"{\"a\":1.}", Some(NotJson)),
        (b"{\"a\":+1}", Some(NotJson)),
        (b"{\"a\":1,}", Some(NotJson)),
        (b"{a:1}", Some(NotJson)),
        (b"{1:1}", Some(NotJson)),
        (b"\xef\xbb\xbf{}", Some(ByteOrderMark)),
        (b"{} x", Some(NotJson)),
        (b"{\"a\":1e200000}", Some(NumberOutOfRange)),
        (b"{\"a\":1e-20000}", Some(NumberOutOfRange)),
        (b"{\"a\":1e400,\"b\":-0,\"b\":2}", None),
        (b" {\"\\u00e9\\n\":\"\\ud83d\\ude00\x7f\"}\n", None),
    ] {
        assert_eq!(class_of(value, &Limits::default()), class, "{}", String::from_utf8_lossy(value));
    }
}

#[test]
fn the_last_member_of_a_name_wins_also_when_escaped() {
    let record = a_record(Some(Bytes::from_static(br#"{"a":1,"\u0061":2,"b":null}"#)));
    let Decoded::Envelope(envelope) = decode(&record, &Limits::default()) else { panic!("refused") };
    assert_eq!(envelope.members().get("a").unwrap().get(), "2");
    assert!(envelope.members().get("b").is_some() && envelope.members().get_some("b").is_none());
}

/// A mebibyte of brackets or of members must neither end the stack nor be quadratic.
#[test]
fn a_hostile_mebibyte_costs_no_more_than_its_length() {
    let start = Instant::now();
    let half = 1 << 19;
    let brackets =
        |open: &str, close: &str| format!("{{\"a\":{}1{}}}", open.repeat(half / 4), close.repeat(half / 4));
    assert_eq!(class_of("[".repeat(1 << 20).as_bytes(), &Limits::default()), Some(RejectionClass::NotJson));
    assert_eq!(class_of(brackets("[", "]").as_bytes(), &Limits::default()), Some(RejectionClass::TooDeep));
    assert_eq!(
        class_of("{\"a\":".repeat(200_000).as_bytes(), &Limits::default()),
        Some(RejectionClass::NotJson)
    );
    let members = format!("{{{}\"\":0}}", "\"\":0,".repeat(200_000));
    assert_eq!(class_of(members.as_bytes(), &Limits::default()), None);
    let escaped = format!("{{\"{}\":0}}", "\\u0061".repeat(170_000));
    assert_eq!(class_of(escaped.as_bytes(), &Limits::default()), None);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn every_class_has_a_name_of_its_own_and_says_what_to_do() {
    let names: HashSet<_> = RejectionClass::ALL.iter().map(|class| class.as_str()).collect();
    assert_eq!(names.len(), RejectionClass::ALL.len());
    for class in RejectionClass::ALL {
        assert!(
            class
                .as_str()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        );
        assert!(!class.meaning().ends_with('.') && !class.remedy().ends_with('.'), "{class:?}");
    }
}

#[test]
fn a_sentence_is_short_and_fit_for_a_text_column() {
    let rejection = Rejection::by_database(&format!("line\0one\n{}", "ñ".repeat(400)));
    assert_eq!(rejection.class(), RejectionClass::RefusedByDatabase);
    assert!(rejection.sentence().starts_with("PostgreSQL refused the row: line one ñ"));
    assert_eq!(rejection.sentence().chars().count(), 300);
    assert_eq!(Rejection::by_database(&"x".repeat(272)).sentence().len(), 300);
}

proptest! {
    #[test]
    fn no_bytes_bring_it_down_and_the_class_is_stable(value in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(class_of(&value, &Limits::default()), class_of(&value, &Limits::default()));
    }

    #[test]
    fn what_serde_takes_as_an_object_is_taken_here(names in prop::collection::vec("[^\u{0}]{0,8}", 0..6)) {
        let object: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), name.as_str().into())).collect();
        let json = serde_json::to_vec(&object).unwrap();
        let record = a_record(Some(json.into()));
        let Decoded::Envelope(envelope) = decode(&record, &Limits::default()) else {
            return Err(TestCaseError::fail("refused"));
        };
        for name in &names {
            prop_assert_eq!(text(envelope.members().get(name).unwrap()).unwrap(), name.as_str());
        }
    }
}

#[test]
fn the_readme_lists_every_class_with_its_meaning_and_remedy() {
    let readme = include_str!("../../../README.md");
    for class in RejectionClass::ALL {
        let row = format!("| `{}` | {} | {} |", class.as_str(), class.meaning(), class.remedy());
        assert!(readme.contains(&row), "missing in README.md:\n{row}");
    }
}

#[test]
fn the_bytes_of_a_schema_registry_are_named() {
    let sentence = "value is not JSON: it begins with the five bytes of a schema registry, 0 and the schema's id 7, expected `{`";
    for value in [&b"\0\0\0\0\x07{}"[..], b"\0\0\0\0\x07\x00\xff\xfe", b"\0\0\0\0\x07\n\x03abc"] {
        let record = a_record(Some(Bytes::copy_from_slice(value)));
        let Decoded::Refused(rejection) = decode(&record, &Limits::default()) else { panic!("taken") };
        assert_eq!((rejection.class(), rejection.sentence()), (RejectionClass::NotJson, sentence));
    }
    assert_eq!(class_of(b"\0\0\0\0\xff", &Limits::default()), Some(RejectionClass::NotUtf8));
}
