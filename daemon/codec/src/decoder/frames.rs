//! Frames with a length before them, and frames that are chunks.

use super::{Decoder, Out};
use crate::framer::Framer;

impl Decoder {
    pub(super) fn feed_prefixed(&mut self, framer: &mut Framer, chunk: &[u8], out: &mut Out<'_>) {
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

    pub(super) fn feed_whole(&mut self, framer: &mut Framer, chunk: &[u8], out: &mut Out<'_>) {
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
}
