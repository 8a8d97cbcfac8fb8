//! A parsed TOML document with the place of every key and value.
//!
//! The raw side of "parse, don't validate": everything here is what the file
//! says, nothing is what it means. Also what the plan keeps of tables whose
//! meaning belongs to a floor above (`config` of a Lua operator, `[[tests]]`).

use toml::de::{DeInteger, DeTable, DeValue};

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::span::{FileId, Span, Spanned, floor_char};

/// Any TOML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer that fits 64 bits.
    Integer(i64),
    /// A float.
    Float(f64),
    /// true or false.
    Boolean(bool),
    /// A date, time or both, as it was written.
    Datetime(String),
    /// A list.
    Array(Vec<Spanned<Self>>),
    /// A table.
    Table(Table),
}

impl Value {
    /// What it is, with an article, for messages.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A table, entries in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Keys and values.
    pub entries: Vec<(Spanned<String>, Spanned<Value>)>,
}

impl Table {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Spanned<Value>> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<(&Spanned<String>, &Spanned<Value>)> {
        self.entries.iter().find(|(k, _)| k.value == key).map(|(k, v)| (k, v))
    }

    /// Keys in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(k, _)| k.value.as_str())
    }
}

/// Parses one file. Syntax errors are reported; none when the text is so broken
/// that judging the rest of it would only add noise.
pub(crate) fn parse(file: FileId, text: &str, out: &mut Diagnostics) -> Option<Table> {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|e| e.span().map(|s| s.start));
    let mut only_duplicates = true;
    let mut reported_until = 0;
    for error in &errors {
        let range = error.span().unwrap_or(0..0);
        let span = Span::new(file, range.start, range.end);
        only_duplicates &= error.message() == DUPLICATE;
        if range.start >= reported_until {
            out.push(syntax_error(span, error.message(), text));
            reported_until = follow_ups_end(text, &range, error.message());
        }
    }
    let mut reader = Reader { file, out };
    let table = reader.table(table.into_inner());
    only_duplicates.then_some(table)
}

/// What the parser says of a key that is there already.
const DUPLICATE: &str = "duplicate key";

/// Up to where further errors only repeat this one: the rest of the line, or
/// the body of a table that is there twice.
fn follow_ups_end(text: &str, at: &std::ops::Range<usize>, message: &str) -> usize {
    let start = floor_char(text, at.start);
    let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
    let is_header = text[line_start..start].trim_start().starts_with('[');
    let end = if message == DUPLICATE && is_header { "\n[" } else { "\n" };
    text[start..].find(end).map_or(text.len(), |n| start + n)
}

fn syntax_error(span: Span, message: &str, text: &str) -> Diagnostic {
    let written = text.get(span.start..span.end).unwrap_or("").trim();
    if message == DUPLICATE {
        return Diagnostic::error(span, format!("'{written}' is there twice in the same table"))
            .help("rename one of them or remove it");
    }
    if message.starts_with("string values must be quoted") {
        return if written.is_empty() {
            Diagnostic::error(span, "not valid TOML: the value is missing")
                .help("write it behind the '='; a text stands in quotes")
        } else {
            Diagnostic::error(span, format!("not valid TOML: '{written}' is not a value"))
                .help(format!("a text stands in quotes: \"{written}\""))
        };
    }
    if message.starts_with("invalid basic string, expected `\"`") {
        return Diagnostic::error(span, "not valid TOML: the string is not closed")
            .help("end it with '\"'; a text of several lines stands in ''' or \"\"\"");
    }
    let mut lines = message.lines();
    let first = lines.next().unwrap_or("not TOML");
    let rest: Vec<&str> = lines.collect();
    let help = if rest.is_empty() { None } else { Some(rest.join("; ")) };
    Diagnostic::error(span, format!("not valid TOML: {first}")).help_maybe(help)
}

struct Reader<'a> {
    file: FileId,
    out: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span::new(self.file, range.start, range.end)
    }

    fn table(&mut self, table: DeTable<'_>) -> Table {
        let mut entries: Vec<(Spanned<String>, Spanned<Value>)> = table
            .into_iter()
            .map(|(key, value)| {
                let key_span = self.span(key.span());
                let span = self.span(value.span());
                let value = self.value(value.into_inner(), span);
                let key = Spanned::new(key.into_inner().into_owned(), key_span);
                (key, Spanned::new(value, span))
            })
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        Table { entries }
    }

    fn value(&mut self, value: DeValue<'_>, span: Span) -> Value {
        match value {
            DeValue::String(s) => Value::String(s.into_owned()),
            DeValue::Integer(i) => self.integer(&i, span),
            DeValue::Float(f) => Value::Float(f.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(b) => Value::Boolean(b),
            DeValue::Datetime(d) => Value::Datetime(d.to_string()),
            DeValue::Table(t) => Value::Table(self.table(t)),
            DeValue::Array(list) => Value::Array(
                list.into_iter()
                    .map(|item| {
                        let span = self.span(item.span());
                        Spanned::new(self.value(item.into_inner(), span), span)
                    })
                    .collect(),
            ),
        }
    }

    fn integer(&mut self, integer: &DeInteger<'_>, span: Span) -> Value {
        let value = i64::from_str_radix(integer.as_str(), integer.radix());
        Value::Integer(value.unwrap_or_else(|_| {
            self.out.push(
                Diagnostic::error(span, "the integer does not fit 64 bits")
                    .help(format!("the largest is {}", i64::MAX)),
            );
            0
        }))
    }
}
