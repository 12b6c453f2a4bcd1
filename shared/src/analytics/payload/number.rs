//! A JSON number as PostgreSQL's `numeric`, and so `jsonb`, keeps it and writes it out: in full, by the rules of `numeric_in`
//! and `numeric_out`.

/// Digits that `numeric` keeps before and after the decimal point.
const MAX_INTEGER_DIGITS: i64 = 131_072;
const MAX_FRACTION_DIGITS: i64 = 16_383;

/// How many bytes it takes written out (`1e3` takes 4, `-1e-3` takes 6); none if `numeric` cannot hold it.
///
/// The scale counts written zeros, and those of zero too: `0.0e-5` becomes `0.000000`.
pub fn written_bytes(number: &[u8]) -> Option<u64> {
    let unsigned = number.strip_prefix(b"-").unwrap_or(number);
    let split = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(unsigned.len());
    let (mantissa, exponent) = unsigned.split_at(split);
    let exponent = exponent_of(exponent)?;
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let (integer, fraction) = mantissa.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    let length = |digits: &[u8]| i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let scale = (length(fraction) - exponent).max(0);
    let first_digit = integer.iter().chain(fraction).position(|byte| *byte != b'0');
    let (leading, sign) = match first_digit {
        None => (0, 0), // Zero has no sign.
        Some(zeros) => {
            let leading = length(integer) - i64::try_from(zeros).unwrap_or(i64::MAX) + exponent;
            (leading, i64::from(unsigned.len() < number.len()))
        }
    };
    if scale > MAX_FRACTION_DIGITS || leading > MAX_INTEGER_DIGITS {
        return None;
    }
    u64::try_from(sign + leading.max(1) + if scale > 0 { scale + 1 } else { 0 }).ok()
}

/// Of `e5`, `E-5` or nothing.
fn exponent_of(text: &[u8]) -> Option<i64> {
    let Some(digits) = text.get(1..) else { return Some(0) };
    let exponent: i64 = String::from_utf8_lossy(digits).parse().ok()?;
    (exponent.abs() < i64::from(i32::MAX) / 2).then_some(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(written_bytes(number.as_bytes()).is_some(), fits, "{number}");
        }
    }

    #[test]
    fn a_number_is_written_out_in_full() {
        for (number, written) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("0e5", "0"),
            ("0e-3", "0.000"),
            ("0.0e-5", "0.000000"),
            ("-17", "-17"),
            ("1.10", "1.10"),
            ("1e3", "1000"),
            ("-1E+3", "-1000"),
            ("1.5e1", "15"),
            ("1.50e1", "15.0"),
            ("10e-1", "1.0"),
            ("12e-1", "1.2"),
            ("1e-7", "0.0000001"),
            ("-1e-3", "-0.001"),
            ("0.001e3", "1"),
            ("0.0010e2", "0.10"),
            ("100e-2", "1.00"),
        ] {
            assert_eq!(written_bytes(number.as_bytes()), Some(written.len() as u64), "{number}");
        }
        assert_eq!(written_bytes(b"1e131071"), Some(131_072));
        assert_eq!(written_bytes(b"-1e-16383"), Some(16_386));
    }
}
