//! `MemoryIo`: the [`Io`] of tests and of the simulation.
//!
//! Files, streams, listeners and datagrams live in memory; a test holds their
//! far ends ([`End`]) and scripts what happens there, or lets chance do it
//! ([`Faults`]). Files that a connector opens itself are the machine's; when
//! they are read and written, and what goes wrong, is the twin's. Time is virtual: it
//! moves when the test says so, or when a wait finds nothing to do. What is
//! random (the length of pieces, with [`MemoryIo::chop`]) follows from a
//! seed, so a run can be repeated.
//!
//! Deliberately absent: threads, wakes from other threads, delays of its own.

mod act;
mod script;
mod world;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use ringmain_base::Xoshiro;

use crate::driver::{Driver, shorter};
use crate::io::{Event, EventKind, Group, Handle, Io, Lease, OpId};
use crate::pollio::group::Groups;
use crate::slots::{Key, Slots};
use crate::sys::{bad_handle, cancelled};
use crate::timers::Timers;
pub use world::{Act, End, Faults, Place};
use world::{Kind, Thing};

#[derive(Debug)]
enum What {
    Accept,
    Connect(Place),
    Receive(Group),
    Datagrams(Group),
    Read { group: Group, offset: u64 },
    Write { buf: Vec<u8>, offset: Option<u64>, written: usize },
    Send { buf: Vec<u8>, ends: Vec<u32> },
    Sync,
}

impl What {
    fn is_ordered(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Send { .. } | Self::Sync)
    }

    fn group(&self) -> Option<Group> {
        match self {
            Self::Receive(group) | Self::Datagrams(group) | Self::Read { group, .. } => {
                Some(*group)
            }
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Op {
    id: OpId,
    handle: Option<Handle>,
    what: What,
}

impl Op {
    /// The final event of failing; the buffer, if there is one, comes back.
    fn failed(&mut self, error: io::Error) -> EventKind {
        match &mut self.what {
            What::Write { buf, written, .. } => EventKind::Written {
                buf: std::mem::take(buf),
                written: *written,
                result: Err(error),
            },
            What::Send { buf, .. } => {
                EventKind::Written { buf: std::mem::take(buf), written: 0, result: Err(error) }
            }
            _ => EventKind::Failed { error },
        }
    }
}

/// The in-memory twin.
#[derive(Debug)]
pub struct MemoryIo {
    things: Vec<Thing>,
    handles: Slots<usize>,
    stand_ins: HashMap<RawFd, usize>,
    answers: HashMap<Place, VecDeque<usize>>,
    groups: Groups,
    /// In the order of submission.
    ops: Vec<Op>,
    timers: Timers,
    ready: VecDeque<Event>,
    rng: Xoshiro,
    chops: bool,
    faults: Faults,
    now_us: u64,
}

/// Handles as the real drivers make them: a slot and its generation.
const INDEX_BITS: u32 = 20;

impl MemoryIo {
    /// An empty world; whatever is random in it follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            things: Vec::new(),
            handles: Slots::new(1 << INDEX_BITS, 32 - INDEX_BITS),
            stand_ins: HashMap::new(),
            answers: HashMap::new(),
            groups: Groups::default(),
            ops: Vec::new(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            rng: Xoshiro::new(seed),
            chops: false,
            faults: Faults::default(),
            now_us: 0,
        }
    }

    fn open(&mut self, thing: usize) -> io::Result<Handle> {
        let full = |_| io::Error::from_raw_os_error(libc::ENFILE);
        let key = self.handles.insert(thing).map_err(full)?;
        Ok(Handle(key.generation << INDEX_BITS | key.index))
    }

    fn thing_of(&self, handle: Handle) -> Option<usize> {
        self.handles.get(key(handle)).copied()
    }

    fn report(&mut self, op: OpId, kind: EventKind) {
        self.ready.push_back(Event { op, kind });
    }

    fn end(&mut self, op: Op, kind: EventKind) {
        if let Some(group) = op.what.group() {
            self.groups.leave(group);
        }
        self.report(op.id, kind);
    }

    fn submit(&mut self, handle: Handle, id: OpId, what: What) {
        let mut op = Op { id, handle: Some(handle), what };
        let entered = op.what.group().is_none_or(|group| self.groups.enter(group));
        if entered && self.thing_of(handle).is_some() {
            self.ops.push(op);
        } else {
            let kind = op.failed(bad_handle());
            if let Some(group) = op.what.group().filter(|_| entered) {
                self.groups.leave(group);
            }
            self.report(id, kind);
        }
    }

    /// Ends every operation that `which` names.
    fn cancel_those(&mut self, which: impl Fn(&Op) -> bool) {
        for mut op in self.ops.extract_if(.., |op| which(op)).collect::<Vec<_>>() {
            let kind = op.failed(cancelled());
            self.end(op, kind);
        }
    }
}

fn key(handle: Handle) -> Key {
    Key { index: handle.0 & ((1 << INDEX_BITS) - 1), generation: handle.0 >> INDEX_BITS }
}

impl Driver for MemoryIo {
    /// Moves the twin's time forward, never back.
    fn begin_turn(&mut self, mono_us: u64) {
        self.now_us = self.now_us.max(mono_us);
    }

    /// Does not sleep: where nothing happens, time moves to the next timer or
    /// to the end of the wait.
    fn wait(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        self.pass(usize::MAX);
        if self.ready.is_empty() {
            let timer_us = self.timers.next_due_us().map(|due| due.saturating_sub(self.now_us));
            self.advance(shorter(timeout_us, timer_us).unwrap_or(0));
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

impl Io for MemoryIo {
    fn group(&mut self, count: u16, bytes: u32) -> io::Result<Group> {
        self.groups.add(count, bytes)
    }

    fn drop_group(&mut self, group: Group) {
        self.groups.drop_group(group);
    }

    fn bytes(&self, lease: &Lease) -> &[u8] {
        self.groups.bytes(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.groups.release(lease);
    }

    /// Takes descriptors from [`MemoryIo::stand_in`], and files of the machine:
    /// these are read and written when the twin says so.
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Handle> {
        if let Some(thing) = self.stand_ins.remove(&fd.as_raw_fd()) {
            return self.open(thing);
        }
        let file = std::fs::File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let end = self.add_thing(Thing::new(Kind::Disk(file)));
        self.open(end.0)
    }

    fn descriptor(&self, _: Handle) -> Option<BorrowedFd<'_>> {
        None
    }

    fn patient(&mut self, _: Handle) {}

    fn close(&mut self, handle: Handle) {
        let Some(at) = self.handles.remove(key(handle)) else { return };
        if let Kind::Stream { closed, .. } = &mut self.things[at].kind {
            *closed = true;
        }
        self.cancel_those(|op| op.handle == Some(handle));
    }

    fn accept(&mut self, listener: Handle, op: OpId) {
        self.submit(listener, op, What::Accept);
    }

    fn connect(&mut self, addr: SocketAddr, id: OpId) {
        self.ops.push(Op { id, handle: None, what: What::Connect(Place::Ip(addr)) });
    }

    fn connect_unix(&mut self, path: &Path, id: OpId) {
        let what = What::Connect(Place::Path(path.to_owned()));
        self.ops.push(Op { id, handle: None, what });
    }

    fn receive(&mut self, handle: Handle, group: Group, op: OpId) {
        self.submit(handle, op, What::Receive(group));
    }

    fn receive_datagrams(&mut self, handle: Handle, group: Group, op: OpId) {
        self.submit(handle, op, What::Datagrams(group));
    }

    fn read(&mut self, handle: Handle, group: Group, offset: u64, op: OpId) {
        self.submit(handle, op, What::Read { group, offset });
    }

    fn write(&mut self, handle: Handle, buf: Vec<u8>, offset: Option<u64>, op: OpId) {
        self.submit(handle, op, What::Write { buf, offset, written: 0 });
    }

    fn send_datagrams(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, op: OpId) {
        let ascending = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        let complete = ends.last().map_or(buf.is_empty(), |last| *last as usize == buf.len());
        if ascending && complete {
            self.submit(handle, op, What::Send { buf, ends });
        } else {
            let result = Err(io::ErrorKind::InvalidInput.into());
            self.report(op, EventKind::Written { buf, written: 0, result });
        }
    }

    fn sync(&mut self, handle: Handle, op: OpId) {
        self.submit(handle, op, What::Sync);
    }

    fn timer(&mut self, after_us: u64, op: OpId) {
        self.timers.add(self.now_us.saturating_add(after_us), op);
    }

    fn cancel(&mut self, op: OpId) {
        for _ in 0..self.timers.cancel(op) {
            self.report(op, EventKind::Failed { error: cancelled() });
        }
        self.cancel_those(|other| other.id == op);
    }

    fn poll(&mut self, events: &mut Vec<Event>, max: usize) {
        while let Some(op) = self.timers.pop_due(self.now_us) {
            self.report(op, EventKind::Timer);
        }
        self.pass(max);
        let count = self.ready.len().min(max);
        events.extend(self.ready.drain(..count));
    }

    fn in_flight(&self) -> usize {
        self.ops.len() + self.timers.len()
    }
}
