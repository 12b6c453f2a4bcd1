//! A digest of what an event says, the same for every way to write the same thing: another content under the same id is
//! seen by it.

use std::ops::Range;

use sha2::{Digest as _, Sha256};
use shared::analytics::{AnalyticsEvent, Tenant};

/// The first half of a SHA-256.
pub type ContentDigest = [u8; 16];

/// Of type, source, tenant, actor, the time if the event says it, and the payload as `jsonb` compares it: white space,
/// order of members and ways to write a string or a number make no difference.
#[must_use]
pub fn digest(event: &AnalyticsEvent) -> ContentDigest {
    let payload = event.payload().as_str();
    let mut text = Canonical { rest: payload.as_bytes(), out: Vec::with_capacity(payload.len() + 256) };
    text.part(event.event_type().as_str().as_bytes());
    text.part(event.source().as_str().as_bytes());
    text.optional(event.tenant().map(Tenant::as_str));
    text.optional(event.actor().map(|actor| actor.as_str()));
    let micros = event.says_when().then(|| event.occurred_at().timestamp_micros());
    text.part(&micros.map_or([0; 9], |micros| {
        let mut bytes = [1; 9];
        bytes.iter_mut().skip(1).zip(micros.to_be_bytes()).for_each(|(to, from)| *to = from);
        bytes
    }));
    text.value();
    let digest: [u8; 32] = Sha256::digest(&text.out).into();
    let mut half = ContentDigest::default();
    half.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    half
}

/// Takes a text that is known to be JSON apart, and writes what it means.
struct Canonical<'t> {
    rest: &'t [u8],
    out: Vec<u8>,
}

impl<'t> Canonical<'t> {
    fn value(&mut self) {
        match self.next() {
            Some(b'{') => self.object(),
            Some(b'[') => {
                self.step(b'[');
                while !matches!(self.next(), None | Some(b']')) {
                    self.value();
                }
                self.step(b']');
            }
            Some(b'"') => {
                self.out.push(b'"');
                self.string();
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let word = self.take(|byte| byte.is_ascii_alphabetic());
                self.out.extend(word);
            }
        }
    }

    /// Members by their names' lengths and bytes, as `jsonb` keeps them; of one name the last.
    fn object(&mut self) {
        self.step(b'{');
        let start = self.out.len();
        let mut members: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        while self.next() == Some(b'"') {
            let begin = self.out.len();
            self.string();
            let name = begin..self.out.len();
            self.value();
            members.push((name, begin..self.out.len()));
        }
        self.step(b'}');
        let name = |(name, _): &(Range<usize>, Range<usize>)| self.out.get(name.clone()).unwrap_or_default();
        if !members.is_sorted_by(|one, other| name(one) < name(other)) {
            // Stable, and from behind: of one name the last comes first, and stays.
            members.reverse();
            members.sort_by(|one, other| name(one).cmp(name(other)));
            members.dedup_by(|one, other| name(one) == name(other));
            let all = members.iter().filter_map(|(_, whole)| self.out.get(whole.clone()));
            let sorted = [all.collect::<Vec<_>>().concat().as_slice(), b"}"].concat();
            self.out.truncate(start);
            self.out.extend(sorted);
        }
    }

    fn string(&mut self) {
        let mut length = 1;
        loop {
            match self.rest.get(length) {
                Some(b'\\') => length += 2,
                Some(b'"') | None => break,
                Some(_) => length += 1,
            }
        }
        let (text, rest) = self.rest.split_at_checked(length + 1).unwrap_or((self.rest, &[]));
        self.rest = rest;
        let inner = text.get(1..length).unwrap_or_default();
        if inner.contains(&b'\\') {
            let meant: String = serde_json::from_slice(text).unwrap_or_default();
            self.part(meant.as_bytes());
        } else {
            self.part(inner);
        }
    }

    /// Sign, digits without zeros at either end, power of ten: `100`, `1e2` and `100.0` are one number.
    fn number(&mut self) {
        let raw = self.take(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        let raw = std::str::from_utf8(raw).unwrap_or_default();
        let (number, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
        let (sign, number) = number.strip_prefix('-').map_or((b'+', number), |number| (b'-', number));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return self.out.push(b'0');
        }
        let cut = i64::try_from(digits.len() - kept.len()).unwrap_or(i64::MAX);
        let behind = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        // One that does not fit is none that PostgreSQL can store.
        let power = exponent.parse::<i64>().unwrap_or(i64::MAX).saturating_sub(behind).saturating_add(cut);
        self.out.push(sign);
        self.part(kept.as_bytes());
        self.out.extend(power.to_be_bytes());
    }

    /// Bytes after their length, so that no two lists of parts are the same bytes.
    fn part(&mut self, bytes: &[u8]) {
        self.out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.out.extend(bytes);
    }

    /// None is not the same as empty.
    fn optional(&mut self, text: Option<&str>) {
        self.out.push(text.is_some().into());
        self.part(text.unwrap_or_default().as_bytes());
    }

    /// The first byte of what comes next, white space and separators passed over.
    fn next(&mut self) -> Option<u8> {
        self.take(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b':'));
        self.rest.first().copied()
    }

    fn step(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    fn take(&mut self, of_it: impl Fn(u8) -> bool) -> &'t [u8] {
        let length = self.rest.iter().position(|byte| !of_it(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or_default();
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use shared::analytics::{Actor, EventId, EventParts, EventType, Payload, PayloadLimits, Source};

    use super::*;

    fn parts(payload: &str) -> EventParts {
        EventParts {
            id: EventId::derived(chrono::DateTime::UNIX_EPOCH, [1; 16]),
            event_type: EventType::new("a".to_owned()).unwrap(),
            source: Source::new("b".to_owned()).unwrap(),
            occurred_at: chrono::DateTime::UNIX_EPOCH,
            says_when: true,
            tenant: None,
            actor: None,
            payload: Payload::new(payload, PayloadLimits::NONE).unwrap(),
        }
    }

    fn of(payload: &str) -> ContentDigest {
        digest(&AnalyticsEvent::new(parts(payload)))
    }

    #[test]
    fn the_same_payload_in_other_words_is_the_same() {
        for (one, other) in [
            (
                r#"{"a":1,"b":[1,2,{"c":null,"d":true}]}"#,
                " {\n\"b\" : [ 1, 2 ,{\"d\":true,\t\"c\": null} ] , \"a\":1 }",
            ),
            (r#"{"a":[100,0.5,-0,1e400]}"#, r#"{"a":[1e2,5e-1,0.00,10.0E399]}"#),
            (r#"{"é":"\u00e9\n/","":{}}"#, r#"{"\u00E9":"é\u000a\/","":{ }}"#),
            (r#"{"a":{"b":1,"c":2,"b":3}}"#, r#"{"a":{"c":2,"b":3}}"#),
            (r#"{"a":{"bb":1,"c":2}}"#, r#"{"a":{"c":2,"bb":1}}"#),
        ] {
            assert_eq!(of(one), of(other), "{one} {other}");
        }
    }

    #[test]
    fn another_payload_is_another() {
        let different = [
            "{}",
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            r#"{"a":""}"#,
            r#"{"a":null}"#,
            r#"{"a":true}"#,
            r#"{"a":false}"#,
            r#"{"a":0}"#,
            r#"{"a":"0"}"#,
            r#"{"a":1}"#,
            r#"{"a":-1}"#,
            r#"{"a":10}"#,
            r#"{"a":0.1}"#,
            r#"{"a":1.0000000000000000000000001}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":[12]}"#,
            r#"{"a":[[1],2]}"#,
            r#"{"a":[1,[2]]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{},"b":1}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":"null"}"#,
            r#"{"a":"\\n"}"#,
            r#"{"a":"\n"}"#,
        ];
        let digests: std::collections::HashSet<_> = different.iter().map(|text| of(text)).collect();
        assert_eq!(digests.len(), different.len());
    }

    #[test]
    fn every_part_counts_and_the_time_if_it_was_said() {
        let said = |change: fn(&mut EventParts)| {
            let mut parts = parts("{}");
            change(&mut parts);
            digest(&AnalyticsEvent::new(parts))
        };
        let later = |parts: &mut EventParts| parts.occurred_at += chrono::TimeDelta::seconds(1);
        let changes: [fn(&mut EventParts); 8] = [
            |_| (),
            later,
            |parts| parts.says_when = false,
            |parts| parts.event_type = EventType::new("b".to_owned()).unwrap(),
            |parts| parts.source = Source::new("a".to_owned()).unwrap(),
            |parts| parts.tenant = Some(Tenant::new(String::new()).unwrap()),
            |parts| parts.tenant = Some(Tenant::new("t".to_owned()).unwrap()),
            |parts| parts.actor = Some(Actor::new("t".to_owned()).unwrap()),
        ];
        let digests: std::collections::HashSet<_> = changes.into_iter().map(said).collect();
        assert_eq!(digests.len(), changes.len());
        let unsaid = |parts: &mut EventParts| {
            parts.says_when = false;
            parts.occurred_at += chrono::TimeDelta::seconds(1);
        };
        assert_eq!(said(unsaid), said(|parts| parts.says_when = false));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[^\u{0}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map("[^\u{0}]{0,3}", inner, 0..6).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        /// `Value` compares as `jsonb` does, as long as numbers are whole.
        #[test]
        fn digests_are_equal_as_values_are(one in json_value(), other in json_value()) {
            let (one, other) = (json!({ "v": one }), json!({ "v": other }));
            prop_assert_eq!(of(&one.to_string()) == of(&other.to_string()), one == other);
            let pretty = serde_json::to_string_pretty(&one).unwrap();
            prop_assert_eq!(of(&pretty), of(&one.to_string()));
        }
    }
}
