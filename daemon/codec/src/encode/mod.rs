//! From rows to bytes.

mod base64;
mod column;
mod csv;
mod json;
pub(crate) mod number;
mod string;

use std::fmt;

use ringmain_base::Reason;
use ringmain_slab::{RowRef, SharedSchema, Slab, ValueRef};

use crate::message::MESSAGE;
use crate::options::{EncodeOptions, Framing};
use column::Column;
use csv::CsvWriter;
use json::JsonWriter;

/// Why a message cannot be written. The message's fault; it belongs to the
/// dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A number is infinite or not a number, which JSON does not have.
    NotFinite,
    /// The field `message`, which the text format writes, is absent or null.
    NoMessage,
    /// The frame is longer than a 32-bit length prefix can say.
    TooLong,
}

impl EncodeError {
    /// The reason to count it under.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::NotFinite => Reason::Encode,
            Self::NoMessage => Reason::Field,
            Self::TooLong => Reason::TooLong,
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "a number is infinite or not a number, which JSON cannot express",
            Self::NoMessage => "there is no field 'message' to write as text",
            Self::TooLong => "the frame is longer than its 32-bit length prefix can say",
        })
    }
}

impl std::error::Error for EncodeError {}

/// The encoder of one sink.
///
/// Bytes become a JSON string when they are UTF-8, and base64 text otherwise.
pub struct Encoder {
    format: Format,
    json: JsonWriter,
}

enum Format {
    Json,
    Text(Column),
    Csv(CsvWriter),
}

impl Encoder {
    /// An encoder of rows whose fields are named by `schema`.
    #[must_use]
    pub fn new(options: EncodeOptions, schema: SharedSchema) -> Self {
        let format = match options {
            EncodeOptions::Json => Format::Json,
            EncodeOptions::Text => Format::Text(Column::new(MESSAGE.to_owned())),
            EncodeOptions::Csv(options) => Format::Csv(CsvWriter::new(options)),
        };
        Self { format, json: JsonWriter::new(schema) }
    }

    /// What a file or connection begins with: the names of CSV columns with
    /// their line end, nothing for other formats. Whether to write it is for
    /// the caller to say.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        match &self.format {
            Format::Csv(csv) => csv.header(),
            _ => b"",
        }
    }

    /// Appends one message to `out`, without framing.
    ///
    /// # Errors
    /// Says why the message cannot be written; `out` is as it was.
    pub fn encode(&mut self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let done = self.append(row, out);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// Appends messages of `slab` from the row `from_row` on, each with its
    /// framing ([`Framing::Whole`] adds none), until `limit_bytes` have been
    /// written or the rows are at their end; how many rows were taken. The
    /// limit is passed by less than one message. Rows that cannot be written
    /// are reported by number and count as taken.
    pub fn encode_slab(
        &mut self,
        slab: &Slab,
        from_row: usize,
        out: &mut Vec<u8>,
        limit_bytes: usize,
        framing: Framing,
        refused: &mut dyn FnMut(usize, EncodeError),
    ) -> usize {
        let start = out.len();
        if matches!(self.format, Format::Json) && framing == Framing::Newline {
            return self.json.lines(slab, from_row, out, limit_bytes, refused);
        }
        let mut at = from_row;
        while at < slab.len() && out.len() - start < limit_bytes {
            if let Err(error) = self.frame(slab.row(at), framing, out) {
                refused(at, error);
            }
            at += 1;
        }
        at.saturating_sub(from_row)
    }

    fn frame(
        &mut self,
        row: RowRef<'_>,
        framing: Framing,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let prefixed = matches!(framing, Framing::U32Be | Framing::U32Le);
        if prefixed {
            out.extend_from_slice(&[0; 4]);
        }
        let mut done = self.append(row, out);
        if prefixed {
            match u32::try_from(out.len() - start - 4) {
                Ok(len) if framing == Framing::U32Le => {
                    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
                }
                Ok(len) => out[start..start + 4].copy_from_slice(&len.to_be_bytes()),
                Err(_) => done = done.and(Err(EncodeError::TooLong)),
            }
        }
        if done.is_err() {
            out.truncate(start);
        } else if framing == Framing::Newline {
            out.push(b'\n');
        }
        done
    }

    fn append(&mut self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match &mut self.format {
            Format::Json => self.json.row(row, out),
            Format::Text(message) => text(message.value(row, self.json.schema_of(row)), out),
            Format::Csv(csv) => csv.row(row, &mut self.json, out),
        }
    }
}

/// Writes a value as text: strings and bytes as they are, anything else as
/// JSON.
fn text(value: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match value {
        ValueRef::Absent | ValueRef::Null => return Err(EncodeError::NoMessage),
        ValueRef::Str(text) => out.extend_from_slice(text.as_bytes()),
        ValueRef::Bytes(bytes) => out.extend_from_slice(bytes),
        other => return json::append(other, out),
    }
    Ok(())
}
