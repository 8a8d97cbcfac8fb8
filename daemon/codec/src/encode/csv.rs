//! Rows as CSV records (RFC 4180), quoted only where needed. Nested values are
//! JSON text, null and absent fields are empty.

use ringmain_slab::{RowRef, ValueRef};

use super::column::Column;
use super::json::{self, JsonWriter};
use super::{EncodeError, base64};
use crate::options::CsvEncodeOptions;

pub(crate) struct CsvWriter {
    columns: Vec<Column>,
    delimiter: u8,
    header: Vec<u8>,
    /// The text of the field at hand.
    text: Vec<u8>,
}

impl CsvWriter {
    pub(crate) fn new(options: CsvEncodeOptions) -> Self {
        let mut header = Vec::new();
        for (at, name) in options.columns.iter().enumerate() {
            if at > 0 {
                header.push(options.delimiter);
            }
            put(name.as_bytes(), options.delimiter, &mut header);
        }
        header.push(b'\n');
        let columns = options.columns.into_iter().map(Column::new).collect();
        Self { columns, delimiter: options.delimiter, header, text: Vec::new() }
    }

    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    pub(crate) fn row(
        &mut self,
        row: RowRef<'_>,
        json: &mut JsonWriter,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let schema = json.schema_of(row);
        for (at, column) in self.columns.iter_mut().enumerate() {
            if at > 0 {
                out.push(self.delimiter);
            }
            match column.value(row, schema) {
                ValueRef::Absent | ValueRef::Null => {}
                ValueRef::Str(text) => put(text.as_bytes(), self.delimiter, out),
                ValueRef::Bytes(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => put(text.as_bytes(), self.delimiter, out),
                    Err(_) => put(base64::text(bytes).as_bytes(), self.delimiter, out),
                },
                other => {
                    self.text.clear();
                    json::append(other, &mut self.text)?;
                    put(&self.text, self.delimiter, out);
                }
            }
        }
        if out.len() == start {
            // An empty line is no record to most readers.
            out.extend_from_slice(b"\"\"");
        }
        Ok(())
    }
}

/// Appends a field, in quotes if it needs them.
fn put(text: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special = |b: &u8| matches!(*b, b'"' | b'\n' | b'\r') || *b == delimiter;
    if !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for part in text.split_inclusive(|b| *b == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}
