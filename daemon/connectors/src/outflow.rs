//! The rows of a sink on their way into one stream.
//!
//! Invariants: buffers leave in the order of their rows and begin and end with
//! whole frames. Bounds: `buffer` bytes ([`Room`]); [`WRITES_MAX`] buffers are
//! in the driver's hands.

use std::collections::VecDeque;
use std::io;

use ringmain_runtime::io::{Handle, Io, OpId};
use ringmain_slab::Slab;

use crate::Refusals;
use crate::encode::Encoding;
use crate::outbuf::{Buf, NO_SLAB, Room};

const WRITES_MAX: usize = 2;
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
        if linger_over && self.flights.is_empty() && self.sealed.is_empty() {
            self.sealed.extend(self.filling.take_if(|buf| !buf.bytes.is_empty()));
        }
        while self.flights.len() < WRITES_MAX
            && let Some(buf) = self.sealed.pop_front()
        {
            let tag = self.first_tag + self.sequence % WRITES_MAX as u32;
            self.sequence = self.sequence.wrapping_add(1);
            self.flights.push_back(buf.first_slab);
            io.write(handle, buf.bytes, None, OpId { owner, tag });
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
            self.room.give_back(bytes);
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

    pub(crate) fn slab_end(&mut self) {
        self.room.slab_end();
    }

    pub(crate) fn finished(&self) -> u64 {
        let bufs = self.returned.iter().chain(&self.sealed).map(|buf| buf.first_slab);
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
        !self.is_writing() && !self.has_more()
    }
}
