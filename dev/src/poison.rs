//! What `jsonb` refuses or nearly does, in canonical events: none of it may harm its neighbours.

/// The start of a canonical event's time, type and source; its payload has this member.
fn with_member(member: &[u8]) -> Vec<u8> {
    let start =
        br#"{"eventType":"poison.test","source":"poison","occurredAt":"2025-11-16T18:14:00Z","payload":{"#;
    [start, member, b"}}"].concat()
}

fn nested(depth: usize) -> Vec<u8> {
    [b"\"a\":".as_slice(), "[".repeat(depth).as_bytes(), "]".repeat(depth).as_bytes()].concat()
}

/// What `jsonb` refuses, and what never gets so far.
#[must_use]
pub fn refused() -> Vec<Vec<u8>> {
    let digits = [b"\"a\":".as_slice(), "1".repeat(200_000).as_bytes()].concat();
    let deep = nested(100_000);
    let large = [b"\"a\":\"".as_slice(), "x".repeat(1_100_000).as_bytes(), b"\""].concat();
    let grows = format!("\"a\":[{}]", vec!["1e131071"; 9_000].join(","));
    let members: [&[u8]; 15] = [
        br#""a":"\u0000""#,
        br#""\u0000":1"#,
        b"\"a\":\"\x00\"",
        b"\"a\":\"\xff\"",
        b"\"a\":\"\xc0\x80\"",
        b"\"a\":\"\x01\"",
        br#""a":"\ud800""#,
        br#""a":"\udc00""#,
        br#""a":NaN"#,
        br#""a":1e200000"#,
        br#""a":1e-20000"#,
        grows.as_bytes(),
        &digits,
        &deep,
        &large,
    ];
    let mut values: Vec<_> = members.into_iter().map(with_member).collect();
    values.push([b"\xef\xbb\xbf", with_member(b"").as_slice()].concat());
    values.push([with_member(b"").as_slice(), b" garbage"].concat());
    values.push(Vec::new());
    values.push(b"  ".to_vec());
    values
}

/// What looks dangerous and is not.
#[must_use]
pub fn accepted() -> Vec<Vec<u8>> {
    let deep = nested(120);
    let members: [&[u8]; 7] = [
        br#""a":1e400"#,
        br#""a":[1e131071,1e-16383,0e-16383]"#,
        br#""a":-0"#,
        br#""a":1,"a":2"#,
        br#""a":"\ud83d\ude00""#,
        br#""a":"\\u0000""#,
        &deep,
    ];
    members.into_iter().map(with_member).collect()
}
