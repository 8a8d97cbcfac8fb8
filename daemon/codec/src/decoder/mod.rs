//! From chunks of a stream to rows.

mod frames;
mod lines;

use ringmain_base::Reason;
use ringmain_slab::{SharedSchema, Slab};

use crate::csv::CsvRows;
use crate::framer::{Framer, Skip};
use crate::json::JsonRows;
use crate::message::MessageRows;
use crate::options::{DecodeOptions, Framing};
use crate::refused::{Bad, Fail, Progress, Refused};

/// Room for small edits of rows behind the last one, unless asked for more.
const HEADROOM_BYTES_DEFAULT: usize = 1024;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The decoder of one source: its view of the schema, its prediction and its
/// scratch memory, shared by all streams of the source.
pub struct Decoder {
    format: Format,
    headroom_bytes: usize,
    detail: String,
}

enum Format {
    Json(Box<JsonRows>),
    Message(MessageRows),
    Csv(Box<CsvRows>),
}

/// Where rows and refusals go during one call.
struct Out<'a> {
    slab: &'a mut Slab,
    ts: i64,
    refused: &'a mut dyn FnMut(Refused<'_>),
    progress: Progress,
}

impl Decoder {
    /// A decoder that adds the fields it meets to `schema`.
    ///
    /// # Panics
    /// When delimiter and quote of CSV are not two different ASCII characters
    /// other than line ends.
    #[must_use]
    pub fn new(options: DecodeOptions, schema: SharedSchema) -> Self {
        let format = match options {
            DecodeOptions::Json => Format::Json(Box::new(JsonRows::new(schema))),
            DecodeOptions::Text => Format::Message(MessageRows::new(true, schema)),
            DecodeOptions::Bytes => Format::Message(MessageRows::new(false, schema)),
            DecodeOptions::Csv(options) => Format::Csv(Box::new(CsvRows::new(options, schema))),
        };
        Self { format, headroom_bytes: HEADROOM_BYTES_DEFAULT, detail: String::new() }
    }

    /// Leaves `bytes` of each slab free, for operators that edit rows.
    #[must_use]
    pub fn with_headroom(mut self, bytes: usize) -> Self {
        self.headroom_bytes = bytes;
        self
    }

    /// Decodes as many whole frames of `chunk` as fit into `slab`; a partial
    /// frame at the end is carried in `framer`. When the answer is `full`,
    /// ship the slab and call again with `chunk[consumed..]`.
    ///
    /// An empty slab always takes at least one frame: it grows within its
    /// budget, and a row that exceeds even that is refused.
    pub fn feed(
        &mut self,
        framer: &mut Framer,
        chunk: &[u8],
        slab: &mut Slab,
        ts: i64,
        refused: &mut dyn FnMut(Refused<'_>),
    ) -> Progress {
        if slab.is_empty() {
            self.refresh();
        }
        let mut out = Out { slab, ts, refused, progress: Progress::default() };
        match framer.framing {
            Framing::Newline => self.feed_lines(framer, chunk, &mut out),
            Framing::U32Be | Framing::U32Le => self.feed_prefixed(framer, chunk, &mut out),
            Framing::Whole => self.feed_whole(framer, chunk, &mut out),
        }
        out.progress
    }

    /// Ends the stream: a last line without line feed is a frame, a partial
    /// length-prefixed frame is refused as truncated. When the answer is
    /// `full`, ship the slab and call again.
    pub fn finish(
        &mut self,
        framer: &mut Framer,
        slab: &mut Slab,
        ts: i64,
        refused: &mut dyn FnMut(Refused<'_>),
    ) -> Progress {
        let mut out = Out { slab, ts, refused, progress: Progress::default() };
        if let Some(skip) = framer.skip.take() {
            let bytes = skip.passed + framer.prefix_len as u64;
            self.too_long(framer, &skip, framer.declared(), &mut out);
            framer.advance(bytes);
            return out.progress;
        }
        let bytes = (framer.carry.len() + framer.prefix_len) as u64;
        if bytes == 0 {
            return out.progress;
        }
        let carry = std::mem::take(&mut framer.carry);
        let whole = match framer.framing {
            Framing::Newline => true,
            _ => framer.declared() == Some(carry.len()),
        };
        if !whole {
            let detail = "the stream ends within a frame";
            out.refuse(Reason::Truncated, detail, framer.offset, carry.len(), &carry);
        } else if !self.frame(framer, trimmed(framer.framing, &carry), &mut out) {
            framer.carry = carry;
            return out.progress;
        }
        framer.csv.quoting = Default::default();
        framer.advance(bytes);
        out.progress
    }

    /// Reads the header of a CSV stream that is resumed behind it: `head` is
    /// the beginning of the stream. False when it holds no whole record.
    pub fn read_header(&mut self, framer: &mut Framer, head: &[u8]) -> bool {
        let Format::Csv(rows) = &mut self.format else { return true };
        let Some(end) = rows.record_end(&mut Default::default(), head) else { return false };
        let head = head.strip_prefix(BOM).map_or(&head[..end], |head| &head[..end - BOM.len()]);
        rows.read_header(&mut framer.csv, trimmed(Framing::Newline, head))
    }

    fn refresh(&mut self) {
        match &mut self.format {
            Format::Json(rows) => rows.refresh(),
            Format::Message(rows) => rows.refresh(),
            Format::Csv(rows) => rows.refresh(),
        }
    }

    /// Whether the slab takes another row without touching its headroom.
    #[inline]
    fn has_room(&self, out: &mut Out<'_>) -> bool {
        let room = out.slab.is_empty() || out.slab.room() > self.headroom_bytes;
        out.progress.full |= !room;
        room
    }

    /// Decodes one whole frame, growing an empty slab if need be. False when
    /// the slab is full.
    fn frame(&mut self, framer: &mut Framer, frame: &[u8], out: &mut Out<'_>) -> bool {
        let blank = match &self.format {
            Format::Csv(_) => frame.is_empty(),
            _ => framer.framing == Framing::Newline && is_blank(frame),
        };
        if blank {
            return true;
        }
        let frame = match &self.format {
            Format::Message(rows) if !rows.is_text() => frame,
            _ if framer.offset == 0 => frame.strip_prefix(BOM).unwrap_or(frame),
            _ => frame,
        };
        loop {
            let done = match &mut self.format {
                Format::Json(rows) => json_frame(rows, frame, out),
                Format::Message(rows) => rows.row(frame, out.slab, out.ts).map(|()| true),
                Format::Csv(rows) => rows.record(&mut framer.csv, frame, out.slab, out.ts),
            };
            match done {
                Ok(row) => {
                    out.progress.rows += u64::from(row);
                    return true;
                }
                Err(Fail::Bad(bad)) => {
                    self.refuse_bad(framer.offset, frame, bad, out);
                    return true;
                }
                Err(Fail::Full) if !out.slab.is_empty() => {
                    out.progress.full = true;
                    return false;
                }
                Err(Fail::Full) => {
                    if out.slab.reserve(out.slab.capacity() * 2).is_err() {
                        let detail = "the row does not fit the memory that one slab may have";
                        out.refuse(Reason::Memory, detail, framer.offset, 0, frame);
                        return true;
                    }
                }
            }
        }
    }

    fn refuse_bad(&mut self, offset: u64, frame: &[u8], bad: Bad, out: &mut Out<'_>) {
        use std::fmt::Write as _;
        self.detail.clear();
        // Writing to a `String` cannot fail.
        let _ = write!(self.detail, "{} at byte {}", bad.what, bad.at);
        out.refuse(Reason::Decode, &self.detail, offset, bad.at, frame);
    }

    fn too_long(
        &mut self,
        framer: &Framer,
        skip: &Skip,
        declared: Option<usize>,
        out: &mut Out<'_>,
    ) {
        use std::fmt::Write as _;
        self.detail.clear();
        let _ = match declared {
            Some(len) => write!(self.detail, "{} of {len} bytes came", skip.passed),
            None => write!(self.detail, "{} bytes", skip.passed),
        };
        let _ = write!(self.detail, ", frame_bytes is {}", framer.frame_bytes);
        let detail = &self.detail;
        out.refuse(Reason::TooLong, detail, framer.offset, framer.frame_bytes, &skip.head);
    }
}

impl Out<'_> {
    fn refuse(&mut self, reason: Reason, detail: &str, offset: u64, column: usize, frame: &[u8]) {
        self.progress.refused += 1;
        (self.refused)(Refused { reason, detail, offset, column: column as u32, frame });
    }
}

fn json_frame(rows: &mut JsonRows, frame: &[u8], out: &mut Out<'_>) -> Result<bool, Fail> {
    match simdutf8::basic::from_utf8(frame) {
        Ok(text) => rows.frame(text, out.slab, out.ts).map(|()| true),
        Err(_) => Err(Bad { at: valid_up_to(frame), what: "invalid UTF-8" }.into()),
    }
}

pub(crate) fn valid_up_to(bytes: &[u8]) -> usize {
    std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
}

/// A line without the carriage return of its line end.
fn trimmed(framing: Framing, line: &[u8]) -> &[u8] {
    match framing {
        Framing::Newline => line.strip_suffix(b"\r").unwrap_or(line),
        _ => line,
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
}
