//! Why code did not compile, for whoever wrote it.

use std::fmt;

/// An expression or a script that cannot be used. The writer's fault; the
/// place is inside what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// What is wrong, without a place.
    pub message: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; the beginning of the line when nothing
    /// better is known.
    pub column: usize,
}

impl CompileError {
    pub(crate) fn new(message: impl Into<String>, line: usize, column: usize) -> Self {
        Self { message: message.into(), line, column }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for CompileError {}

/// Takes `chunk:LINE: message` apart.
pub(crate) fn split(text: &str) -> Option<(usize, &str)> {
    let mut from = 0;
    loop {
        let colon = from + text.get(from..)?.find(':')? + 1;
        let digits = text[colon..].bytes().take_while(u8::is_ascii_digit).count();
        let after = &text[colon + digits..];
        if digits > 0
            && let Some(message) = after.strip_prefix(": ")
        {
            return Some((text[colon..colon + digits].parse().ok()?, message));
        }
        from = colon;
    }
}

/// The error that LuaJIT's message tells of.
pub(crate) fn place_of(text: &str) -> CompileError {
    match split(text) {
        Some((line, message)) => CompileError::new(message, line, 1),
        None => CompileError::new(text, 1, 1),
    }
}
