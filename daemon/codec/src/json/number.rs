//! Numbers (RFC 8259 section 6): exactly the grammar, and the nearest `f64`.

use ringmain_slab::Scalar;

use crate::refused::{Bad, bad};
use crate::scan::{digits_value, long_word, non_digits};

/// What a number's text means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
    /// Beyond `i64`, or a decimal beyond `f64`: the text is the value.
    Text,
}

impl Number {
    /// The value of a number that is written as `text`.
    pub(crate) fn scalar(self, text: &str) -> Scalar<'_> {
        match self {
            Self::Int(value) => Scalar::Int(value),
            Self::Float(value) => Scalar::Float(value),
            Self::Text => Scalar::Number(text),
        }
    }
}

/// Powers of ten that `f64` holds exactly.
const EXACT: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Reads the number at `at`, which is a digit or a minus; the second value is
/// where it ends.
#[inline]
pub(crate) fn number(text: &str, at: usize) -> Result<(Number, usize), Bad> {
    let negative = text.as_bytes().get(at) == Some(&b'-');
    let read = if negative { quick::<true>(text, at) } else { quick::<false>(text, at) };
    read.map_or_else(|| rare(text, at), Ok)
}

/// Reads numbers of up to 15 bytes without exponent, which is most of them, by
/// one look at 16 bytes; `None` for all else, right or wrong.
///
/// The sign is a parameter: were it a value, the place of everything behind it
/// would wait for it.
#[inline(always)]
pub(crate) fn quick<const NEGATIVE: bool>(text: &str, at: usize) -> Option<(Number, usize)> {
    let bytes = text.as_bytes();
    let first = at + usize::from(NEGATIVE);
    let chunk = long_word(bytes, first);
    let stops = non_digits(chunk.to_le_bytes());
    let whole = stops.trailing_zeros() as usize;
    if whole == 0 || whole > 15 || (whole > 1 && chunk as u8 == b'0') {
        return None;
    }
    let end = first + whole;
    match bytes.get(end) {
        Some(b'.') => {}
        Some(b'e' | b'E') => return None,
        _ => {
            let value = digits(chunk, whole) as i64;
            if NEGATIVE && value == 0 {
                // i64 has no minus zero, f64 does.
                return Some((Number::Float(-0.0), end));
            }
            return Some((Number::Int(if NEGATIVE { -value } else { value }), end));
        }
    }
    let len = (stops & (stops - 1)).trailing_zeros() as usize;
    let end = first + len;
    let places = len.wrapping_sub(whole + 1);
    if len > 15 || places == 0 || matches!(bytes.get(end), Some(b'e' | b'E')) {
        return None;
    }
    // The whole part moves up over the dot: at most 14 digits remain, so
    // mantissa and divisor are exact and their quotient is correctly rounded.
    let mantissa = if len <= 8 {
        let below = (1u64 << (8 * whole)) - 1;
        let word = chunk as u64;
        digits_value((word & below) << 8 | word & !(below << 8 | 0xff), len)
    } else {
        let below = (1u128 << (8 * whole)) - 1;
        digits((chunk & below) << 8 | chunk & !(below << 8 | 0xff), len)
    };
    let value = mantissa as i64 as f64 / EXACT[places & 15];
    Some((Number::Float(if NEGATIVE { -value } else { value }), end))
}

/// The value of the first `count` (1 to 15) bytes, which are digits; a byte of
/// zero counts as the digit zero.
#[inline(always)]
fn digits(chunk: u128, count: usize) -> u64 {
    let low = chunk as u64;
    if count <= 8 {
        return digits_value(low, count);
    }
    let high = (chunk >> 64) as u64;
    digits_value(low, 8) * POWERS[(count - 8) & 7] + digits_value(high, count - 8)
}

/// Numbers of any length, and what is none.
#[cold]
#[inline(never)]
fn rare(text: &str, at: usize) -> Result<(Number, usize), Bad> {
    let bytes = text.as_bytes();
    let first = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut end = pass_digits(bytes, first)?;
    if end > first + 1 && bytes.get(first) == Some(&b'0') {
        return bad(first, "a leading zero");
    }
    if !matches!(bytes.get(end), Some(b'.' | b'e' | b'E')) {
        return Ok((long_int(&text[at..end]), end));
    }
    if bytes.get(end) == Some(&b'.') {
        end = pass_digits(bytes, end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        end += 1;
        end += usize::from(matches!(bytes.get(end), Some(b'+' | b'-')));
        end = pass_digits(bytes, end)?;
    }
    // std rounds correctly.
    match text[at..end].parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Number::Float(value), end)),
        _ => Ok((Number::Text, end)),
    }
}

/// Behind one digit or more.
fn pass_digits(bytes: &[u8], at: usize) -> Result<usize, Bad> {
    let mut end = at;
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    if end == at { bad(at, "expected a digit") } else { Ok(end) }
}

/// A whole number that may be beyond `i64`.
fn long_int(text: &str) -> Number {
    text.parse().map_or(Number::Text, Number::Int)
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
