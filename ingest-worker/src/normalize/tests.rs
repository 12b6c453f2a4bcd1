use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::json;

use super::{CommandRefusal, EventTimeLimits, InvalidField, Normalizer, Rules};
use crate::consume::{KafkaRecord, RecordTimestamp, TimestampKind};
use crate::decode::{Decoded, Limits, Rejection, RejectionClass, decode};
use shared::analytics::AnalyticsEvent;

mod record_times;

const RECORD_TIME: &str = "2025-11-16T18:14:00.060Z";

/// Built-in rules and the default limits.
pub fn normalizer() -> Normalizer {
    prefixed("")
}

fn prefixed(prefix: &str) -> Normalizer {
    let limits = EventTimeLimits { min: at("2000-01-01T00:00:00Z"), max_ahead: TimeDelta::days(366) };
    Normalizer::new(Rules::built_in().unwrap(), limits, prefix.to_owned())
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn a_record(topic: &str, value: &str) -> KafkaRecord {
    KafkaRecord {
        topic: topic.into(),
        partition: 0,
        offset: 7,
        timestamp: Some(RecordTimestamp { at: at(RECORD_TIME), kind: TimestampKind::CreateTime }),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
        epoch: 1,
    }
}

fn become_of(normalizer: &Normalizer, record: &KafkaRecord) -> Result<AnalyticsEvent, Rejection> {
    match decode(record, &Limits::default()) {
        Decoded::Envelope(envelope) => normalizer.normalize(&envelope, at("2025-12-01T00:00:00Z")),
        Decoded::Refused(rejection) => Err(rejection),
        Decoded::Tombstone => panic!("a tombstone"),
    }
}

fn post(body: &str) -> Result<AnalyticsEvent, CommandRefusal> {
    normalizer().command(body.as_bytes(), &Limits::default(), at("2025-12-01T00:00:00Z"), [0xab; 16])
}

const REGISTRATION: &str = r#"{"userId":"u-1","registeredAt":[2025,11,16,18,13,45,123456789]}"#;
const CANONICAL: &str = r#"{"eventType":"a","source":"b","payload":{}}"#;

#[test]
fn a_prefix_is_taken_off_before_rules_are_looked_up() {
    let with_prefix =
        become_of(&prefixed("prod."), &a_record("prod.iam.user.registered", REGISTRATION)).unwrap();
    let without = become_of(&normalizer(), &a_record("iam.user.registered", REGISTRATION)).unwrap();
    assert_eq!(with_prefix, without);
    let foreign = become_of(&normalizer(), &a_record("prod.iam.user.registered", REGISTRATION)).unwrap_err();
    assert_eq!(foreign.class(), RejectionClass::UnrecognizedShape);
}

#[test]
fn an_upstream_id_does_not_depend_on_the_position() {
    let record = a_record("iam.user.registered", REGISTRATION);
    let mut elsewhere = record.clone();
    (elsewhere.offset, elsewhere.partition, elsewhere.key) = (900, 3, Some(Bytes::from_static(b"k")));
    elsewhere.value = Some(format!("  {REGISTRATION}\n").into());
    let (here, there) =
        (become_of(&normalizer(), &record).unwrap(), become_of(&normalizer(), &elsewhere).unwrap());
    assert_eq!(here, there);
    assert!(!here.id().is_external());
}

#[test]
fn an_id_made_of_the_position_depends_on_all_of_it() {
    let record = a_record(
        "analytics.events",
        r#"{"eventType":"a","source":"b","occurredAt":1763316840,"payload":{}}"#,
    );
    let mut variants = vec![record.clone(); 7];
    variants[1].topic = "other".into();
    variants[2].partition = 1;
    variants[3].offset = 8;
    variants[4].key = Some(Bytes::new());
    variants[5].timestamp = None;
    variants[6].value = record.value.as_ref().map(|value| [value, &b" "[..]].concat().into());
    let id = |record: &KafkaRecord| become_of(&normalizer(), record).unwrap().id().to_string();
    let ids: std::collections::HashSet<_> = variants.iter().map(id).collect();
    assert_eq!(ids.len(), variants.len());
    assert_eq!(id(&record), id(&record.clone()));
}

#[test]
fn without_any_time_there_is_no_event() {
    let mut record = a_record("analytics.events", CANONICAL);
    assert_eq!(become_of(&normalizer(), &record).unwrap().occurred_at(), at(RECORD_TIME));
    record.timestamp = None;
    let rejection = become_of(&normalizer(), &record).unwrap_err();
    let sentence = "occurredAt is missing or null, and the record has no timestamp to take its place";
    assert_eq!((rejection.class(), rejection.sentence()), (RejectionClass::MissingField, sentence));
}

#[test]
fn the_clock_is_asked_only_where_the_record_has_no_timestamp() {
    let year_ahead =
        |date: &str| a_record("iam.user.registered", &format!(r#"{{"userId":"u","registeredAt":{date}}}"#));
    let judged =
        |record: &KafkaRecord| become_of(&normalizer(), record).map_err(|rejection| rejection.class());
    let mut late = year_ahead("\"2026-11-20T00:00:00Z\"");
    assert_eq!(judged(&late), Err(RejectionClass::TimeOutOfRange));
    late.timestamp = None; // The clock says 1 December 2025.
    assert!(judged(&late).is_ok());
    assert!(judged(&year_ahead("\"2026-11-17T18:14:00.060Z\"")).is_ok());
    assert_eq!(
        judged(&year_ahead("\"2026-11-17T18:14:00.060000001Z\"")),
        Err(RejectionClass::TimeOutOfRange)
    );
    assert!(judged(&year_ahead("946684800")).is_ok());
    assert_eq!(judged(&year_ahead("946684799.999999999")), Err(RejectionClass::TimeOutOfRange));
}

#[test]
fn the_last_header_of_a_name_counts_and_null_is_none() {
    let tenant = |headers: &[(&str, Option<&[u8]>)]| {
        let mut record = a_record("iam.user.registered", REGISTRATION);
        record.headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.map(<[u8]>::to_vec)))
            .collect();
        let event = become_of(&normalizer(), &record).map_err(|rejection| rejection.class())?;
        Ok(event.tenant().map(|tenant| tenant.as_str().to_owned()))
    };
    assert_eq!(tenant(&[("tenant-id", Some(b"a")), ("tenant-id", Some(b"b"))]), Ok(Some("b".to_owned())));
    assert_eq!(tenant(&[("tenant-id", None)]), Ok(None));
    assert_eq!(tenant(&[("tenant-id", Some(b""))]), Ok(Some(String::new())));
    assert_eq!(tenant(&[("tenant-id", Some(b"\xff"))]), Err(RejectionClass::InvalidField));
    assert_eq!(tenant(&[("tenant-id", Some(b"a\0"))]), Err(RejectionClass::InvalidField));
}

#[test]
fn a_command_is_a_canonical_event_with_all_that_it_leaves_out() {
    let event =
        post(r#"{"event_type":"a","source":"b","payload":{"userId":"u-1"},"extra":"\u0000"}"#).unwrap();
    assert_eq!(event.occurred_at(), at("2025-12-01T00:00:00Z"));
    assert_eq!(event.id().to_string(), "019ad735-8400-8bab-abab-abababababab");
    assert_eq!(event.actor().unwrap().as_str(), "u-1");
    assert_eq!(event.tenant(), None);
    let own =
        post(r#"{"id":"5f2c3f5e-6e2b-4a2d-8f5e-9b1a2c3d4e5f","eventType":"a","source":"b","payload":{}}"#)
            .unwrap();
    assert!(own.id().is_external());
}

/// In every form that a UUID may have.
fn forms(digit: char) -> [String; 6] {
    let run = |length: usize| digit.to_string().repeat(length);
    let plain = format!("{}-{}-{}-{}-{}", run(8), run(4), run(4), run(4), run(12));
    let upper = plain.to_uppercase();
    let escaped = plain.replacen(digit, &format!("\\u{:04x}", u32::from(digit)), 1);
    [run(32), format!("{{{plain}}}"), format!("urn:uuid:{plain}"), upper, escaped, plain]
}

#[test]
fn an_id_that_nobody_set_is_refused_by_both_doors() {
    for (digit, found) in [('0', "is the nil UUID"), ('f', "is the max UUID")] {
        for (form, name) in
            forms(digit).iter().flat_map(|form| ["id", "eventId", "event_id"].map(|name| (form, name)))
        {
            let body = format!(r#"{{"{name}":"{form}","eventType":"a","source":"b","payload":{{}}}}"#);
            let rejection = become_of(&normalizer(), &a_record("analytics.events", &body)).unwrap_err();
            let sentence =
                format!("id {found}, which identifies nothing, expected an event's own UUID, or none");
            assert_eq!(
                (rejection.class(), rejection.sentence()),
                (RejectionClass::InvalidField, &*sentence),
                "{body}"
            );
            let Err(CommandRefusal::Invalid(fields)) = post(&body) else { panic!("taken: {body}") };
            assert_eq!(fields.iter().map(|field| field.field).collect::<Vec<_>>(), ["id"]);
        }
    }
    for id in ["\"\"", "\"null\"", "\"0\"", "0", "false"] {
        let body = format!(r#"{{"id":{id},"eventType":"a","source":"b","payload":{{}}}}"#);
        assert!(matches!(post(&body), Err(CommandRefusal::Invalid(_))), "{id}");
    }
    // An id beside one that is null is the event's; so is one that is nearly nothing.
    for ids in [
        r#""id":null,"eventId":"5f2c3f5e-6e2b-4a2d-8f5e-9b1a2c3d4e5f""#,
        r#""id":"00000000-0000-0000-0000-000000000001""#,
    ] {
        assert!(
            post(&format!(r#"{{{ids},"eventType":"a","source":"b","payload":{{}}}}"#))
                .unwrap()
                .id()
                .is_external()
        );
    }
}

#[test]
fn a_key_that_nobody_set_makes_no_event() {
    for form in ['0', 'f'].into_iter().flat_map(forms) {
        let registration = REGISTRATION.replace("u-1", &form);
        let rejection =
            become_of(&normalizer(), &a_record("iam.user.registered", &registration)).unwrap_err();
        assert_eq!(rejection.class(), RejectionClass::InvalidField, "{registration}");
    }
}

#[test]
fn a_command_that_cannot_be_read_says_where() {
    for (body, sentence) in [
        ("", "body is empty, expected a JSON object"),
        ("{", "body is not JSON: EOF while parsing an object at line 1 column 1"),
        ("[]", "body is an array, not a JSON object"),
    ] {
        assert_eq!(post(body), Err(CommandRefusal::Unreadable(sentence.to_owned())));
    }
    let not_utf8 = normalizer().command(b"\xff", &Limits::default(), at(RECORD_TIME), [0; 16]);
    assert!(matches!(not_utf8, Err(CommandRefusal::Unreadable(_))));
}

#[test]
fn a_command_hears_of_every_refused_field_at_once() {
    let body = json!({"id": 7, "eventType": "", "source": "s".repeat(121), "occurredAt": "yesterday",
        "tenantId": "t".repeat(65), "actorId": [], "payload": "p"});
    let Err(CommandRefusal::Invalid(fields)) = post(&body.to_string()) else { panic!("not refused") };
    let listed: Vec<_> =
        fields.iter().map(|InvalidField { field, detail, .. }| (*field, detail.as_str())).collect();
    let expected = [
        ("id", "is a number"),
        ("eventType", "has 0 characters"),
        ("source", "has 121 characters"),
        ("occurredAt", "is not a date"),
        ("tenantId", "has 65 characters"),
        ("actorId", "is an array"),
        ("payload", "is a string"),
    ];
    assert_eq!(listed, expected);
    let Err(CommandRefusal::Invalid(missing)) = post("{}") else { panic!("not refused") };
    assert_eq!(
        missing.iter().map(|field| field.field).collect::<Vec<_>>(),
        ["eventType", "source", "payload"]
    );
}

#[test]
fn a_command_is_held_to_the_limits() {
    let refused = |body: &str, limits: Limits| match normalizer().command(
        body.as_bytes(),
        &limits,
        at(RECORD_TIME),
        [0; 16],
    ) {
        Err(CommandRefusal::Invalid(fields)) => {
            fields.into_iter().map(|field| (field.field, field.detail)).collect()
        }
        other => panic!("{other:?}"),
    };
    let size: Vec<_> = refused(CANONICAL, Limits { max_bytes: 10, ..Limits::default() });
    assert_eq!(size, [("body", "has 43 bytes".to_owned())]);
    let deep = r#"{"eventType":"a","source":"b","payload":{"a":[[]]}}"#;
    let depth: Vec<_> = refused(deep, Limits { max_bytes: 1000, max_depth: 2, ..Limits::default() });
    assert_eq!(depth, [("payload", "is nested more than 2 levels deep".to_owned())]);
    let nul: Vec<_> =
        refused(r#"{"eventType":"\u0000","source":"b","payload":{"a":"\u0000"}}"#, Limits::default());
    assert_eq!(nul.iter().map(|(field, _)| *field).collect::<Vec<_>>(), ["eventType", "payload"]);
}

#[test]
fn a_payload_that_grows_is_refused_by_every_door_and_only_where_it_is_stored() {
    let numbers = vec!["1e131071"; 1_000].join(",");
    let class = |topic: &str, value: String| {
        let refused = become_of(&normalizer(), &a_record(topic, &value)).unwrap_err();
        assert!(refused.sentence().contains("bytes when PostgreSQL writes"), "{refused}");
        refused.class()
    };
    let body = format!(r#"{{"eventType":"a","source":"b","payload":{{"x":[{numbers}]}}}}"#);
    assert_eq!(class("analytics.events", body.clone()), RejectionClass::PayloadTooLarge);
    // Unknown members are not stored.
    let more = CANONICAL.replace("{}}", &format!(r#"{{}},"more":[{numbers}]}}"#));
    assert!(become_of(&normalizer(), &a_record("analytics.events", &more)).is_ok());
    // All of an upstream's message is the payload.
    let upstream = REGISTRATION.replace("}", &format!(r#","more":{{"deep":[{numbers}]}}}}"#));
    assert_eq!(class("iam.user.registered", upstream), RejectionClass::PayloadTooLarge);
    let Err(CommandRefusal::Invalid(fields)) = post(&body) else { panic!("accepted") };
    let expected = InvalidField {
        field: "payload",
        detail: "takes 131074007 bytes when PostgreSQL writes its numbers out in full".to_owned(),
        allowed: "at most 8388608 bytes".to_owned(),
    };
    assert_eq!(fields, [expected]);
}

fn json_text() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "userId",
        "registeredAt",
        "guideId",
        "challengeId",
        "occurredAt",
        "execution_id",
        "timestamp",
        "profileId",
        "occurredOn",
        "solutionId",
        "eventType",
        "source",
        "payload",
        "id",
        "tenantId",
        "actorId",
        "profileUrl",
    ]);
    let values = prop_oneof![
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        any::<f64>().prop_map(|number| json!(number).to_string()),
        any::<String>().prop_map(|text| json!(text).to_string()),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(|numbers| json!(numbers).to_string()),
        (0_i64..4_000_000_000, 0_u32..1_000_000_000).prop_map(|(second, nano)| format!("{second}.{nano:09}")),
    ];
    prop::collection::vec((names, values), 0..8).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #[test]
    fn whatever_comes_becomes_the_same_thing_each_time(topic in 0_usize..7, text in json_text()) {
        let rules = Rules::built_in().unwrap();
        let topic = rules.topics().nth(topic).unwrap_or("analytics.events");
        let record = a_record(topic, &text);
        let outcome = become_of(&normalizer(), &record);
        prop_assert_eq!(&outcome, &become_of(&normalizer(), &record));
        if let Err(rejection) = outcome {
            prop_assert!(rejection.sentence().chars().count() <= 300);
            prop_assert!(!rejection.sentence().contains(char::is_control));
        }
    }

    #[test]
    fn no_bytes_bring_a_command_down(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = normalizer().command(&body, &Limits::default(), at(RECORD_TIME), [0; 16]);
    }

    #[test]
    fn different_keys_have_different_ids(one in "[a-z0-9]{1,6}", two in "[a-z0-9]{1,6}", other in "[a-z0-9]{1,6}") {
        let id = |guide: &str, challenge: &str| {
            let value = json!({"guideId": guide, "challengeId": challenge, "occurredAt": 1_763_316_840});
            become_of(&normalizer(), &a_record("guides.challenge.added.v1", &value.to_string())).unwrap().id()
        };
        prop_assert_eq!(id(&one, &two) == id(&other, &two), one == other);
        // "ab" and "c" are not "a" and "bc".
        let joined = format!("{one}{two}");
        let (head, tail) = joined.split_at(1);
        prop_assert_eq!(id(&one, &two) == id(head, tail), one.len() == 1);
    }
}
