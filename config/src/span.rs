//! Where something stands in the files that were loaded.
//!
//! Spans are byte ranges. They travel inside the plan so that the floors above
//! can point at an expression that does not compile, but they are no part of a
//! value: two plans that differ only in spans are equal, or a reload would
//! rebuild a component because a comment above it grew.

use std::fmt;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::Arc;

/// Number of a loaded file in [`Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A byte range of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range `start..end` of `file`.
    #[must_use]
    pub const fn new(file: FileId, start: usize, end: usize) -> Self {
        Self { file, start, end }
    }
}

/// A value and the place where it was written.
#[derive(Clone, Debug, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place; the whole table's or the default's when it was not written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Joins a value with its place.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Compares values, not places.
impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// One loaded file.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The path as it was given: what messages show.
    pub name: String,
    /// Where it was read from; none for text that never was a file.
    pub path: Option<PathBuf>,
    /// Its content.
    pub text: String,
}

/// Line and column of a byte, both from 1, columns counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The files that were loaded, for rendering what was found in them. Cheap to
/// clone.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Arc<Vec<SourceFile>>,
}

impl Sources {
    /// Adds a file.
    pub fn add(&mut self, file: SourceFile) -> FileId {
        let files = Arc::make_mut(&mut self.files);
        files.push(file);
        FileId(u32::try_from(files.len() - 1).expect("fewer than 2^32 files are ever loaded"))
    }

    /// The file with that number.
    #[must_use]
    pub fn get(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id.0 as usize)
    }

    /// Every file in the order of loading.
    pub fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    /// What stands at `span`; empty when the span is not of these files.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.file).and_then(|f| f.text.get(span.start..span.end)).unwrap_or("")
    }

    /// Line and column of the first character of `span`.
    #[must_use]
    pub fn position(&self, span: Span) -> Position {
        let text = self.get(span.file).map_or("", |f| f.text.as_str());
        let head = &text[..floor_char(text, span.start)];
        let line_start = head.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: head.bytes().filter(|b| *b == b'\n').count() + 1,
            column: head[line_start..].chars().count() + 1,
        }
    }

    /// The place of a part of a text value, for a caret inside an expression.
    /// The whole value, when it has escapes or came from the environment.
    #[must_use]
    pub fn inside(&self, text: &Spanned<String>, range: Range<usize>) -> Span {
        let whole = text.span;
        let part = self.slice(whole).find(text.value.as_str()).filter(|_| !text.is_empty());
        part.map_or(whole, |at| {
            let start = whole.start + at + range.start.min(text.len());
            let end = whole.start + at + range.end.min(text.len());
            Span::new(whole.file, start, end.max(start))
        })
    }

    /// The place of a line, from 1, of a text value: what Lua says of a script.
    #[must_use]
    pub fn line_inside(&self, text: &Spanned<String>, line: usize) -> Span {
        let mut start = 0;
        for (at, content) in text.split('\n').enumerate() {
            if at + 1 == line {
                let indent = content.len() - content.trim_start().len();
                return self.inside(text, start + indent..start + content.len());
            }
            start += content.len() + 1;
        }
        text.span
    }

    /// `name:line:column` of `span`.
    #[must_use]
    pub fn describe(&self, span: Span) -> String {
        let name = self.get(span.file).map_or("?", |f| f.name.as_str());
        let at = self.position(span);
        format!("{name}:{}:{}", at.line, at.column)
    }
}

/// The last character boundary at or before `at`.
pub(crate) fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let mut sources = Sources::default();
        let file = sources.add(SourceFile {
            name: "a.toml".into(),
            path: None,
            text: "x = 1\nname = \"grüße\" # oops\n".into(),
        });
        let at = sources.iter().next().unwrap().text.find('#').unwrap();
        let position = sources.position(Span::new(file, at, at + 1));
        assert_eq!(position, Position { line: 2, column: 16 });
        assert_eq!(sources.describe(Span::new(file, 0, 1)), "a.toml:1:1");
    }

    #[test]
    fn a_part_of_a_value_has_its_own_place() {
        let mut sources = Sources::default();
        let text = "where = \"rpm > \"\nsource = '''\nlocal x\n  y = = 1\n'''\nesc = \"a\\tb\"\n";
        let file = sources.add(SourceFile { name: "a".into(), path: None, text: text.into() });
        let spanned = |value: &str, raw: &str| {
            let start = text.find(raw).unwrap();
            Spanned::new(value.to_owned(), Span::new(file, start, start + raw.len()))
        };
        let expression = spanned("rpm > ", "\"rpm > \"");
        assert_eq!(sources.slice(sources.inside(&expression, 4..5)), ">");
        assert_eq!(sources.slice(sources.inside(&expression, 99..200)), "");
        let script = spanned("local x\n  y = = 1\n", "'''\nlocal x\n  y = = 1\n'''");
        assert_eq!(sources.slice(sources.line_inside(&script, 2)), "y = = 1");
        assert_eq!(sources.line_inside(&script, 9), script.span);
        let escaped = spanned("a\tb", "\"a\\tb\"");
        assert_eq!(sources.inside(&escaped, 1..2), escaped.span);
    }

    #[test]
    fn a_span_outside_the_text_does_not_panic() {
        let mut sources = Sources::default();
        let file = sources.add(SourceFile { name: "a".into(), path: None, text: "ü".into() });
        assert_eq!(sources.position(Span::new(file, 1, 900)).column, 1);
        assert_eq!(sources.slice(Span::new(file, 1, 900)), "");
        assert_eq!(sources.describe(Span::new(FileId(9), 0, 0)), "?:1:1");
    }
}
