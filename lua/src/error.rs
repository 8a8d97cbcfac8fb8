//! Why code did not compile, for whoever wrote it.

use std::fmt;

/// An expression or a script that cannot be used. The writer's fault; the
/// place is inside what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// What is wrong, without a place.
    pub message: String,
    /// The chunk that it is in, where that is known: the script or a module.
    pub chunk: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; the beginning of the line when nothing
    /// better is known.
    pub column: usize,
}

impl CompileError {
    pub(crate) fn new(message: impl Into<String>, line: usize, column: usize) -> Self {
        Self { message: message.into(), chunk: None, line, column }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for CompileError {}

/// Takes `chunk:LINE: message` apart: the line and the message.
pub(crate) fn split(text: &str) -> Option<(usize, &str)> {
    split_whole(text).map(|(_, line, message)| (line, message))
}

fn split_whole(text: &str) -> Option<(&str, usize, &str)> {
    let mut from = 0;
    loop {
        let colon = from + text.get(from..)?.find(':')? + 1;
        let digits = text[colon..].bytes().take_while(u8::is_ascii_digit).count();
        let after = &text[colon + digits..];
        if digits > 0
            && let Some(message) = after.strip_prefix(": ")
        {
            let line = text[colon..colon + digits].parse().ok()?;
            return Some((&text[..colon - 1], line, message));
        }
        from = colon;
    }
}

/// The error that LuaJIT's message tells of.
pub(crate) fn place_of(text: &str) -> CompileError {
    match split_whole(text) {
        Some((chunk, line, message)) => {
            CompileError { chunk: Some(chunk.to_owned()), ..CompileError::new(message, line, 1) }
        }
        None => CompileError::new(text, 1, 1),
    }
}
