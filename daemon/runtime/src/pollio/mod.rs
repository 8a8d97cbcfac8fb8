//! `PollIo`: the [`Io`] of a machine where io_uring is refused.
//!
//! poll(2) tells what is ready; sockets are read and written without
//! blocking, regular files directly, which blocks the thread for as long as
//! the disk takes: that is the price of the fallback, as is one poll(2) over
//! everything that waits per turn. Semantics are those of the io_uring driver
//! (one conformance suite).
//!
//! Invariants: the kernel writes to a buffer only during a call, so nothing
//! outlives a drop. Non-blocking is asked for per call, never by setting
//! `O_NONBLOCK`: pipes and terminals are shared with other processes, and
//! stderr with stdout. A listener is the exception (accept has no flag).

pub(crate) mod group;
mod serve;
mod submit;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::driver::{Driver, shorter};
use crate::handles::Handles;
use crate::io::{Event, EventKind, Group, Handle, Io, Lease, OpId};
use crate::slots::{Key, Slots};
use crate::sys;
use crate::sys::datagrams::Cursor;
use crate::timers::Timers;
use crate::waker::Waker;
use group::Groups;

/// What is asked for.
#[derive(Debug)]
enum What {
    Accept,
    Connect(OwnedFd),
    Receive(Group),
    Datagrams(Group),
    Read { group: Group, offset: u64 },
    Write { buf: Vec<u8>, offset: Option<u64>, written: usize },
    Send(Cursor),
    Sync,
}

#[derive(Debug)]
struct Op {
    id: OpId,
    handle: Option<Handle>,
    what: What,
    /// How it ended, while an earlier write holds the report back.
    outcome: Option<EventKind>,
}

/// The poll(2) driver.
#[derive(Debug)]
pub struct PollIo {
    handles: Handles,
    ops: Slots<Op>,
    groups: Groups,
    timers: Timers,
    ready: VecDeque<Event>,
    /// Operations on files, which need no readiness.
    runnable: VecDeque<Key>,
    watched: Vec<libc::pollfd>,
    watched_ops: Vec<Key>,
    /// `watched` holds an answer that has not been looked at.
    fresh: bool,
    /// Where serving begins, so that a low number is no privilege.
    first: usize,
    waker: Arc<Waker>,
    now_us: u64,
}

impl PollIo {
    /// A driver whose sleep `waker` ends.
    #[must_use]
    pub fn new(waker: Arc<Waker>) -> Self {
        Self {
            handles: Handles::new(),
            ops: Slots::new(u32::MAX, 30),
            groups: Groups::default(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            runnable: VecDeque::new(),
            watched: Vec::new(),
            watched_ops: Vec::new(),
            fresh: false,
            first: 0,
            waker,
            now_us: 0,
        }
    }

    fn report(&mut self, op: OpId, kind: EventKind) {
        self.ready.push_back(Event { op, kind });
    }

    /// Asks poll(2) about everything that waits.
    fn look(&mut self, timeout: Option<u64>) -> io::Result<()> {
        self.watch();
        let limit = timeout.map(|us| libc::timespec {
            tv_sec: libc::time_t::try_from(us / 1_000_000).unwrap_or(libc::time_t::MAX),
            tv_nsec: (us % 1_000_000) as libc::c_long * 1_000,
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = self.watched.len() as libc::nfds_t;
        // SAFETY: `watched` holds `count` initialised entries; the limit is
        // null or a local; no signal mask is passed.
        let ready =
            unsafe { libc::ppoll(self.watched.as_mut_ptr(), count, limit, std::ptr::null()) };
        match sys::check(ready as libc::ssize_t) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.watched.iter_mut().for_each(|entry| entry.revents = 0);
            }
            Err(error) => return Err(error),
        }
        if self.watched[0].revents != 0 {
            self.waker.clear();
        }
        self.fresh = true;
        Ok(())
    }

    /// Fills `watched`: the waker first, then one entry per waiting operation.
    fn watch(&mut self) {
        self.watched.clear();
        self.watched_ops.clear();
        let entry =
            |fd: BorrowedFd<'_>, events| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
        self.watched.push(entry(self.waker.as_fd(), libc::POLLIN));
        for (key, op) in self.ops.iter() {
            let Some((fd, events)) = self.interest(key, op) else { continue };
            self.watched.push(entry(fd, events));
            self.watched_ops.push(key);
        }
    }

    /// Whether a file operation could go on; a read may lack a buffer.
    fn can_run(&self, key: Key) -> bool {
        match self.ops.get(key).map(|op| &op.what) {
            Some(What::Read { group, .. }) => self.groups.has_free(*group),
            _ => true,
        }
    }

    fn interest<'a>(&'a self, key: Key, op: &'a Op) -> Option<(BorrowedFd<'a>, i16)> {
        if op.outcome.is_some() {
            return None;
        }
        if let What::Connect(fd) = &op.what {
            return Some((fd.as_fd(), libc::POLLOUT));
        }
        let open = self.handles.get(op.handle?)?;
        let events = match &op.what {
            What::Accept => libc::POLLIN,
            What::Receive(group) | What::Datagrams(group) if self.groups.has_free(*group) => {
                libc::POLLIN
            }
            What::Write { .. } | What::Send(_)
                if open.kind != sys::sockets::Kind::File && open.writes.is_started(key) =>
            {
                libc::POLLOUT
            }
            _ => return None,
        };
        Some((open.fd.as_fd(), events))
    }
}

impl Driver for PollIo {
    fn begin_turn(&mut self, mono_us: u64) {
        self.now_us = mono_us;
    }

    fn wait(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        let timer_us = self.timers.next_due_us().map(|due| due.saturating_sub(self.now_us));
        let busy = !self.ready.is_empty() || self.runnable.iter().any(|key| self.can_run(*key));
        self.look(if busy { Some(0) } else { shorter(timeout_us, timer_us) })
    }

    fn name(&self) -> &'static str {
        "poll"
    }
}

impl Io for PollIo {
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

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Handle> {
        self.handles.adopt(fd)
    }

    fn descriptor(&self, handle: Handle) -> Option<BorrowedFd<'_>> {
        self.handles.get(handle).filter(|open| !open.closing).map(|open| open.fd.as_fd())
    }

    fn patient(&mut self, _: Handle) {}

    fn close(&mut self, handle: Handle) {
        let Some(open) = self.handles.usable(handle) else { return };
        open.closing = true;
        for key in open.ops.clone() {
            self.cancel_key(key);
        }
        self.handles.close_if_idle(handle);
    }

    fn accept(&mut self, listener: Handle, op: OpId) {
        self.submit_accept(listener, op);
    }

    fn connect(&mut self, addr: std::net::SocketAddr, op: OpId) {
        self.submit_connect(&sys::sockets::internet_address(addr), op);
    }

    fn connect_unix(&mut self, path: &Path, op: OpId) {
        match socket2::SockAddr::unix(path) {
            Ok(address) => self.submit_connect(&address, op),
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
        if let Some(key) = self.submit_grouped(handle, group, op, What::Read { group, offset }) {
            self.runnable.push_back(key);
        }
    }

    fn write(&mut self, handle: Handle, buf: Vec<u8>, offset: Option<u64>, op: OpId) {
        self.submit_write(handle, buf, offset, op);
    }

    fn send_datagrams(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, op: OpId) {
        self.submit_send(handle, buf, ends, op);
    }

    fn sync(&mut self, handle: Handle, op: OpId) {
        self.submit_sync(handle, op);
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
        while let Some(op) = self.timers.pop_due(self.now_us) {
            self.report(op, EventKind::Timer);
        }
        self.serve(max);
        let count = self.ready.len().min(max);
        events.extend(self.ready.drain(..count));
    }

    fn in_flight(&self) -> usize {
        self.ops.len() + self.timers.len()
    }
}
