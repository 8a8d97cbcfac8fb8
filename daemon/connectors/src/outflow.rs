//! The rows of a sink on their way into one stream.
//!
//! Invariants: buffers leave in the order of their rows and begin and end with
//! whole frames. Bounds: `buffer` bytes ([`Room`]); [`WRITES_MAX`] buffers are
//! in the driver's hands.
//!
//! Where the other side acknowledges lines, what is written is kept until it
//! has, and goes out again on the next connection.

use std::collections::VecDeque;
use std::io;

use ringmain_base::Reason;
use ringmain_codec::Framing;
use ringmain_runtime::io::{Handle, Io, OpId};
use ringmain_slab::Slab;

use crate::Refusals;
use crate::encode::Encoding;
use crate::outbuf::{Buf, NO_SLAB, Room};
use crate::unsent::{Unsent, What};

pub(crate) const WRITES_MAX: usize = 2;
/// What one write holds on a socket: larger ones are no faster.
pub(crate) const STREAM_CHUNK_BYTES: usize = 64 << 10;

pub(crate) struct Outflow {
    encoding: Encoding,
    room: Room,
    filling: Option<Buf>,
    sealed: VecDeque<Buf>,
    /// First slabs of the buffers that are being written.
    flights: VecDeque<u64>,
    /// Buffers that came back with an error, in their order.
    returned: VecDeque<Buf>,
    first_tag: u32,
    sequence: u32,
    acks: Option<Unacked>,
}

/// What the connection took and the other side has not acknowledged.
#[derive(Default)]
struct Unacked {
    bufs: VecDeque<Buf>,
    /// Lines of this connection that were given to the driver, that the other
    /// side says it has, and that are taken off. An acknowledgement may be
    /// heard of before the end of the write that it is for.
    sent: u64,
    told: u64,
    acked: u64,
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

impl Outflow {
    /// Tags from `first_tag` on, [`WRITES_MAX`] of them, are of writes.
    pub(crate) fn new(encoding: Encoding, buffer_bytes: u64, first_tag: u32) -> Self {
        Self {
            encoding,
            room: Room::new(buffer_bytes, STREAM_CHUNK_BYTES),
            filling: None,
            sealed: VecDeque::new(),
            flights: VecDeque::new(),
            returned: VecDeque::new(),
            first_tag,
            sequence: 0,
            acks: None,
        }
    }

    /// The other side acknowledges lines: nothing is accepted before.
    pub(crate) fn with_acks(mut self, on: bool) -> Self {
        self.acks = on.then(Unacked::default);
        self
    }

    pub(crate) fn has_acks(&self) -> bool {
        self.acks.is_some()
    }

    /// Something is written and not acknowledged.
    pub(crate) fn is_owed(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| !acks.bufs.is_empty())
    }

    /// The other side has accepted so many lines of this connection. `None`
    /// when that is more than it was sent.
    pub(crate) fn acked(&mut self, total: u64) -> Option<()> {
        let acks = self.acks.as_mut()?;
        if total > acks.sent {
            return None;
        }
        acks.told = acks.told.max(total);
        self.take_off_acked();
        Some(())
    }

    /// Lets go of what is written and acknowledged.
    fn take_off_acked(&mut self) {
        let Some(acks) = &mut self.acks else { return };
        while acks.acked < acks.told
            && let Some(mut buf) = acks.bufs.pop_front()
        {
            let here = lines(&buf.bytes);
            if acks.acked + here <= acks.told {
                acks.acked += here;
                self.room.give_back(buf.bytes);
                continue;
            }
            // A part of it: the rest begins with a whole line.
            let nth = (acks.told - acks.acked - 1) as usize;
            let cut = memchr::memchr_iter(b'\n', &buf.bytes).nth(nth).map_or(0, |at| at + 1);
            buf.bytes.drain(..cut);
            self.room.sub(cut);
            acks.acked = acks.told;
            acks.bufs.push_front(buf);
        }
    }

    /// Encodes rows from `from` on while there is room; returns how many.
    pub(crate) fn push(&mut self, slab: &Slab, from: usize, refusals: &mut dyn Refusals) -> usize {
        let chunk = self.room.chunk_bytes();
        let mut at = from;
        while at < slab.len() && self.room.is_open() {
            let buf = self.filling.get_or_insert_with(|| self.room.take());
            if buf.bytes.is_empty() {
                buf.first_slab = self.room.slab();
            }
            let before = buf.bytes.len();
            let limit = chunk.saturating_sub(before).max(1);
            at += self.encoding.rows(slab, at, &mut buf.bytes, limit, refusals);
            self.room.add(buf.bytes.len() - before);
            if buf.bytes.len() >= chunk {
                self.sealed.extend(self.filling.take());
            }
        }
        at - from
    }

    /// Writes what is complete; also what is not, if nothing is under way.
    pub(crate) fn submit(
        &mut self,
        handle: Handle,
        owner: u32,
        linger_over: bool,
        io: &mut dyn Io,
    ) {
        self.submit_as(handle, owner, linger_over, |bytes| bytes, io);
    }

    /// The same, with something done to the bytes of each write; what
    /// [`Outflow::written`] is given must be as it was.
    pub(crate) fn submit_as(
        &mut self,
        handle: Handle,
        owner: u32,
        linger_over: bool,
        mut wire: impl FnMut(Vec<u8>) -> Vec<u8>,
        io: &mut dyn Io,
    ) {
        if linger_over && self.flights.is_empty() && self.sealed.is_empty() {
            self.sealed.extend(self.filling.take_if(|buf| !buf.bytes.is_empty()));
        }
        while self.flights.len() < WRITES_MAX
            && let Some(buf) = self.sealed.pop_front()
        {
            let tag = self.first_tag + self.sequence % WRITES_MAX as u32;
            self.sequence = self.sequence.wrapping_add(1);
            self.flights.push_back(buf.first_slab);
            if let Some(acks) = &mut self.acks {
                acks.sent += lines(&buf.bytes);
            }
            io.write(handle, wire(buf.bytes), None, OpId { owner, tag });
        }
    }

    /// A write has ended; returns the bytes that were accepted. Of a write
    /// that failed, all is kept for another try; `cut` leaves out what was
    /// written of it.
    pub(crate) fn written(
        &mut self,
        mut bytes: Vec<u8>,
        written: usize,
        result: io::Result<()>,
        cut: bool,
    ) -> (usize, io::Result<()>) {
        let first_slab = self.flights.pop_front().unwrap_or(NO_SLAB);
        if result.is_ok() {
            let len = bytes.len();
            match &mut self.acks {
                Some(acks) => acks.bufs.push_back(Buf { bytes, first_slab }),
                None => self.room.give_back(bytes),
            }
            self.take_off_acked();
            return (len, Ok(()));
        }
        let mut accepted = 0;
        if cut {
            bytes.drain(..written);
            self.room.sub(written);
            accepted = written;
        }
        self.returned.push_back(Buf { bytes, first_slab });
        (accepted, result)
    }

    /// What came back goes out again first. A new connection begins with its
    /// header; the one that did not arrive is dropped.
    pub(crate) fn restart(&mut self, with_header: bool) {
        debug_assert!(self.flights.is_empty(), "a write is still under way");
        while let Some(buf) = self.returned.pop_back() {
            self.sealed.push_front(buf);
        }
        if let Some(acks) = &mut self.acks {
            (acks.sent, acks.told, acks.acked) = (0, 0, 0);
            while let Some(buf) = acks.bufs.pop_back() {
                self.sealed.push_front(buf);
            }
        }
        if with_header {
            while self.sealed.front().is_some_and(|buf| buf.first_slab == NO_SLAB)
                && let Some(header) = self.sealed.pop_front()
            {
                self.room.give_back(header.bytes);
            }
            let bytes = self.encoding.header();
            if !bytes.is_empty() {
                self.room.add(bytes.len());
                self.sealed.push_front(Buf { bytes, first_slab: NO_SLAB });
            }
        }
    }

    /// Gives up everything that is not accepted. Nothing may be under way.
    pub(crate) fn take_unsent(&mut self) -> Unsent {
        let finished = self.finished();
        self.restart(false);
        let bufs = self.sealed.drain(..).chain(self.filling.take());
        let bufs = bufs.filter(|buf| buf.first_slab != NO_SLAB && !buf.bytes.is_empty());
        let from_there = |buf: Buf| Buf { first_slab: buf.first_slab - finished, ..buf };
        let what = What::Frames(bufs.map(from_there).collect());
        Unsent { what, slabs: self.room.slab() - finished }
    }

    /// Goes on with what another gave up; nothing has been pushed yet.
    pub(crate) fn inherit(&mut self, unsent: Unsent) {
        let Unsent { what: What::Frames(bufs), slabs } = unsent else {
            debug_assert!(false, "only where sinks_hand_over says so");
            return;
        };
        self.room.go_on(slabs);
        for buf in bufs {
            self.room.add(buf.bytes.len());
            self.sealed.push_back(buf);
        }
    }

    /// Refuses every frame that waits, as undelivered. Nothing may be under
    /// way.
    pub(crate) fn give_up(&mut self, why: &str, refusals: &mut dyn Refusals) {
        debug_assert!(self.flights.is_empty(), "a write is still under way");
        let framing = self.encoding.framing();
        let unacked = self.acks.iter_mut().flat_map(|acks| acks.bufs.drain(..));
        let bufs = unacked.chain(self.returned.drain(..)).chain(self.sealed.drain(..));
        let bufs = bufs.chain(self.filling.take());
        for buf in bufs {
            if buf.first_slab != NO_SLAB {
                for frame in frames(&buf.bytes, framing) {
                    refusals.bytes(Reason::Undelivered, why, "", 0, frame);
                }
            }
            self.room.give_back(buf.bytes);
        }
    }

    pub(crate) fn slab_end(&mut self) {
        self.room.slab_end();
    }

    pub(crate) fn finished(&self) -> u64 {
        let unacked = self.acks.iter().flat_map(|acks| &acks.bufs);
        let bufs = unacked.chain(&self.returned).chain(&self.sealed).map(|buf| buf.first_slab);
        let filling = self.filling.iter().filter(|buf| !buf.bytes.is_empty());
        let filling = filling.map(|buf| buf.first_slab);
        self.room.finished(bufs.chain(self.flights.iter().copied()).chain(filling).min())
    }

    /// A write is under way.
    pub(crate) fn is_writing(&self) -> bool {
        !self.flights.is_empty()
    }

    /// There are bytes that no write has taken up.
    pub(crate) fn has_more(&self) -> bool {
        let filled = self.filling.as_ref().is_some_and(|buf| !buf.bytes.is_empty());
        filled || !self.sealed.is_empty() || !self.returned.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.is_writing() && !self.has_more() && !self.is_owed()
    }
}

/// The messages of a buffer of whole frames. A text with a line feed inside
/// that was framed by lines comes out as several, as at the other side.
fn frames(mut bytes: &[u8], framing: Framing) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = |of: fn([u8; 4]) -> u32| {
            let prefix = bytes.first_chunk::<4>().map_or(u32::MAX, |prefix| of(*prefix));
            (4, usize::try_from(prefix).unwrap_or(usize::MAX).saturating_add(4))
        };
        let newline = || bytes.iter().position(|b| *b == b'\n');
        let (start, end) = match framing {
            Framing::Newline => (0, newline().unwrap_or(bytes.len())),
            Framing::U32Be => length(u32::from_be_bytes),
            Framing::U32Le => length(u32::from_le_bytes),
            Framing::Whole => (0, bytes.len()),
        };
        let end = end.min(bytes.len());
        let frame = bytes.get(start..end).unwrap_or(bytes);
        let after = end + usize::from(framing == Framing::Newline);
        bytes = bytes.get(after..).unwrap_or_default();
        Some(frame)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_falls_into_the_frames_that_made_it() {
        let all = |bytes: &[u8], framing| frames(bytes, framing).map(<[u8]>::to_vec).collect();
        let lines: Vec<Vec<u8>> = all(b"a\nbc\n", Framing::Newline);
        assert_eq!(lines, [b"a".to_vec(), b"bc".to_vec()]);
        let big: Vec<Vec<u8>> = all(b"\0\0\0\x01a\0\0\0\x02bc", Framing::U32Be);
        assert_eq!(big, [b"a".to_vec(), b"bc".to_vec()]);
        let little: Vec<Vec<u8>> = all(b"\x01\0\0\0a\0\0\0\0\x02\0\0\0bc", Framing::U32Le);
        assert_eq!(little, [b"a".to_vec(), b"".to_vec(), b"bc".to_vec()]);
        let torn: Vec<Vec<u8>> = all(b"\0\0\0\x09a", Framing::U32Be);
        assert_eq!(torn, [b"a".to_vec()]);
    }
}
