//! `UringIo`: the [`Io`] over a ring of its own.
//!
//! Multishot accept and receive, provided buffers, one system call per turn at
//! most; datagrams come coalesced (UDP_GRO) and leave coalesced
//! (UDP_SEGMENT). Rooms: `ring` (set-up, submission), `group` (buffers), `op`
//! (the table), `submit` and `complete` (in and out), `park`, `teardown`.
//!
//! Invariants:
//! - Whatever the kernel may write or read belongs to the table or to a group
//!   until the completion has been drained, also across a drop.
//! - The driver never leaves the thread that made it.
//! - Events come out in the order in which things happened, over all
//!   operations: an answer never before the end of the write that it is to.
//!
//! Between a wait for more and the next wait the kernel is not entered for
//! [`GATHER_US`], though it says that there is something: each entry would
//! bring the one message that has come since the last.
//!
//! Deliberately absent: registered files. Multishot operations look their
//! descriptor up once, and a write of 16 bytes took 280 to 290 ns without and
//! 290 to 305 ns with them.

mod complete;
mod group;
mod op;
mod park;
mod ring;
mod submit;
mod teardown;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use io_uring::types::Timespec;

use crate::driver::{Driver, GATHER_US, shorter};
use crate::handles::Handles;
use crate::io::{Event, EventKind, Group, Handle, Io, Lease, OpId};
use crate::slots::{Key, Slots};
use crate::sys::datagrams::{CONTROL_BYTES, NAME_BYTES};
use crate::sys::{self, sockets};
use crate::timers::Timers;
use crate::waker::{Waker, eventfd};
use crate::writes::Sort;
use group::Groups;
use op::{GENERATION_BITS, Op, What};
use ring::{Completion, Ring};

/// For so many waits after an answer there may be another to give.
const HURRIED_WAITS: u32 = 64;
/// What comes at once and is no trickle any more.
const LITTLE_BYTES: usize = 16 << 10;

/// The io_uring driver.
pub struct UringIo {
    // First: closed before the memory that it may refer to goes away.
    ring: Ring,
    ops: Slots<Op>,
    groups: Groups,
    handles: Handles,
    timers: Timers,
    ready: VecDeque<Event>,
    batch: Vec<Completion>,
    /// Waits in which another answer may be due: counted down since the last.
    hurried_waits: u32,
    /// The last wait was for more.
    gathering: bool,
    /// A wait has just ended.
    waited: bool,
    /// When deferred work was run, and what was received since.
    entered_us: u64,
    received_bytes: usize,
    /// What every reception of datagrams asks for.
    header: Box<libc::msghdr>,
    waker: Arc<Waker>,
    park_event: OwnedFd,
    park_timeout: Box<Timespec>,
    park_until_us: Option<u64>,
    now_us: u64,
}

impl std::fmt::Debug for UringIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringIo").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl UringIo {
    /// A driver for the calling thread, whose sleep `waker` ends.
    ///
    /// # Errors
    /// When io_uring is not to be had; [`crate::probe`] says why and what to
    /// change.
    pub fn new(waker: Arc<Waker>) -> io::Result<Self> {
        let ring = Ring::new()?;
        let park_event = eventfd(0)?;
        ring.submitter().register_eventfd(park_event.as_raw_fd())?;
        // SAFETY: all zeroes is a valid msghdr.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = NAME_BYTES as libc::socklen_t;
        header.msg_controllen = CONTROL_BYTES as _;
        let mut driver = Self {
            ring,
            ops: Slots::new(u32::MAX, GENERATION_BITS),
            groups: Groups::default(),
            handles: Handles::new(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            batch: Vec::new(),
            hurried_waits: 0,
            gathering: false,
            waited: false,
            entered_us: 0,
            received_bytes: 0,
            header,
            waker,
            park_event,
            park_timeout: Box::new(Timespec::new()),
            park_until_us: None,
            now_us: 0,
        };
        driver.ring.announce(false);
        driver.watch_waker();
        Ok(driver)
    }

    fn report(&mut self, op: OpId, kind: EventKind) {
        self.ready.push_back(Event { op, kind });
    }

    /// Works off up to `max` completions that are there.
    fn collect(&mut self, max: usize) {
        let mut batch = std::mem::take(&mut self.batch);
        self.ring.drain(&mut batch, max);
        for completion in batch.drain(..) {
            self.complete(completion);
        }
        self.batch = batch;
    }

    fn give_back(&mut self, lease: Lease) {
        let group = lease.group;
        self.groups.release(&self.ring.submitter(), lease);
        self.start_waiting(group);
    }

    /// A buffer is free: one operation that waits for it goes on.
    fn start_waiting(&mut self, group: Group) {
        // Those that ended meanwhile do not count.
        while let Some(key) = self.groups.next_waiting(group) {
            if self.ops.get(key).is_some() {
                return self.issue(key);
            }
        }
    }

    fn sleep(&mut self, timeout_us: Option<u64>, gather: bool) -> io::Result<()> {
        let timeout_us = shorter(timeout_us, self.timer_in_us());
        if timeout_us == Some(0) || !self.ready.is_empty() || self.ring.has_completions() {
            return self.ring.flush();
        }
        self.waited = true;
        self.ring.wait(timeout_us, gather)
    }

    fn entered(&mut self, now_us: u64) {
        (self.entered_us, self.received_bytes) = (now_us, 0);
    }

    /// Somebody may wait for what is asked for, and for the next.
    fn hurry(&mut self) {
        self.hurried_waits = HURRIED_WAITS;
    }

    fn hurry_unless_patient(&mut self, handle: Handle) {
        if self.handles.get(handle).is_some_and(|open| !open.patient) {
            self.hurry();
        }
    }

    fn hand_over(&mut self, events: &mut Vec<Event>, until: usize) {
        let count = until.saturating_sub(events.len()).min(self.ready.len());
        events.extend(self.ready.drain(..count));
    }
}

impl Driver for UringIo {
    fn begin_turn(&mut self, mono_us: u64) {
        self.now_us = mono_us;
        if std::mem::take(&mut self.waited) {
            self.entered(mono_us);
        }
    }

    fn wait(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        self.gathering = false;
        self.hurried_waits = self.hurried_waits.saturating_sub(1);
        self.sleep(timeout_us, false)
    }

    fn may_gather(&self) -> bool {
        self.ring.can_gather() && self.hurried_waits == 0 && self.received_bytes < LITTLE_BYTES
    }

    fn wait_for_more(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        debug_assert!(self.may_gather(), "somebody waits for an answer");
        self.gathering = true;
        self.sleep(timeout_us, true)
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}

impl Io for UringIo {
    fn group(&mut self, count: u16, bytes: u32) -> io::Result<Group> {
        self.groups.add(&self.ring.submitter(), count, bytes)
    }

    fn drop_group(&mut self, group: Group) {
        self.groups.drop_group(&self.ring.submitter(), group);
    }

    fn bytes(&self, lease: &Lease) -> &[u8] {
        self.groups.bytes(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.give_back(lease);
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Handle> {
        self.handles.adopt(fd)
    }

    fn descriptor(&self, handle: Handle) -> Option<BorrowedFd<'_>> {
        self.handles.get(handle).filter(|open| !open.closing).map(|open| open.fd.as_fd())
    }

    fn patient(&mut self, handle: Handle) {
        if let Some(open) = self.handles.usable(handle) {
            open.patient = true;
        }
    }

    fn close(&mut self, handle: Handle) {
        let Some(open) = self.handles.usable(handle) else { return };
        open.closing = true;
        for key in open.ops.clone() {
            self.cancel_key(key);
        }
        self.handles.close_if_idle(handle);
    }

    fn accept(&mut self, listener: Handle, op: OpId) {
        self.submit_simple(listener, op, What::Accept);
    }

    fn connect(&mut self, addr: SocketAddr, op: OpId) {
        self.submit_connect(sockets::internet_address(addr), op);
    }

    fn connect_unix(&mut self, path: &Path, op: OpId) {
        match socket2::SockAddr::unix(path) {
            Ok(address) => self.submit_connect(address, op),
            Err(error) => self.report(op, EventKind::Failed { error }),
        }
    }

    fn receive(&mut self, handle: Handle, group: Group, op: OpId) {
        self.submit_grouped(handle, group, op, What::Receive(group));
    }

    fn receive_datagrams(&mut self, handle: Handle, group: Group, op: OpId) {
        self.submit_grouped(handle, group, op, What::Datagrams(group));
    }

    fn read(&mut self, handle: Handle, group: Group, offset: u64, op: OpId) {
        // Whoever reads a file reads on when that is there.
        self.hurry();
        self.submit_grouped(handle, group, op, What::Read { group, offset });
    }

    fn write(&mut self, handle: Handle, buf: Vec<u8>, offset: Option<u64>, op: OpId) {
        let sort = if offset.is_some() { Sort::At } else { Sort::Append };
        self.hurry_unless_patient(handle);
        self.submit_ordered(handle, op, What::Write { buf, offset, written: 0 }, sort);
    }

    fn send_datagrams(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, op: OpId) {
        self.hurry();
        self.submit_send(handle, buf, ends, op);
    }

    fn sync(&mut self, handle: Handle, op: OpId) {
        // Nothing is accepted before it is done.
        self.hurry();
        self.submit_ordered(handle, op, What::Sync, Sort::Sync);
    }

    fn timer(&mut self, after_us: u64, op: OpId) {
        self.timers.add(self.now_us.saturating_add(after_us), op);
    }

    fn cancel(&mut self, op: OpId) {
        for _ in 0..self.timers.cancel(op) {
            self.report(op, EventKind::Failed { error: sys::cancelled() });
        }
        let keys: Vec<Key> = self.ops.iter().filter(|(_, o)| o.id == op).map(|(k, _)| k).collect();
        for key in keys {
            self.cancel_key(key);
        }
    }

    fn poll(&mut self, events: &mut Vec<Event>, max: usize) {
        let until = events.len().saturating_add(max);
        while let Some(op) = self.timers.pop_due(self.now_us) {
            self.report(op, EventKind::Timer);
        }
        self.hand_over(events, until);
        let gathers = self.gathering && self.may_gather();
        if !gathers || self.now_us >= self.entered_us + GATHER_US {
            self.entered(self.now_us);
            // A refusal here is met again by the next wait, which reports it.
            let _ = self.ring.flush();
        }
        self.collect(until.saturating_sub(events.len()));
        self.hand_over(events, until);
    }

    fn in_flight(&self) -> usize {
        self.ops.len() + self.timers.len()
    }
}
