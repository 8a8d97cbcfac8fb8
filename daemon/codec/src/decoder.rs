//! From chunks of a stream to rows.

use memchr::{memchr, memrchr};
use ringmain_base::Reason;
use ringmain_slab::{SharedSchema, Slab};

use crate::csv::CsvRows;
use crate::framer::{Framer, Skip};
use crate::json::JsonRows;
use crate::message::MessageRows;
use crate::options::{DecodeOptions, Framing};
use crate::refused::{Bad, Fail, Progress, Refused};

/// Lines are checked for UTF-8 in blocks of this size, which stay in the
/// first-level cache until they are parsed; when a slab is full, at most one
/// block is checked again.
const BLOCK_BYTES: usize = 16 << 10;

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

    fn feed_lines(&mut self, framer: &mut Framer, chunk: &[u8], out: &mut Out<'_>) {
        while out.progress.consumed < chunk.len() {
            if !self.has_room(out) {
                return;
            }
            let rest = &chunk[out.progress.consumed..];
            let before = out.progress.consumed;
            let fresh = framer.carry.is_empty() && framer.skip.is_none();
            match &mut self.format {
                Format::Json(_) if fresh => self.json_block(framer, rest, out),
                _ => self.line(framer, rest, out),
            }
            if out.progress.full || out.progress.consumed == before {
                return;
            }
        }
    }

    /// Decodes the whole lines at the beginning of `rest`, or what there is of
    /// one line.
    fn json_block(&mut self, framer: &mut Framer, rest: &[u8], out: &mut Out<'_>) {
        let block = &rest[..rest.len().min(BLOCK_BYTES).min(framer.frame_bytes + 1)];
        let whole = memrchr(b'\n', block).map_or(0, |at| at + 1);
        let text = valid_lines(&block[..whole]);
        if text.is_empty() {
            return self.line(framer, rest, out);
        }
        let mut at = 0;
        while at < text.len() {
            if at > 0 && !self.has_room(out) {
                return;
            }
            let Format::Json(rows) = &mut self.format else { return };
            let bytes = match rows.line(&text[at..], out.slab, out.ts) {
                Ok(bytes) => {
                    out.progress.rows += 1;
                    bytes
                }
                Err((len, fail)) => {
                    let line = &text.as_bytes()[at..at + len];
                    if !self.odd_line(framer, line, fail, out) {
                        return;
                    }
                    len + 1
                }
            };
            at += bytes;
            out.progress.consumed += bytes;
            framer.offset += bytes as u64;
        }
    }

    /// A line that did not become a row at once. False when the slab is full.
    #[cold]
    fn odd_line(
        &mut self,
        framer: &mut Framer,
        line: &[u8],
        fail: Fail,
        out: &mut Out<'_>,
    ) -> bool {
        let line = trimmed(Framing::Newline, line);
        let marked = framer.offset == 0 && line.starts_with(BOM);
        match fail {
            Fail::Bad(bad) if !marked && !is_blank(line) => {
                self.refuse_bad(framer.offset, line, bad, out);
                true
            }
            _ => self.frame(framer, line, out),
        }
    }

    /// Takes what `rest` has of the line or record at hand.
    fn line(&mut self, framer: &mut Framer, rest: &[u8], out: &mut Out<'_>) {
        if framer.skip.is_some() {
            return self.skip_line(framer, rest, 0, out);
        }
        let allowed = framer.allowed();
        let within = &rest[..rest.len().min(allowed + 1)];
        let quoting = framer.csv.quoting;
        let end = match &self.format {
            Format::Csv(rows) => rows.record_end(&mut framer.csv.quoting, within),
            _ => memchr(b'\n', within),
        };
        let Some(end) = end else {
            if rest.len() > allowed {
                framer.csv.quoting = Default::default();
                framer.begin_skip();
                return self.skip_line(framer, rest, allowed, out);
            }
            framer.keep(rest);
            out.progress.consumed += rest.len();
            return;
        };
        let carried = framer.carry.len();
        let done = if carried == 0 {
            self.frame(framer, trimmed(Framing::Newline, &rest[..end]), out)
        } else {
            framer.keep(&rest[..end]);
            let carry = std::mem::take(&mut framer.carry);
            let done = self.frame(framer, trimmed(Framing::Newline, &carry), out);
            framer.carry = carry;
            done
        };
        if done {
            framer.advance((carried + end + 1) as u64);
            out.progress.consumed += end + 1;
        } else {
            framer.carry.truncate(carried);
            framer.csv.quoting = quoting;
        }
    }

    /// Passes over an overlong line, whose end is not before `from`.
    fn skip_line(&mut self, framer: &mut Framer, rest: &[u8], from: usize, out: &mut Out<'_>) {
        let Some(mut skip) = framer.skip.take() else { return };
        match memchr(b'\n', &rest[from..]) {
            Some(n) => {
                skip.pass(&rest[..from + n]);
                self.too_long(framer, &skip, None, out);
                framer.advance(skip.passed + 1);
                out.progress.consumed += from + n + 1;
            }
            None => {
                skip.pass(rest);
                framer.skip = Some(skip);
                out.progress.consumed += rest.len();
            }
        }
    }

    fn feed_prefixed(&mut self, framer: &mut Framer, chunk: &[u8], out: &mut Out<'_>) {
        loop {
            let rest = &chunk[out.progress.consumed..];
            let Some(len) = framer.declared() else {
                let take = rest.len().min(4 - framer.prefix_len);
                if take == 0 {
                    return;
                }
                framer.prefix[framer.prefix_len..][..take].copy_from_slice(&rest[..take]);
                framer.prefix_len += take;
                out.progress.consumed += take;
                continue;
            };
            if len > framer.frame_bytes {
                if !self.skip_prefixed(framer, rest, len, out) {
                    return;
                }
                continue;
            }
            let missing = len - framer.carry.len();
            if rest.len() < missing {
                framer.keep(rest);
                out.progress.consumed += rest.len();
                return;
            }
            let done = if len == 0 {
                true
            } else if !self.has_room(out) {
                false
            } else if framer.carry.is_empty() {
                self.frame(framer, &rest[..len], out)
            } else {
                framer.keep(&rest[..missing]);
                out.progress.consumed += missing;
                let carry = std::mem::take(&mut framer.carry);
                let done = self.frame(framer, &carry, out);
                framer.carry = carry;
                done
            };
            if !done {
                return;
            }
            if framer.carry.is_empty() {
                out.progress.consumed += len;
            }
            framer.advance(len as u64 + 4);
        }
    }

    /// Passes over an overlong frame with a prefix. False when it goes on.
    fn skip_prefixed(
        &mut self,
        framer: &mut Framer,
        rest: &[u8],
        len: usize,
        out: &mut Out<'_>,
    ) -> bool {
        if framer.skip.is_none() {
            framer.begin_skip();
        }
        let Some(mut skip) = framer.skip.take() else { return true };
        let take = (len as u64 - skip.passed).min(rest.len() as u64) as usize;
        skip.pass(&rest[..take]);
        out.progress.consumed += take;
        if skip.passed < len as u64 {
            framer.skip = Some(skip);
            return false;
        }
        self.too_long(framer, &skip, None, out);
        framer.advance(len as u64 + 4);
        true
    }

    fn feed_whole(&mut self, framer: &mut Framer, chunk: &[u8], out: &mut Out<'_>) {
        if !chunk.is_empty() {
            if !self.has_room(out) {
                return;
            }
            if chunk.len() > framer.frame_bytes {
                framer.begin_skip();
                if let Some(mut skip) = framer.skip.take() {
                    skip.pass(chunk);
                    self.too_long(framer, &skip, None, out);
                }
            } else if !self.frame(framer, chunk, out) {
                return;
            }
        }
        framer.advance(chunk.len() as u64);
        out.progress.consumed = chunk.len();
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

/// The lines at the beginning of `lines` that are UTF-8.
fn valid_lines(lines: &[u8]) -> &str {
    if let Ok(text) = simdutf8::basic::from_utf8(lines) {
        return text;
    }
    let valid = &lines[..valid_up_to(lines)];
    let whole = memrchr(b'\n', valid).map_or(0, |at| at + 1);
    std::str::from_utf8(&valid[..whole]).unwrap_or_default()
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
