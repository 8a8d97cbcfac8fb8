//! Strings (RFC 8259 section 7): their end, their escapes.

use crate::refused::{Bad, bad};
use crate::scan::string_stop;

/// Reads the string whose opening quote is at `at`; the second value is where
/// it ends. What has escapes is written to `unescaped` and borrowed from it.
#[inline(always)]
pub(crate) fn string<'t>(
    text: &'t str,
    at: usize,
    unescaped: &'t mut String,
) -> Result<(&'t str, usize), Bad> {
    let start = at + 1;
    let stop = string_stop(text.as_bytes(), start);
    if text.as_bytes().get(stop) == Some(&b'"')
        && let Some(plain) = text.get(start..stop)
    {
        return Ok((plain, stop + 1));
    }
    let end = unescape(text, start, unescaped)?;
    Ok((unescaped, end))
}

/// Reads a string from behind its opening quote into `out`; where it ends.
#[cold]
#[inline(never)]
fn unescape(text: &str, start: usize, out: &mut String) -> Result<usize, Bad> {
    out.clear();
    let mut at = start;
    loop {
        let stop = string_stop(text.as_bytes(), at);
        // Stops are at ASCII bytes or the end, so this always slices.
        out.push_str(text.get(at..stop).unwrap_or_default());
        match text.as_bytes().get(stop) {
            Some(b'"') => return Ok(stop + 1),
            Some(b'\\') => {
                let (c, next) = escape(text.as_bytes(), stop)?;
                out.push(c);
                at = next;
            }
            Some(_) => return bad(stop, "a control character in a string"),
            None => return bad(stop, "the string does not end"),
        }
    }
}

/// Checks a string from its opening quote on; where it ends.
pub(crate) fn skip_string(bytes: &[u8], at: usize) -> Result<usize, Bad> {
    let mut at = at + 1;
    loop {
        let stop = string_stop(bytes, at);
        match bytes.get(stop) {
            Some(b'"') => return Ok(stop + 1),
            Some(b'\\') => at = escape(bytes, stop)?.1,
            Some(_) => return bad(stop, "a control character in a string"),
            None => return bad(stop, "the string does not end"),
        }
    }
}

/// The character that the backslash at `at` begins, and where it ends.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), Bad> {
    let c = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode(bytes, at),
        _ => return bad(at, "an unknown escape"),
    };
    Ok((c, at + 2))
}

fn unicode(bytes: &[u8], at: usize) -> Result<(char, usize), Bad> {
    let high = hex4(bytes, at)?;
    if let Some(c) = char::from_u32(high) {
        return Ok((c, at + 6));
    }
    // Only surrogates are not characters below 0x10000. A half of a pair has
    // no meaning in UTF-8 and cannot be kept.
    let escaped_low = bytes.get(at + 6..at + 8) == Some(b"\\u");
    if high >= 0xDC00 || !escaped_low {
        return bad(at, "an unpaired surrogate");
    }
    let low = hex4(bytes, at + 6)?;
    if !(0xDC00..0xE000).contains(&low) {
        return bad(at, "an unpaired surrogate");
    }
    let pair = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    char::from_u32(pair).map_or(bad(at, "an unpaired surrogate"), |c| Ok((c, at + 12)))
}

/// The four hexadecimal digits behind `\u` at `at`.
fn hex4(bytes: &[u8], at: usize) -> Result<u32, Bad> {
    let mut value = 0;
    for i in at + 2..at + 6 {
        match bytes.get(i).and_then(|b| char::from(*b).to_digit(16)) {
            Some(digit) => value = value << 4 | digit,
            None => return bad(i, "expected four hexadecimal digits"),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, Bad> {
        let mut out = String::new();
        let got = string(text, 0, &mut out).map(|(s, end)| {
            assert_eq!(end, text.len());
            s.to_owned()
        });
        assert_eq!(skip_string(text.as_bytes(), 0).err(), got.as_ref().err().copied());
        got
    }

    #[test]
    fn every_escape_is_read() {
        let all = r#""\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83d\ude00 plain é""#;
        assert_eq!(read(all).unwrap(), "\"\\/\u{8}\u{c}\n\r\tAé€😀 plain é");
        assert_eq!(read(r#""\u0000""#).unwrap(), "\0");
        assert_eq!(read(r#""""#).unwrap(), "");
    }

    #[test]
    fn half_pairs_are_refused_where_they_stand() {
        for text in [
            r#""ab\ud800""#,
            r#""ab\udc00""#,
            r#""ab\ud800\ud800""#,
            r#""ab\ud800x""#,
            r#""ab\ud800\n""#,
            r#""ab\udc00\ud800""#,
        ] {
            assert_eq!(read(text), bad(3, "an unpaired surrogate"), "{text}");
        }
    }

    #[test]
    fn broken_strings_are_refused_where_they_break() {
        for (text, at) in [
            (r#""a"#, 2),
            ("\"a\nb\"", 2),
            (r#""\x""#, 1),
            (r#""\u12""#, 5),
            (r#""\u12g4""#, 5),
            (r#""\"#, 1),
            (r#""\ud800\u12"#, 11),
            ("\"\u{1f}\"", 1),
            ("\"", 1),
        ] {
            assert_eq!(read(text).unwrap_err().at, at, "{text}");
        }
        assert_eq!(read("\"\u{7f}\"").unwrap(), "\u{7f}");
    }
}
