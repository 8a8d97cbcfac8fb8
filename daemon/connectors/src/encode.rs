//! The encoder of a sink, built from its plan, and the way of the rows that it
//! cannot express.

use ringmain_codec::{CsvEncodeOptions, EncodeOptions, Encoder, Framing};
use ringmain_config::plan::{EncodePlan, SinkPlan};
use ringmain_slab::{RowRef, SharedSchema, Slab};

use crate::Refusals;
use crate::decode::framing;

pub(crate) struct Encoding {
    encoder: Encoder,
    framing: Framing,
    with_header: bool,
}

impl Encoding {
    pub(crate) fn new(plan: &SinkPlan, schema: &SharedSchema) -> Self {
        let (options, with_header) = options(&plan.encode);
        let encoder = Encoder::new(options, schema.clone());
        Self { encoder, framing: framing(plan.frame), with_header }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// What each file or connection begins with; mostly nothing.
    pub(crate) fn header(&self) -> Vec<u8> {
        let header = if self.with_header { self.encoder.header() } else { b"" };
        let prefix = u32::try_from(header.len()).unwrap_or(u32::MAX);
        match self.framing {
            _ if header.is_empty() => Vec::new(),
            Framing::U32Be => [&prefix.to_be_bytes(), header].concat(),
            Framing::U32Le => [&prefix.to_le_bytes(), header].concat(),
            Framing::Newline | Framing::Whole => header.to_vec(),
        }
    }

    /// Appends the frames of rows from `from` on, until `limit_bytes` more are
    /// there; returns how many rows it took, refused ones included.
    pub(crate) fn rows(
        &mut self,
        slab: &Slab,
        from: usize,
        out: &mut Vec<u8>,
        limit_bytes: usize,
        refusals: &mut dyn Refusals,
    ) -> usize {
        let mut refused = |at, error: ringmain_codec::EncodeError| {
            refusals.row(error.reason(), &error.to_string(), slab.row(at));
        };
        self.encoder.encode_slab(slab, from, out, limit_bytes, self.framing, &mut refused)
    }

    /// Appends the frame of one row, or refuses the row and leaves `out` as it
    /// was; false then.
    pub(crate) fn row(
        &mut self,
        row: RowRef<'_>,
        out: &mut Vec<u8>,
        refusals: &mut dyn Refusals,
    ) -> bool {
        let start = out.len();
        let prefixed = matches!(self.framing, Framing::U32Be | Framing::U32Le);
        if prefixed {
            out.extend_from_slice(&[0; 4]);
        }
        let mut done = self.encoder.encode(row, out);
        if prefixed {
            match u32::try_from(out.len() - start - 4) {
                Ok(len) if self.framing == Framing::U32Le => {
                    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
                }
                Ok(len) => out[start..start + 4].copy_from_slice(&len.to_be_bytes()),
                Err(_) => done = done.and(Err(ringmain_codec::EncodeError::TooLong)),
            }
        }
        if let Err(error) = done {
            out.truncate(start);
            refusals.row(error.reason(), &error.to_string(), row);
            return false;
        }
        if self.framing == Framing::Newline {
            out.push(b'\n');
        }
        true
    }
}

fn options(plan: &EncodePlan) -> (EncodeOptions, bool) {
    match plan {
        EncodePlan::Json => (EncodeOptions::Json, false),
        EncodePlan::Text => (EncodeOptions::Text, false),
        EncodePlan::Csv { columns, header, delimiter } => {
            let options = CsvEncodeOptions { columns: columns.clone(), delimiter: *delimiter };
            (EncodeOptions::Csv(options), *header)
        }
    }
}
