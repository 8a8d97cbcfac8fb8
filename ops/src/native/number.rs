//! Numbers and their texts, as LuaJIT reads and writes them.

/// What LuaJIT's `lj_strscan_num` reads: decimal, hexadecimal (also with a
/// point and a binary exponent), `0b` binary, `inf` and `nan`, in white space.
pub(crate) fn scan(text: &[u8]) -> Option<f64> {
    let mut at = text;
    let mut negative = false;
    if !at.first().is_some_and(u8::is_ascii_digit) {
        at = skip_space(at);
        if let Some((sign @ (b'+' | b'-'), rest)) = at.split_first() {
            negative = *sign == b'-';
            at = rest;
        }
        if at.first().is_some_and(|byte| *byte >= b'A') {
            return scan_name(at, negative);
        }
    }
    let (value, rest) = match at {
        [b'0', b'x' | b'X', rest @ ..] => scan_hex(rest)?,
        [b'0', b'b' | b'B', rest @ ..] => scan_binary(rest)?,
        _ => scan_decimal(at)?,
    };
    let value = if negative { -value } else { value };
    skip_space(rest).is_empty().then_some(value)
}

fn skip_space(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | 9..=13);
    let end = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    &text[end..]
}

fn scan_name(text: &[u8], negative: bool) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let (value, len) = if lower.starts_with(b"infinity") {
        (if negative { f64::NEG_INFINITY } else { f64::INFINITY }, 8)
    } else if lower.starts_with(b"inf") {
        (if negative { f64::NEG_INFINITY } else { f64::INFINITY }, 3)
    } else if lower.starts_with(b"nan") {
        (f64::NAN, 3)
    } else {
        return None;
    };
    skip_space(&text[len..]).is_empty().then_some(value)
}

/// Digits with at most one point among them; how many digits there were and
/// where they end.
fn digits(text: &[u8], is_digit: impl Fn(u8) -> bool) -> Option<(usize, usize)> {
    let (mut count, mut points, mut end) = (0, 0, 0);
    for byte in text {
        match byte {
            b'.' => points += 1,
            byte if is_digit(*byte) => count += 1,
            _ => break,
        }
        end += 1;
    }
    (count > 0 && points <= 1).then_some((count, end))
}

/// The exponent behind `letter`, 0 without one, and the length of both.
/// `EXPONENT_MAX` is LuaJIT's: larger ones are no number.
fn exponent(text: &[u8], letter: u8) -> Option<(i32, usize)> {
    const EXPONENT_MAX: i32 = 1 << 20;
    let Some((first, rest)) = text.split_first() else { return Some((0, 0)) };
    if first.to_ascii_lowercase() != letter {
        return Some((0, 0));
    }
    let (negative, rest, sign) = match rest {
        [b'-', rest @ ..] => (true, rest, 1),
        [b'+', rest @ ..] => (false, rest, 1),
        _ => (false, rest, 0),
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let mut value = 0i32;
    for byte in &rest[..count] {
        value = value * 10 + i32::from(byte - b'0');
        if value >= EXPONENT_MAX {
            return None;
        }
    }
    Some((if negative { -value } else { value }, 1 + sign + count))
}

fn scan_decimal(text: &[u8]) -> Option<(f64, &[u8])> {
    let (_, end) = digits(text, |byte| byte.is_ascii_digit())?;
    let (_, more) = exponent(&text[end..], b'e')?;
    let number = str::from_utf8(&text[..end + more]).ok()?;
    Some((number.parse().ok()?, &text[end + more..]))
}

fn scan_hex(text: &[u8]) -> Option<(f64, &[u8])> {
    let (_, end) = digits(text, |byte| byte.is_ascii_hexdigit())?;
    let (shift, more) = exponent(&text[end..], b'p')?;
    let (mut bits, mut scale, mut seen, mut point) = (0u64, shift, 0, false);
    for byte in &text[..end] {
        if *byte == b'.' {
            point = true;
            continue;
        }
        let digit = u64::from(char::from(*byte).to_digit(16)?);
        if (bits == 0 && digit == 0) || seen < 15 {
            bits = (bits << 4) | digit;
            seen += u32::from(bits != 0);
            scale -= if point { 4 } else { 0 };
        } else {
            // Beyond what rounding needs, only "there is more" counts.
            bits |= u64::from(digit != 0);
            scale += if point { 0 } else { 4 };
        }
    }
    Some((scale_by(bits as f64, scale), &text[end + more..]))
}

/// `value * 2^exponent`, in steps that neither overflow nor underflow early.
fn scale_by(value: f64, exponent: i32) -> f64 {
    let (mut value, mut left) = (value, exponent.clamp(-3000, 3000));
    while left != 0 && value != 0.0 && value.is_finite() {
        let step = left.clamp(-1000, 1000);
        value *= 2f64.powi(step);
        left -= step;
    }
    value
}

fn scan_binary(text: &[u8]) -> Option<(f64, &[u8])> {
    let end = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = &text[..end];
    let zeroes = digits.iter().take_while(|byte| **byte == b'0').count();
    if end == 0 || end - zeroes > 64 || digits.iter().any(|byte| *byte > b'1') {
        return None;
    }
    let bits = digits.iter().fold(0u64, |bits, byte| (bits << 1) | u64::from(byte & 1));
    Some((bits as f64, &text[end..]))
}

/// Writes a number as `%.14g`, LuaJIT's `tostring`.
pub(crate) fn write(to: &mut Vec<u8>, value: f64) {
    use std::io::Write as _;
    if value.is_nan() {
        return to.extend_from_slice(b"nan");
    }
    if value.is_infinite() {
        return to.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    }
    let start = to.len();
    if value.fract() == 0.0 && value.abs() < 1e14 && (value != 0.0 || value.is_sign_positive()) {
        let _ = write!(to, "{}", value as i64);
        return;
    }
    let _ = write!(to, "{value:.13e}");
    let mark = to[start..].iter().position(|byte| *byte == b'e').unwrap_or(0);
    let exponent: i32 = str::from_utf8(&to[start + mark + 1..])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0);
    let mut mantissa = [0; 14];
    let digits = to[start..start + mark].iter().filter(|byte| byte.is_ascii_digit());
    mantissa.iter_mut().zip(digits).for_each(|(to, from)| *to = *from);
    to.truncate(start);
    if value.is_sign_negative() {
        to.push(b'-');
    }
    let significant = 14 - mantissa.iter().rev().take_while(|byte| **byte == b'0').count();
    let mantissa = &mantissa[..significant.max(1)];
    if !(-4..14).contains(&exponent) {
        return write_scientific(to, mantissa, exponent);
    }
    match usize::try_from(exponent) {
        Ok(whole) => {
            let whole = whole + 1;
            to.extend((0..whole).map(|at| mantissa.get(at).copied().unwrap_or(b'0')));
            if mantissa.len() > whole {
                to.push(b'.');
                to.extend_from_slice(&mantissa[whole..]);
            }
        }
        Err(_) => {
            to.extend_from_slice(b"0.");
            to.extend((1..-exponent).map(|_| b'0'));
            to.extend_from_slice(mantissa);
        }
    }
}

fn write_scientific(to: &mut Vec<u8>, mantissa: &[u8], exponent: i32) {
    use std::io::Write as _;
    to.push(mantissa[0]);
    if mantissa.len() > 1 {
        to.push(b'.');
        to.extend_from_slice(&mantissa[1..]);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(to, "e{sign}{:02}", exponent.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_luajit_reads_them() {
        let good: [(&str, f64); 20] = [
            ("10", 10.0),
            (" \t10\n", 10.0),
            ("-1.5e3", -1500.0),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("0x10", 16.0),
            ("-0xfF", -255.0),
            ("0x1p4", 16.0),
            ("0x.8", 0.5),
            ("0x1.8p1", 3.0),
            ("0xffffffffffffffff", 18_446_744_073_709_551_616.0),
            ("0x1ffffffffffffffff", 36_893_488_147_419_103_232.0),
            ("0x00000000000000000000000001", 1.0),
            ("0x0.00000000000000000000000001p104", 1.0),
            ("0b101", 5.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
            ("00012", 12.0),
            ("0", 0.0),
        ];
        for (text, value) in good {
            assert_eq!(scan(text.as_bytes()), Some(value), "{text}");
        }
        assert!(scan(b"nan").is_some_and(f64::is_nan));
        assert!(scan(b"-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
        let bad = [
            "",
            " ",
            "1 2",
            "0x",
            "1e",
            ".",
            "abc",
            "1e9999999",
            "--1",
            "1..2",
            "0b12",
            "10\0",
            "e5",
            "5LL",
            "0xg",
            "1_000",
            "infin",
        ];
        for text in bad {
            assert_eq!(scan(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_with_fourteen_digits() {
        let cases: [(f64, &str); 18] = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.33333333333333"),
            (100.0, "100"),
            (1e13, "10000000000000"),
            (1e14, "1e+14"),
            (123_456_789_012_345.0, "1.2345678901234e+14"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e100, "1e+100"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (1e23, "1e+23"),
            (5e-324, "4.9406564584125e-324"),
        ];
        for (value, text) in cases {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
