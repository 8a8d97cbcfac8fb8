//! Lua's tokens with their places. Only as exact as the analysis of names
//! needs: what is not valid Lua was refused by LuaJIT before.

/// Kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier.
    Name,
    /// A reserved word.
    Word,
    /// A number.
    Number,
    /// A string of any form.
    Str,
    /// An operator or a bracket.
    Op,
}

/// A token and its bytes in the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

const WORDS: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];
const OPS: [&str; 7] = ["...", "..", "==", "~=", "<=", ">=", "::"];

/// The tokens of `source`; stops at what is none.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    read(source).0
}

/// The tokens, and where an unfinished string begins behind them, if any.
pub(crate) fn read(source: &str) -> (Vec<Token>, Option<usize>) {
    let mut lexer = Lexer { source, bytes: source.as_bytes(), at: 0, start: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    let last = tokens.last().map_or(0, |token| token.end);
    (tokens, (lexer.start >= last).then_some(lexer.start))
}

struct Lexer<'a> {
    source: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Where the last token began, finished or not.
    start: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        self.skip()?;
        let start = self.at;
        self.start = start;
        let kind = match self.byte(0) {
            b'0'..=b'9' => self.number(),
            b'.' if self.byte(1).is_ascii_digit() => self.number(),
            b'"' | b'\'' => self.quoted()?,
            b'[' if matches!(self.byte(1), b'[' | b'=') && self.level().is_some() => {
                self.long()?;
                Kind::Str
            }
            byte if is_name(byte) => self.name(),
            _ => self.op(),
        };
        Some(Token { kind, start, end: self.at })
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Past blanks and comments; none at the end.
    fn skip(&mut self) -> Option<()> {
        while self.at < self.bytes.len() {
            if self.byte(0).is_ascii_whitespace() || self.byte(0) == 0x0b {
                self.at += 1;
            } else if self.bytes[self.at..].starts_with(b"--") {
                self.at += 2;
                if self.byte(0) == b'[' && self.level().is_some() {
                    self.long()?;
                } else {
                    let rest = &self.bytes[self.at..];
                    self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                }
            } else {
                return Some(());
            }
        }
        None
    }

    fn name(&mut self) -> Kind {
        let start = self.at;
        while is_name(self.byte(0)) || self.byte(0).is_ascii_digit() {
            self.at += 1;
        }
        if WORDS.contains(&&self.source[start..self.at]) { Kind::Word } else { Kind::Name }
    }

    fn number(&mut self) -> Kind {
        let hexadecimal = self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X');
        let exponent = if hexadecimal { b'p' } else { b'e' };
        let mut last = 0u8;
        loop {
            let byte = self.byte(0);
            let sign = matches!(byte, b'+' | b'-') && last.to_ascii_lowercase() == exponent;
            if !(byte.is_ascii_digit() || is_name(byte) || byte == b'.' || sign) {
                return Kind::Number;
            }
            last = byte;
            self.at += 1;
        }
    }

    fn quoted(&mut self) -> Option<Kind> {
        let quote = self.byte(0);
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.byte(0) {
                b'\\' => self.at += 2,
                byte if byte == quote => {
                    self.at += 1;
                    return Some(Kind::Str);
                }
                _ => self.at += 1,
            }
        }
        None
    }

    /// The number of `=` of a long bracket that opens here.
    fn level(&self) -> Option<usize> {
        let equals = self.bytes[self.at + 1..].iter().take_while(|b| **b == b'=').count();
        (self.byte(equals + 1) == b'[').then_some(equals)
    }

    fn long(&mut self) -> Option<()> {
        let level = self.level()?;
        let close = format!("]{}]", "=".repeat(level));
        let body = self.at + level + 2;
        let end = self.source.get(body..)?.find(&close)?;
        self.at = body + end + close.len();
        Some(())
    }

    fn op(&mut self) -> Kind {
        let rest = &self.bytes[self.at..];
        let long = OPS.iter().find(|op| rest.starts_with(op.as_bytes()));
        self.at += long.map_or(1, |op| op.len());
        Kind::Op
    }
}

/// LuaJIT takes every byte of a non-ASCII character for a letter.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}
