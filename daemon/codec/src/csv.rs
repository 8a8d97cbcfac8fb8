//! CSV records (RFC 4180): where they end, their fields, their rows.
//!
//! A quote is special only where a field begins; inside quotes, two quotes are
//! one, and delimiters and line ends are text. A quote elsewhere is text.
//! Refused: something between a closing quote and the next delimiter, a record
//! with more or fewer fields than there are columns, text that is not UTF-8.
//! Two columns of the same name are one field, which the last one wins.

use memchr::{memchr, memchr2};
use ringmain_slab::{REST_SLOT, RowBuilder, Scalar, Scratch, SharedSchema, Slab};

use crate::json::{self, Number};
use crate::options::{CsvOptions, CsvTypes};
use crate::refused::{Bad, Fail, bad};

/// What is kept per stream: the columns of its header, and where between
/// quotes the partial record ends.
#[derive(Default)]
pub(crate) struct CsvStream {
    columns: Option<Vec<Column>>,
    header_seen: bool,
    pub(crate) quoting: Quoting,
}

/// A column's name, and its slot if there is one.
#[derive(Clone)]
struct Column {
    name: String,
    slot: Option<u16>,
}

/// Where in a record a byte stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// At the beginning of a field.
    #[default]
    Start,
    /// In a field without quotes, or behind a closing one.
    Plain,
    /// Between quotes.
    Quoted,
    /// Behind a quote that ends the field, unless another quote follows.
    Quote,
}

/// Decodes CSV records into rows of one flow.
pub(crate) struct CsvRows {
    schema: SharedSchema,
    version: u16,
    scratch: Scratch,
    options: CsvOptions,
    /// The fields of the record at hand: its text without quotes, and where
    /// each field ends in it.
    text: String,
    ends: Vec<usize>,
}

impl CsvRows {
    /// # Panics
    /// When delimiter and quote are not two ASCII characters that may stand
    /// in a line.
    pub(crate) fn new(options: CsvOptions, schema: SharedSchema) -> Self {
        let fits = |byte: u8| byte.is_ascii() && byte != b'\n' && byte != b'\r';
        assert!(
            fits(options.delimiter) && fits(options.quote) && options.delimiter != options.quote,
            "delimiter and quote of CSV are two ASCII characters"
        );
        let version = schema.snapshot().version();
        let (scratch, text, ends) = (Scratch::default(), String::new(), Vec::new());
        Self { schema, version, scratch, options, text, ends }
    }

    pub(crate) fn refresh(&mut self) {
        self.version = self.schema.snapshot().version();
    }

    /// Where the record that goes on with `bytes` has its line feed.
    pub(crate) fn record_end(&self, quoting: &mut Quoting, bytes: &[u8]) -> Option<usize> {
        let (delimiter, quote) = (self.options.delimiter, self.options.quote);
        let mut at = 0;
        while at < bytes.len() {
            match *quoting {
                Quoting::Quoted => {
                    at += memchr(quote, &bytes[at..])? + 1;
                    *quoting = Quoting::Quote;
                }
                Quoting::Plain => {
                    at += memchr2(delimiter, b'\n', &bytes[at..])?;
                    let ended = bytes[at] == b'\n';
                    *quoting = Quoting::Start;
                    if ended {
                        return Some(at);
                    }
                    at += 1;
                }
                Quoting::Start | Quoting::Quote => {
                    let byte = bytes[at];
                    if byte == b'\n' {
                        *quoting = Quoting::Start;
                        return Some(at);
                    }
                    *quoting = match byte {
                        _ if byte == quote => Quoting::Quoted,
                        _ if byte == delimiter => Quoting::Start,
                        _ => Quoting::Plain,
                    };
                    at += 1;
                }
            }
        }
        None
    }

    /// Decodes one record, without its line end. False when it was a header.
    pub(crate) fn record(
        &mut self,
        stream: &mut CsvStream,
        frame: &[u8],
        slab: &mut Slab,
        ts: i64,
    ) -> Result<bool, Fail> {
        self.split(frame)?;
        if self.options.header && !stream.header_seen {
            self.header(stream);
            return Ok(false);
        }
        if stream.columns.is_none() {
            self.named(stream);
        }
        let columns = stream.columns.as_deref().unwrap_or_default();
        if columns.len() != self.ends.len() {
            let (what, at) = if columns.len() < self.ends.len() {
                ("more fields than columns", columns.len())
            } else {
                ("fewer fields than columns", self.ends.len())
            };
            let at = at.checked_sub(1).map_or(0, |last| self.ends[last].min(frame.len()));
            return Err(Bad { at, what }.into());
        }
        let wide = columns.iter().any(|column| column.slot.is_none());
        let slots = if wide { REST_SLOT + 1 } else { self.version };
        let mut row = slab.build(self.version, slots, &mut self.scratch);
        let mut start = 0;
        for (column, end) in columns.iter().zip(&self.ends) {
            let value = &self.text[start..*end];
            start = *end;
            if let (Some(slot), false) = (column.slot, value.is_empty()) {
                row.set(slot, typed(value, self.options.types));
            }
        }
        if wide {
            rest(&mut row, columns, &self.text, &self.ends, self.options.types);
        }
        row.finish(ts).map_err(|_| Fail::Full)?;
        Ok(true)
    }

    /// Takes `frame` as the header of a stream. False when it is not sound.
    pub(crate) fn read_header(&mut self, stream: &mut CsvStream, frame: &[u8]) -> bool {
        let sound = self.split(frame).is_ok();
        if sound && self.options.header {
            self.header(stream);
        }
        sound
    }

    /// Splits a record into `text` and `ends`.
    fn split(&mut self, frame: &[u8]) -> Result<(), Bad> {
        let frame = match simdutf8::basic::from_utf8(frame) {
            Ok(text) => text,
            Err(_) => return bad(crate::decoder::valid_up_to(frame), "invalid UTF-8"),
        };
        self.text.clear();
        self.ends.clear();
        let (delimiter, quote) = (self.options.delimiter, self.options.quote);
        let bytes = frame.as_bytes();
        let mut at = 0;
        loop {
            if bytes.get(at) == Some(&quote) {
                at = self.quoted(frame, at)?;
                if at < bytes.len() && bytes[at] != delimiter {
                    return bad(at, "something follows a closing quote");
                }
            } else {
                let end = memchr(delimiter, &bytes[at..]).map_or(bytes.len(), |n| at + n);
                self.text.push_str(&frame[at..end]);
                at = end;
            }
            self.ends.push(self.text.len());
            if at >= bytes.len() {
                return Ok(());
            }
            at += 1;
        }
    }

    /// Takes the quoted field at `at`; where it ends.
    fn quoted(&mut self, frame: &str, at: usize) -> Result<usize, Bad> {
        let (bytes, quote) = (frame.as_bytes(), self.options.quote);
        let mut from = at + 1;
        loop {
            let Some(n) = memchr(quote, &bytes[from..]) else {
                return bad(at, "a quoted field does not end");
            };
            self.text.push_str(&frame[from..from + n]);
            from += n + 1;
            if bytes.get(from) != Some(&quote) {
                return Ok(from);
            }
            self.text.push(char::from(quote));
            from += 1;
        }
    }

    /// Takes the record at hand as the header.
    fn header(&mut self, stream: &mut CsvStream) {
        stream.header_seen = true;
        if !self.options.columns.is_empty() {
            return;
        }
        let mut names = Vec::new();
        let mut start = 0;
        for end in &self.ends {
            names.push(self.text[start..*end].to_owned());
            start = *end;
        }
        stream.columns = Some(self.columns(names));
    }

    /// Takes the configured columns, or `c1`, `c2`, ... as many as the record
    /// at hand has.
    fn named(&mut self, stream: &mut CsvStream) {
        let mut names = self.options.columns.clone();
        if names.is_empty() {
            names = (1..=self.ends.len()).map(|n| format!("c{n}")).collect();
        }
        stream.columns = Some(self.columns(names));
    }

    fn columns(&mut self, names: Vec<String>) -> Vec<Column> {
        let column = |name: String| Column { slot: self.schema.arrive(&name).ok(), name };
        let columns = names.into_iter().map(column).collect();
        self.version = self.schema.snapshot().version();
        columns
    }
}

/// Puts the columns without a slot into a map at the end of the row.
fn rest(row: &mut RowBuilder<'_>, columns: &[Column], text: &str, ends: &[usize], types: CsvTypes) {
    let mut tree = row.tree(REST_SLOT);
    let _opened = tree.map();
    for (at, column) in columns.iter().enumerate() {
        let start = at.checked_sub(1).map_or(0, |before| ends[before]);
        let value = &text[start..ends[at]];
        let again = columns[at + 1..].iter().any(|later| later.name == column.name);
        if column.slot.is_none() && !value.is_empty() && !again {
            tree.key(&column.name);
            tree.scalar(typed(value, types));
        }
    }
    tree.close();
    tree.finish();
}

/// The value of a field that is not empty.
fn typed(text: &str, types: CsvTypes) -> Scalar<'_> {
    let numeric = matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9'));
    if types == CsvTypes::Text || !numeric {
        return Scalar::Str(text);
    }
    match json::number(text, 0) {
        Ok((Number::Int(value), end)) if end == text.len() => Scalar::Int(value),
        Ok((Number::Float(value), end)) if end == text.len() && is_decimal(text) => {
            Scalar::Float(value)
        }
        _ => Scalar::Str(text),
    }
}

/// Not an exponent, and not `-0`.
fn is_decimal(number: &str) -> bool {
    number.contains('.') && !number.contains(['e', 'E'])
}
