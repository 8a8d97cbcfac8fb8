//! One open file: what is being filled, written and synced.
//!
//! Invariants: every byte has its offset from the moment its buffer is sealed,
//! so a write that failed is done again at the same place, whatever part of it
//! came through. One write is in flight: were there more, the kernel could
//! finish them in any order, and a process that dies in between would leave a
//! hole of zeros in the file, with good lines behind it. So what is there
//! after a death is the beginning of what was to be written, torn at most at
//! its end. Bytes are bounded by the sink's [`Room`].
//!
//! A write costs a worker of the kernel, which has to be woken, so short ones
//! begin [`PACE_US`] apart; the first after a pause begins at once.
//!
//! A file that several shards share has no offsets: it is appended to, and of a
//! write that came through in part the rest is written.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use ringmain_runtime::io::{EventKind, Handle, Io, OpId};

use super::rotation::Closed;
use crate::outbuf::{Buf, Room};

/// Tags of one file; the last is for syncs.
pub(crate) const TAGS: u32 = 16;
const SYNC_TAG: u32 = TAGS - 1;

/// Between the beginnings of two short writes.
const PACE_US: u64 = 200;
const SHORT_BYTES: usize = 16 << 10;

/// When data is brought to stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncing {
    Never,
    AtClose,
    Every(u64),
    /// Nothing is accepted before.
    Always,
}

#[derive(Debug)]
struct Sealed {
    offset: u64,
    buf: Buf,
}

#[derive(Debug)]
struct Flight {
    tag: u32,
    offset: u64,
    first_slab: u64,
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) path: PathBuf,
    handle: Handle,
    op: OpId,
    shared: bool,
    syncing: Syncing,
    /// Where the next sealed buffer begins.
    end: u64,
    pub(crate) born_us: i64,
    pub(crate) closed: Closed,
    /// No more rows come; it is closed when everything is out.
    pub(crate) retiring: bool,
    pub(crate) used_us: u64,
    filling: Option<Buf>,
    sealed: VecDeque<Sealed>,
    flight: Option<Flight>,
    failed: VecDeque<Sealed>,
    /// Written and, with [`Syncing::Always`], not accepted yet.
    unsynced: VecDeque<Sealed>,
    /// How many of them the sync under way covers.
    covered: Option<usize>,
    /// Since when something written is not synced.
    dirty_us: Option<u64>,
    sequence: u32,
    /// When the last write began.
    began_us: Option<u64>,
}

/// What an event came to.
pub(crate) enum Outcome {
    /// So many bytes were accepted.
    Good(usize),
    /// It has to be done again.
    Failed(io::Error),
}

/// What a target is opened with.
pub(crate) struct Start {
    pub(crate) path: PathBuf,
    pub(crate) handle: Handle,
    pub(crate) op: OpId,
    pub(crate) shared: bool,
    pub(crate) syncing: Syncing,
    pub(crate) size: u64,
    pub(crate) born_us: i64,
    pub(crate) closed: Closed,
}

impl Target {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            path: start.path,
            handle: start.handle,
            op: start.op,
            shared: start.shared,
            syncing: start.syncing,
            end: start.size,
            born_us: start.born_us,
            closed: start.closed,
            retiring: false,
            used_us: 0,
            filling: None,
            sealed: VecDeque::new(),
            flight: None,
            failed: VecDeque::new(),
            unsynced: VecDeque::new(),
            covered: None,
            dirty_us: None,
            sequence: 0,
            began_us: None,
        }
    }

    /// Bytes of the file with everything that was given to it.
    pub(crate) fn bytes(&self) -> u64 {
        self.end + self.filling.as_ref().map_or(0, |buf| buf.bytes.len() as u64)
    }

    /// The buffer that rows go into.
    pub(crate) fn filling(&mut self, take: impl FnOnce() -> Buf) -> &mut Vec<u8> {
        &mut self.filling.get_or_insert_with(take).bytes
    }

    /// No more goes into the buffer at hand.
    pub(crate) fn seal(&mut self) {
        let Some(buf) = self.filling.take_if(|buf| !buf.bytes.is_empty()) else { return };
        let offset = self.end;
        self.end += buf.bytes.len() as u64;
        self.sealed.push_back(Sealed { offset, buf });
    }

    pub(crate) fn seal_if_long(&mut self, chunk_bytes: usize) {
        if self.filling.as_ref().is_some_and(|buf| buf.bytes.len() >= chunk_bytes) {
            self.seal();
        }
    }

    /// When what is not sealed may be written, if there is any: at once when it
    /// is long, or the last write is long ago.
    fn ripe_at_us(&self) -> Option<u64> {
        let bytes = self.filling.as_ref().map_or(0, |buf| buf.bytes.len());
        match bytes {
            0 => None,
            SHORT_BYTES.. => Some(0),
            _ if self.retiring => Some(0),
            _ => Some(self.began_us.map_or(0, |began_us| began_us + PACE_US)),
        }
    }

    /// Writes what is sealed; also what is not, if nothing else is under way
    /// and `now_us` says that it is time.
    pub(crate) fn submit(&mut self, io: &mut dyn Io, now_us: u64, also_open: bool) {
        if also_open
            && self.flight.is_none()
            && self.sealed.is_empty()
            && self.ripe_at_us().is_some_and(|at| now_us >= at)
        {
            self.seal();
        }
        if self.failed.is_empty()
            && self.flight.is_none()
            && let Some(Sealed { offset, buf }) = self.sealed.pop_front()
        {
            let tag = self.op.tag + self.sequence % SYNC_TAG;
            self.sequence = self.sequence.wrapping_add(1);
            self.flight = Some(Flight { tag, offset, first_slab: buf.first_slab });
            self.began_us = Some(now_us);
            let at = (!self.shared).then_some(offset);
            io.write(self.handle, buf.bytes, at, OpId { tag, ..self.op });
        }
    }

    /// Tries again what failed.
    pub(crate) fn retry(&mut self) {
        while let Some(failed) = self.failed.pop_back() {
            self.sealed.push_front(failed);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    pub(crate) fn on_event(
        &mut self,
        tag: u32,
        event: EventKind,
        room: &mut Room,
        now_us: u64,
    ) -> Outcome {
        match event {
            EventKind::Written { buf, written, result } => {
                let Some(flight) = self.flight.take_if(|flight| flight.tag == tag) else {
                    return Outcome::Good(0);
                };
                let buf = Buf { bytes: buf, first_slab: flight.first_slab };
                self.written(Sealed { offset: flight.offset, buf }, written, result, room, now_us)
            }
            EventKind::Synced => self.synced(room),
            EventKind::Failed { error } if tag == self.op.tag + SYNC_TAG => {
                // The kernel may have dropped what it could not write: all of
                // it is written again.
                let covered = self.covered.take().unwrap_or(0);
                self.failed.extend(self.unsynced.drain(..covered));
                self.dirty_us = Some(now_us);
                Outcome::Failed(error)
            }
            _ => Outcome::Good(0),
        }
    }

    fn written(
        &mut self,
        mut sealed: Sealed,
        written: usize,
        result: io::Result<()>,
        room: &mut Room,
        now_us: u64,
    ) -> Outcome {
        if let Err(error) = result {
            if self.shared {
                sealed.buf.bytes.drain(..written);
                room.sub(written);
            }
            self.failed.push_back(sealed);
            return Outcome::Failed(error);
        }
        self.dirty_us.get_or_insert(now_us);
        let bytes = sealed.buf.bytes.len();
        if self.syncing == Syncing::Always {
            self.unsynced.push_back(sealed);
            return Outcome::Good(0);
        }
        room.give_back(sealed.buf.bytes);
        Outcome::Good(bytes)
    }

    fn synced(&mut self, room: &mut Room) -> Outcome {
        let covered = self.covered.take().unwrap_or(0);
        let mut bytes = 0;
        for sealed in self.unsynced.drain(..covered) {
            bytes += sealed.buf.bytes.len();
            room.give_back(sealed.buf.bytes);
        }
        Outcome::Good(bytes)
    }

    /// Syncs what is due; `closing` when the file is about to be closed.
    pub(crate) fn sync(&mut self, io: &mut dyn Io, closing: bool, now_us: u64) {
        let due = match self.syncing {
            Syncing::Never => false,
            Syncing::AtClose => closing,
            Syncing::Every(us) => closing || self.dirty_us.is_some_and(|at| now_us >= at + us),
            Syncing::Always => true,
        };
        if due && self.covered.is_none() && self.dirty_us.is_some() && self.failed.is_empty() {
            self.dirty_us = None;
            self.covered = Some(self.unsynced.len());
            io.sync(self.handle, OpId { tag: self.op.tag + SYNC_TAG, ..self.op });
        }
    }

    /// When the next sync is due.
    pub(crate) fn sync_at_us(&self) -> Option<u64> {
        match self.syncing {
            Syncing::Every(us) if self.covered.is_none() => self.dirty_us.map(|at| at + us),
            _ => None,
        }
    }

    /// The slab of the oldest row that is not accepted.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let bufs = self.sealed.iter().chain(&self.failed).chain(&self.unsynced);
        let slabs = bufs.map(|sealed| sealed.buf.first_slab);
        let slabs = slabs.chain(self.flight.iter().map(|flight| flight.first_slab));
        let filling = self.filling.iter().filter(|buf| !buf.bytes.is_empty());
        slabs.chain(filling.map(|buf| buf.first_slab)).min()
    }

    /// When there is something that a turn could submit.
    pub(crate) fn submit_at_us(&self) -> Option<u64> {
        if self.flight.is_some() || !self.failed.is_empty() {
            return None;
        }
        if self.sealed.is_empty() { self.ripe_at_us() } else { Some(0) }
    }

    /// Everything is written, and synced if that was asked for.
    pub(crate) fn is_idle(&self) -> bool {
        let filled = self.filling.as_ref().is_some_and(|buf| !buf.bytes.is_empty());
        !filled
            && self.sealed.is_empty()
            && self.flight.is_none()
            && self.failed.is_empty()
            && self.unsynced.is_empty()
            && self.covered.is_none()
    }

    /// Brings the file to its end; true when its descriptor is closed.
    pub(crate) fn close(&mut self, io: &mut dyn Io, now_us: u64) -> bool {
        if self.is_idle() && self.syncing != Syncing::Never && self.dirty_us.is_some() {
            self.sync(io, true, now_us);
        }
        if !self.is_idle() {
            return false;
        }
        io.close(self.handle);
        true
    }

    /// The buffer that is given back when the file is closed.
    pub(crate) fn take_filling(&mut self) -> Option<Buf> {
        self.filling.take()
    }
}
