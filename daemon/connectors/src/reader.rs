//! One open file, read ahead of the decoder.
//!
//! Reads may finish in any order and may be short; chunks are given out in the
//! order of their offsets and without gaps. Bounds: [`AHEAD_MAX`] chunks are
//! asked for or held, and the group's buffers bound them over all readers of a
//! source.
//!
//! Tags: a reader owns [`TAGS`] of them from its base on. It may be dropped
//! when nothing is in flight, so that no event meets a later reader.

use std::collections::VecDeque;
use std::io;

use ringmain_runtime::io::{EventKind, Group, Handle, Io, Lease, OpId};

/// Chunks that one reader may hold or ask for.
pub(crate) const AHEAD_MAX: usize = 8;
/// Tags of one reader.
pub(crate) const TAGS: u32 = 16;

const _: () = assert!(AHEAD_MAX < TAGS as usize);

#[derive(Debug)]
enum State {
    Asked,
    Ready(Lease),
    /// Nothing was there.
    End,
    Failed(io::Error),
}

#[derive(Debug)]
struct Chunk {
    tag: u32,
    offset: u64,
    state: State,
    /// Asked for before the reader went elsewhere.
    stale: bool,
}

/// What the reader has for the decoder.
#[derive(Debug)]
pub(crate) enum Front<'a> {
    /// Bytes at the reader's position.
    Bytes(&'a Lease, usize),
    /// The file ends at the reader's position, or did when that was asked.
    End,
    /// Reading failed.
    Failed(io::Error),
    /// Nothing yet.
    Wait,
}

#[derive(Debug)]
pub(crate) struct Reader {
    handle: Handle,
    group: Group,
    buffer_bytes: u64,
    ahead: usize,
    tags: u32,
    sequence: u32,
    owner: u32,
    chunks: VecDeque<Chunk>,
    /// Where the next read is to begin.
    ask_at: u64,
    /// Where the decoder is.
    position: u64,
    /// The file's size, as far as known.
    size: u64,
    closed: bool,
}

/// Where a reader gets its memory and how its events find it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) group: Group,
    pub(crate) buffer_bytes: u32,
    pub(crate) ahead: usize,
    pub(crate) owner: u32,
    pub(crate) tags: u32,
}

impl Reader {
    pub(crate) fn new(handle: Handle, lane: Lane, position: u64, size: u64) -> Self {
        Self {
            handle,
            group: lane.group,
            buffer_bytes: u64::from(lane.buffer_bytes),
            ahead: lane.ahead.clamp(1, AHEAD_MAX),
            tags: lane.tags,
            sequence: 0,
            owner: lane.owner,
            chunks: VecDeque::new(),
            ask_at: position,
            position,
            size,
            closed: false,
        }
    }

    /// Whether the tag is one of this reader's.
    pub(crate) fn owns(&self, tag: u32) -> bool {
        (self.tags..self.tags + TAGS).contains(&tag)
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// Where the decoder is.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The file is known to reach so far.
    pub(crate) fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Asks for what is known to be there.
    pub(crate) fn ask(&mut self, io: &mut dyn Io) {
        self.catch_up();
        while !self.closed && self.chunks.len() < self.ahead && self.ask_at < self.size {
            self.ask_one(io);
        }
    }

    /// Asks whether there is more behind the known end; only when everything
    /// before it has been read.
    pub(crate) fn probe(&mut self, io: &mut dyn Io) {
        self.catch_up();
        if !self.closed && self.chunks.is_empty() {
            self.ask_one(io);
        }
    }

    /// The last read was short, and nothing is asked for behind it.
    fn catch_up(&mut self) {
        if !self.is_busy() {
            self.ask_at = self.position;
        }
    }

    fn ask_one(&mut self, io: &mut dyn Io) {
        let tag = self.tags + self.sequence % TAGS;
        self.sequence = self.sequence.wrapping_add(1);
        let offset = self.ask_at;
        io.read(self.handle, self.group, offset, OpId { owner: self.owner, tag });
        self.chunks.push_back(Chunk { tag, offset, state: State::Asked, stale: false });
        self.ask_at += self.buffer_bytes;
    }

    /// Takes the end of a read; returns the bytes that came.
    pub(crate) fn on_event(&mut self, tag: u32, event: EventKind, io: &mut dyn Io) -> u64 {
        let asked = |c: &Chunk| c.tag == tag && matches!(c.state, State::Asked);
        let Some(at) = self.chunks.iter().position(asked) else {
            if let EventKind::Received { lease } = event {
                io.release(lease);
            }
            return 0;
        };
        let chunk = &mut self.chunks[at];
        let mut bytes = 0;
        chunk.state = match event {
            EventKind::Received { lease } => {
                bytes = lease.len() as u64;
                State::Ready(lease)
            }
            EventKind::Failed { error } => State::Failed(error),
            _ => State::End,
        };
        if self.chunks[at].stale
            && let Some(chunk) = self.chunks.remove(at)
            && let State::Ready(lease) = chunk.state
        {
            io.release(lease);
            return 0;
        }
        bytes
    }

    /// What comes next.
    pub(crate) fn front(&mut self, io: &mut dyn Io) -> Front<'_> {
        let at = self.chunks.iter().position(|chunk| !chunk.stale);
        let Some(at) = at else { return Front::Wait };
        let gap = self.chunks[at].offset > self.position || self.is_spent(at);
        if gap {
            // The read before it was short: what was asked for behind it
            // leaves a gap.
            self.go(self.position, io);
            self.ask(io);
            return Front::Wait;
        }
        if matches!(self.chunks[at].state, State::End | State::Failed(_)) {
            let chunk = self.chunks.remove(at).expect("the index was just found");
            self.go(self.position, io);
            return match chunk.state {
                State::Failed(error) => Front::Failed(error),
                _ => Front::End,
            };
        }
        match &self.chunks[at] {
            Chunk { state: State::Ready(lease), offset, .. } => {
                // Within one buffer, so it fits.
                Front::Bytes(lease, (self.position - offset) as usize)
            }
            _ => Front::Wait,
        }
    }

    /// A chunk that ends at or before the position.
    fn is_spent(&self, at: usize) -> bool {
        match &self.chunks[at] {
            Chunk { state: State::Ready(lease), offset, .. } => {
                offset + lease.len() as u64 <= self.position
            }
            chunk => chunk.offset < self.position,
        }
    }

    /// The decoder took so many bytes of the front chunk.
    pub(crate) fn consume(&mut self, bytes: usize, io: &mut dyn Io) {
        self.position += bytes as u64;
        let Some(at) = self.chunks.iter().position(|chunk| !chunk.stale) else { return };
        let spent = matches!(self.chunks[at].state, State::Ready(_)) && self.is_spent(at);
        if spent
            && let Some(chunk) = self.chunks.remove(at)
            && let State::Ready(lease) = chunk.state
        {
            io.release(lease);
        }
    }

    /// Goes on at `position`, and forgets what was read elsewhere.
    pub(crate) fn go(&mut self, position: u64, io: &mut dyn Io) {
        self.position = position;
        self.ask_at = position;
        for chunk in std::mem::take(&mut self.chunks) {
            match chunk.state {
                State::Ready(lease) => io.release(lease),
                State::Asked => self.chunks.push_back(Chunk { stale: true, ..chunk }),
                State::End | State::Failed(_) => {}
            }
        }
    }

    /// Gives everything back; the reader is done when [`Reader::is_quiet`].
    pub(crate) fn close(&mut self, io: &mut dyn Io) {
        if !self.closed {
            self.closed = true;
            self.go(self.position, io);
            io.close(self.handle);
        }
    }

    /// Something is there for [`Reader::front`], or has been asked for.
    pub(crate) fn is_busy(&self) -> bool {
        self.chunks.iter().any(|chunk| !chunk.stale)
    }

    /// Nothing is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.chunks.is_empty()
    }
}
