//! Dead letters in files: one JSON object per line, as a file sink writes them.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One refused message.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The line as it stands in the file.
    pub line: String,
    /// When it was refused.
    pub time: String,
    /// The flow that it was under way in.
    pub flow: String,
    /// Who refused it.
    pub component: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in words.
    pub detail: String,
    /// What was refused.
    pub(super) body: Body,
}

/// What was refused.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A message, as JSON.
    Message(String),
    /// Bytes that did not become one, or that a sink had made of one.
    Raw(Vec<u8>),
}

#[derive(Deserialize)]
struct Fields<'a> {
    time: String,
    flow: String,
    component: String,
    reason: String,
    detail: String,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    raw: Option<String>,
    encoding: Option<String>,
}

/// Which letters are meant; all, where a list is empty.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those of these components.
    pub components: Vec<String>,
    /// Those with these reasons.
    pub reasons: Vec<String>,
}

impl Filter {
    /// Whether this one is meant.
    #[must_use]
    pub fn matches(&self, letter: &Letter) -> bool {
        let among = |list: &[String], text: &str| list.is_empty() || list.iter().any(|t| t == text);
        among(&self.components, &letter.component) && among(&self.reasons, &letter.reason)
    }
}

/// Dead letters cannot be read, replayed or kept.
#[derive(Debug)]
pub enum DeadError {
    /// The system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line is no dead letter.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What about it.
        why: String,
    },
    /// Something that must be changed first, with what to do.
    Refused(String),
    /// The run failed; the letters are as they were.
    Run(crate::RunError),
    /// The run was ended before everything was through; the letters are as
    /// they were.
    CutOff,
}

impl fmt::Display for DeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Line { path, line, why } => {
                write!(f, "{}:{line}: no dead letter: {why}", path.display())
            }
            Self::Refused(why) => f.write_str(why),
            Self::Run(error) => error.fmt(f),
            Self::CutOff => f.write_str(
                "the run was ended before everything was through; the dead letters are as they \
                 were, and what has been delivered will be again",
            ),
        }
    }
}

impl std::error::Error for DeadError {}

/// The letters of a file, in its order.
///
/// # Errors
/// When it cannot be read, or holds something else.
pub fn letters(path: &Path) -> Result<Vec<Letter>, DeadError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| DeadError::Io { path: path.to_owned(), error })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let letter = |(at, line): (usize, &str)| {
        letter(line).map_err(|why| DeadError::Line { path: path.to_owned(), line: at + 1, why })
    };
    lines.map(letter).collect()
}

pub(super) fn letter(line: &str) -> Result<Letter, String> {
    let fields: Fields<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let body = match (fields.message, fields.raw, fields.encoding.as_deref()) {
        (Some(message), _, _) => Body::Message(message.get().to_owned()),
        (None, Some(raw), None) => Body::Raw(raw.into_bytes()),
        (None, Some(raw), Some("base64")) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(raw);
            Body::Raw(bytes.map_err(|error| format!("raw: {error}"))?)
        }
        (None, Some(_), Some(other)) => return Err(format!("unknown encoding '{other}'")),
        (None, None, _) => return Err("it has neither 'message' nor 'raw'".to_owned()),
    };
    Ok(Letter {
        line: line.to_owned(),
        time: fields.time,
        flow: fields.flow,
        component: fields.component,
        reason: fields.reason,
        detail: fields.detail,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""time":"2026-01-01T00:00:00Z","flow":"f","component":"c","reason":"script","detail":"d""#;

    #[test]
    fn a_message_is_taken_as_it_was_written() {
        let message = r#"{"z":12345678901234567890123,"a":[1.0,{"ü":null}]}"#;
        let letter = letter(&format!("{{{HEAD},\"message\":{message}}}")).unwrap();
        let Body::Message(text) = letter.body else { panic!("bytes") };
        assert_eq!(text, message);
        assert_eq!((letter.component.as_str(), letter.reason.as_str()), ("c", "script"));
    }

    #[test]
    fn bytes_are_taken_as_they_came() {
        let raw = |more: &str| match letter(&format!("{{{HEAD},{more}}}")).unwrap().body {
            Body::Raw(bytes) => bytes,
            Body::Message(_) => panic!("a message"),
        };
        assert_eq!(raw(r#""origin":"in","offset":3,"raw":"a\nb""#), b"a\nb");
        assert_eq!(raw(r#""raw":"/wA=","encoding":"base64""#), [0xff, 0]);
    }

    #[test]
    fn what_is_no_letter_is_refused() {
        for line in ["{}", "x", "{\"n\":1}", &format!("{{{HEAD}}}")] {
            assert!(letter(line).is_err(), "{line}");
        }
    }
}
