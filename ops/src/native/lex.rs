//! Tokens of the expression subset. What is not in it ends the whole attempt:
//! the Lua compiler then has the expression.

use super::number;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Number(f64),
    Text(Vec<u8>),
    Name(String),
    /// An operator, a parenthesis or one of the words that are operators or
    /// values.
    Sign(&'static str),
}

/// Words that an operator or a value is written with.
const WORDS: [&str; 6] = ["and", "or", "not", "nil", "true", "false"];

/// Longest first.
const SIGNS: [&str; 18] = [
    "...", "..", "==", "~=", "<=", ">=", "<<", ">>", "+", "-", "*", "/", "%", "^", "<", ">", "(",
    ")",
];

/// Tokens in order, or nothing when one is not of the subset.
pub(crate) fn tokens(source: &str) -> Option<Vec<Token>> {
    let mut rest = source.as_bytes();
    let mut tokens = Vec::new();
    loop {
        let space = rest.iter().take_while(|byte| matches!(byte, b' ' | 9..=13)).count();
        rest = &rest[space..];
        let Some(first) = rest.first() else { return Some(tokens) };
        let (token, len) = match first {
            b'0'..=b'9' => lex_number(rest)?,
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => lex_number(rest)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => lex_name(rest)?,
            b'\'' | b'"' => lex_text(rest)?,
            _ => lex_sign(rest)?,
        };
        tokens.push(token);
        rest = &rest[len..];
    }
}

fn lex_sign(text: &[u8]) -> Option<(Token, usize)> {
    // A comment, and the operators that LuaJIT has beyond Lua.
    if text.starts_with(b"--") || text.starts_with(b"->") {
        return None;
    }
    let sign = SIGNS.into_iter().find(|sign| text.starts_with(sign.as_bytes()))?;
    (!matches!(sign, "..." | "<<" | ">>")).then_some((Token::Sign(sign), sign.len()))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn lex_name(text: &[u8]) -> Option<(Token, usize)> {
    let len = text.iter().take_while(|byte| is_name(**byte)).count();
    let name = str::from_utf8(&text[..len]).ok().filter(|name| name.is_ascii())?;
    let word = WORDS.into_iter().find(|word| *word == name);
    Some((word.map_or_else(|| Token::Name(name.to_owned()), Token::Sign), len))
}

/// Takes what LuaJIT takes as one literal, and refuses its suffixes and
/// separators.
fn lex_number(text: &[u8]) -> Option<(Token, usize)> {
    let hex = text[0] == b'0' && text.get(1).is_some_and(|byte| byte | 0x20 == b'x');
    let letter = if hex { b'p' } else { b'e' };
    let (mut len, mut last) = (0, 0);
    for byte in text {
        let sign = matches!(byte, b'-' | b'+') && last | 0x20 == letter;
        if !is_name(*byte) && *byte != b'.' && !sign {
            break;
        }
        last = *byte;
        len += 1;
    }
    Some((Token::Number(number::scan(&text[..len])?), len))
}

fn lex_text(text: &[u8]) -> Option<(Token, usize)> {
    let mut out = Vec::new();
    let mut at = 1;
    loop {
        match *text.get(at)? {
            byte if byte == text[0] => return Some((Token::Text(out), at + 1)),
            b'\n' | b'\r' => return None,
            b'\\' => at += 1 + escape(&text[at + 1..], &mut out)?,
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// Decodes what follows a backslash and returns its length.
fn escape(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let byte = match text.first()? {
        b'a' => 7,
        b'b' => 8,
        b't' => 9,
        b'n' => 10,
        b'v' => 11,
        b'f' => 12,
        b'r' => 13,
        quoted @ (b'\\' | b'\'' | b'"') => *quoted,
        b'x' => {
            let digits = str::from_utf8(text.get(1..3)?).ok()?;
            let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            out.push(u8::from_str_radix(digits, 16).ok().filter(|_| hex)?);
            return Some(3);
        }
        b'0'..=b'9' => {
            let len = text.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
            out.push(str::from_utf8(&text[..len]).ok()?.parse().ok()?);
            return Some(len);
        }
        // `\u{..}`, `\z` and escaped line ends are left to the Lua compiler.
        _ => return None,
    };
    out.push(byte);
    Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_escapes_of_lua() {
        let text = |source: &str| match tokens(source)?.as_slice() {
            [Token::Text(text)] => Some(text.clone()),
            _ => None,
        };
        assert_eq!(text(r#"'a\n\'"\65\x41\0'"#), Some(b"a\n'\"AA\0".to_vec()));
        assert_eq!(text(r"'\2555'"), Some(vec![255, b'5']));
        for bad in [r"'\256'", r"'\q'", r"'\x4'", r"'\x+1'", "'a", "'a\nb'", r"'\"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_of_the_subset_is_left_alone() {
        let foreign = [
            "a -- b", "5LL", "1_0", "a & b", "a ~ b", "a ?? b", "a[1]", "a:b", "[[x]]", "#a",
            "1..2", "é", "{}", "a != b", "a << 2", "0b2", "...",
        ];
        for source in foreign {
            assert_eq!(tokens(source), None, "{source}");
        }
        assert_eq!(tokens("3 .. 4").map(|tokens| tokens.len()), Some(3));
        assert_eq!(tokens("1e-2-3").map(|tokens| tokens.len()), Some(3));
    }
}
