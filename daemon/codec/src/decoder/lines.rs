//! Frames that end with a line feed, and CSV records.

use memchr::{memchr, memrchr};

use super::{BOM, Decoder, Format, Out, is_blank, trimmed, valid_up_to};
use crate::framer::Framer;
use crate::options::Framing;
use crate::refused::Fail;

/// Lines are checked for UTF-8 in blocks of this size, which stay in the
/// first-level cache until they are parsed; when a slab is full, at most one
/// block is checked again.
const BLOCK_BYTES: usize = 16 << 10;

impl Decoder {
    pub(super) fn feed_lines(&mut self, framer: &mut Framer, chunk: &[u8], out: &mut Out<'_>) {
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
