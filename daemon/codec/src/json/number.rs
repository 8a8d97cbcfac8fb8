//! Numbers (RFC 8259 section 6): exactly the grammar, and the nearest `f64`.

use crate::refused::{Bad, bad};
use crate::scan::{digits_value, leading_digits, word};

/// What a number's text means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
    /// Beyond `i64`, or a decimal beyond `f64`: the text is the value.
    Text,
}

/// Powers of ten that `f64` holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Whole numbers up to here, and all quotients and products of them with
/// [`EXACT`], are correctly rounded by one operation of `f64`.
const EXACT_MANTISSA: u64 = 1 << 53;

/// Reads the number at `at`, which is a digit or a minus; the second value is
/// where it ends.
#[inline(always)]
pub(crate) fn number(text: &str, at: usize) -> Result<(Number, usize), Bad> {
    let bytes = text.as_bytes();
    let negative = bytes.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let mut end = first;
    let mut mantissa = 0;
    let whole = digits(bytes, &mut end, &mut mantissa);
    if whole == 0 || (whole > 1 && bytes.get(first) == Some(&b'0')) {
        return bad(first, if whole == 0 { "expected a digit" } else { "a leading zero" });
    }
    match bytes.get(end) {
        Some(b'.') => {}
        Some(b'e' | b'E') => return decimal(text, at, end),
        _ if whole <= 18 && (mantissa != 0 || !negative) => {
            let value = mantissa as i64;
            return Ok((Number::Int(if negative { -value } else { value }), end));
        }
        _ => return Ok((long_int(text, at, end), end)),
    }
    end += 1;
    let places = digits(bytes, &mut end, &mut mantissa);
    if places == 0 {
        return bad(end, "expected a digit");
    }
    let exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
    if exponent || whole + places > 19 || mantissa > EXACT_MANTISSA {
        return decimal(text, at, end);
    }
    // At most 19 places here, so the divisor is exact too.
    let value = mantissa as i64 as f64 / EXACT[places];
    Ok((Number::Float(if negative { -value } else { value }), end))
}

/// Reads digits; how many. `value` wraps beyond 19 digits.
#[inline(always)]
fn digits(bytes: &[u8], at: &mut usize, value: &mut u64) -> usize {
    let start = *at;
    loop {
        let word = word(bytes, *at);
        let count = leading_digits(word);
        if count == 0 {
            return *at - start;
        }
        *value = value.wrapping_mul(POWERS[count]).wrapping_add(digits_value(word, count));
        *at += count;
        if count < 8 {
            return *at - start;
        }
    }
}

/// A whole number that may be beyond `i64`, or is minus zero.
#[cold]
fn long_int(text: &str, at: usize, end: usize) -> Number {
    match &text[at..end] {
        // i64 has no minus zero, f64 does.
        "-0" => Number::Float(-0.0),
        text => text.parse().map_or(Number::Text, Number::Int),
    }
}

/// The rest of a decimal, from the exponent on if it has one: std rounds
/// correctly.
#[cold]
#[inline(never)]
fn decimal(text: &str, at: usize, mut end: usize) -> Result<(Number, usize), Bad> {
    let bytes = text.as_bytes();
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        end += 1;
        end += usize::from(matches!(bytes.get(end), Some(b'+' | b'-')));
        if digits(bytes, &mut end, &mut 0) == 0 {
            return bad(end, "expected a digit");
        }
    }
    match text[at..end].parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Number::Float(value), end)),
        _ => Ok((Number::Text, end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Number, usize), Bad> {
        number(text, 0)
    }

    #[test]
    fn whole_numbers_are_exact_to_the_last_of_i64() {
        for value in [0, 1, -1, 9, 10, 12_345_678, 123_456_789, i64::MAX, i64::MIN] {
            let text = value.to_string();
            assert_eq!(read(&text), Ok((Number::Int(value), text.len())));
        }
        for text in ["9223372036854775808", "-9223372036854775809", "18446744073709551615"] {
            assert_eq!(read(text), Ok((Number::Text, text.len())), "{text}");
        }
    }

    #[test]
    fn decimals_are_what_std_reads() {
        for text in [
            "0.1",
            "-0.0",
            "1.5",
            "123456789.125",
            "0.30000000000000004",
            "9007199254740993.0",
            "1e22",
            "1e23",
            "1E-7",
            "-2.5e+300",
            "5e-324",
            "2.2250738585072011e-308",
            "1e-400",
            "0.000000000000000000000000123",
            "179769313486231570793e288",
            "0e999",
            "-0e1",
            "7205759403792793199999e-5",
            "1.0000000000000000000001",
            "123456789012345678.5",
        ] {
            let want: f64 = text.parse().unwrap();
            match read(text) {
                Ok((Number::Float(got), end)) => {
                    assert_eq!((got.to_bits(), end), (want.to_bits(), text.len()), "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(read("1e400"), Ok((Number::Text, 5)));
        match read("-0") {
            Ok((Number::Float(zero), 2)) => assert!(zero.is_sign_negative()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_grammar_does_not_have_is_refused_or_left() {
        for (text, at) in
            [("-", 1), ("01", 0), ("-01", 1), ("1.", 2), ("1.e5", 2), ("1e", 2), ("1e+", 3)]
        {
            assert_eq!(read(text).unwrap_err().at, at, "{text}");
        }
        assert_eq!(read("1x"), Ok((Number::Int(1), 1)));
        assert_eq!(read("0x10"), Ok((Number::Int(0), 1)));
    }
}
