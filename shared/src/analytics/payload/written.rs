//! How many bytes `payload::text` has, without making it.

use memchr::memchr2;

use super::number;

/// Of a text that is known to be JSON which `jsonb` accepts. Exact but for names that come twice in one object: all of them
/// count, `jsonb` keeps the last.
///
/// PostgreSQL puts a space behind each comma and colon and none elsewhere, writes numbers out in full, and escapes only
/// quotation marks, backslashes and control characters.
pub fn written_bytes(json: &str) -> u64 {
    let mut walk = Walk { bytes: json.as_bytes(), at: 0 };
    let mut written = 0_u64;
    while let Some(byte) = walk.bytes.get(walk.at) {
        written = written.saturating_add(match byte {
            b'"' => walk.string(),
            b'-' | b'0'..=b'9' => walk.number(),
            byte => {
                walk.at += 1;
                match byte {
                    b',' | b':' => 2,
                    b' ' | b'\t' | b'\n' | b'\r' => 0,
                    _ => 1, // Braces, brackets, the letters of true, false and null.
                }
            }
        });
    }
    written
}

struct Walk<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Walk<'_> {
    fn string(&mut self) -> u64 {
        self.at += 1;
        let mut written = 2_u64; // Its quotation marks.
        while let Some(plain) = memchr2(b'"', b'\\', self.bytes.get(self.at..).unwrap_or_default()) {
            self.at += plain;
            written += plain as u64;
            if self.bytes.get(self.at) == Some(&b'"') {
                self.at += 1;
                break;
            }
            written += self.escape();
        }
        written
    }

    /// Stands on a backslash.
    fn escape(&mut self) -> u64 {
        let (read, written) = match self.bytes.get(self.at + 1) {
            Some(b'/') => (2, 1),
            Some(b'u') => match self.code_unit() {
                0x08 | 0x09 | 0x0a | 0x0c | 0x0d | 0x22 | 0x5c => (6, 2),
                0..=0x1f => (6, 6),
                0x20..=0x7f => (6, 1),
                0x80..=0x7ff => (6, 2),
                0xd800..=0xdfff => (12, 4), // A pair: half of one is not accepted.
                _ => (6, 3),
            },
            _ => (2, 2),
        };
        self.at += read;
        written
    }

    fn code_unit(&self) -> u16 {
        let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
        std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u16::from_str_radix(digits, 16).ok())
            .unwrap_or(u16::MAX)
    }

    fn number(&mut self) -> u64 {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end =
            rest.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let number = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        self.at += number.len();
        number::written_bytes(number).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_postgresql_writes_it() {
        for (json, written) in [
            ("{}", "{}"),
            ("{ }", "{}"),
            (r#"{"a":1,"b":[1,2,{"c":null}]}"#, r#"{"a": 1, "b": [1, 2, {"c": null}]}"#),
            (" [ true , false ]\n", "[true, false]"),
            (r#"{"n":1e3,"m":-1e-3,"z":-0}"#, r#"{"n": 1000, "m": -0.001, "z": 0}"#),
            (r#"["a,b:{}", "é", "\u00e9", "\u20ac", "\ud83d\ude00"]"#, r#"["a,b:{}", "é", "é", "€", "😀"]"#),
            (
                r#"["\/", "\"", "\\", "\n", "\u000a", "\u0022", "\u0041"]"#,
                r#"["/", "\"", "\\", "\n", "\n", "\"", "A"]"#,
            ),
            (r#"["\u0001", "\u001f", "\u007f"]"#, "[\"\\u0001\", \"\\u001f\", \"\u{7f}\"]"),
            (r#"{"\u0061\b":"\t"}"#, r#"{"a\b": "\t"}"#),
        ] {
            assert_eq!(written_bytes(json), written.len() as u64, "{json}");
        }
        let poison = format!(r#"{{"x":[{}]}}"#, vec!["1e131071"; 9_000].join(","));
        assert_eq!(written_bytes(&poison), 9_000 * 131_074 + 7);
    }
}
