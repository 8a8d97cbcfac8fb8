//! Taking operations in, and ending them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

use super::{Op, PollIo, What};
use crate::io::{EventKind, Group, Handle, OpId};
use crate::slots::Key;
use crate::sys::datagrams::Cursor;
use crate::sys::sockets::{self, Kind};
use crate::sys::{self, bad_handle, cancelled};
use crate::writes::Sort;

impl PollIo {
    /// Puts an operation on a usable handle into the table.
    fn add(&mut self, handle: Handle, id: OpId, what: What) -> Option<Key> {
        if self.handles.usable(handle).is_none() {
            let kind = failed(what, bad_handle());
            self.report(id, kind);
            return None;
        }
        let op = Op { id, handle: Some(handle), what, outcome: None };
        let key = self.ops.insert(op).expect("the table has no bound that memory would reach");
        if let Some(open) = self.handles.usable(handle) {
            open.ops.push(key);
        }
        Some(key)
    }

    pub(super) fn submit_accept(&mut self, listener: Handle, op: OpId) {
        if let Some(open) = self.handles.usable(listener) {
            // accept(2) has no flag for it; a listener is nobody else's.
            let _ = sockets::set_nonblocking(open.fd.as_fd());
        }
        self.add(listener, op, What::Accept);
    }

    pub(super) fn submit_connect(&mut self, address: &SockAddr, id: OpId) {
        match start_connect(address) {
            Ok(fd) => {
                let op = Op { id, handle: None, what: What::Connect(fd), outcome: None };
                self.ops.insert(op).expect("the table has no bound that memory would reach");
            }
            Err(error) => self.report(id, EventKind::Failed { error }),
        }
    }

    pub(super) fn submit_grouped(
        &mut self,
        handle: Handle,
        group: Group,
        op: OpId,
        what: What,
    ) -> Option<Key> {
        if !self.groups.enter(group) {
            self.report(op, EventKind::Failed { error: bad_handle() });
            return None;
        }
        let key = self.add(handle, op, what);
        if key.is_none() {
            self.groups.leave(group);
        }
        key
    }

    pub(super) fn submit_write(
        &mut self,
        handle: Handle,
        buf: Vec<u8>,
        offset: Option<u64>,
        op: OpId,
    ) {
        let sort = if offset.is_some() { Sort::At } else { Sort::Append };
        let key = self.add(handle, op, What::Write { buf, offset, written: 0 });
        self.enqueue(handle, key, sort);
    }

    pub(super) fn submit_send(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, op: OpId) {
        match Cursor::new(buf, ends) {
            Ok(cursor) => {
                let key = self.add(handle, op, What::Send(cursor));
                self.enqueue(handle, key, Sort::Append);
            }
            Err(buf) => {
                let result = Err(io::ErrorKind::InvalidInput.into());
                self.report(op, EventKind::Written { buf, written: 0, result });
            }
        }
    }

    pub(super) fn submit_sync(&mut self, handle: Handle, op: OpId) {
        let key = self.add(handle, op, What::Sync);
        self.enqueue(handle, key, Sort::Sync);
    }

    fn enqueue(&mut self, handle: Handle, key: Option<Key>, sort: Sort) {
        if let (Some(key), Some(open)) = (key, self.handles.get_mut(handle)) {
            open.writes.push(key, sort);
            self.start_writes(handle);
        }
    }

    /// Starts what the order of the handle allows.
    fn start_writes(&mut self, handle: Handle) {
        let Some(open) = self.handles.get_mut(handle) else { return };
        while let Some(key) = open.writes.start_next() {
            let is_sync = self.ops.get(key).is_some_and(|op| matches!(op.what, What::Sync));
            if open.kind == Kind::File || is_sync {
                self.runnable.push_back(key);
            }
        }
    }

    pub(super) fn cancel_key(&mut self, key: Key) {
        if self.ops.get(key).is_some_and(|op| op.outcome.is_none()) {
            self.fail(key, cancelled());
        }
    }

    /// Ends an operation with an error.
    pub(super) fn fail(&mut self, key: Key, error: io::Error) {
        let Some(op) = self.ops.get_mut(key) else { return };
        // Leaves an empty husk behind: the operation ends with this call.
        let what = std::mem::replace(&mut op.what, What::Accept);
        let group = what.group();
        let ordered = matches!(what, What::Write { .. } | What::Send(_) | What::Sync);
        let kind = failed(what, error);
        self.end_with(key, kind, group, ordered);
    }

    /// Ends an operation.
    pub(super) fn end(&mut self, key: Key, kind: EventKind) {
        let Some(op) = self.ops.get(key) else { return };
        let group = op.what.group();
        let ordered = matches!(op.what, What::Write { .. } | What::Send(_) | What::Sync);
        self.end_with(key, kind, group, ordered);
    }

    fn end_with(&mut self, key: Key, kind: EventKind, group: Option<Group>, ordered: bool) {
        if let Some(group) = group {
            self.groups.leave(group);
        }
        let handle = self.ops.get(key).and_then(|op| op.handle);
        match handle {
            Some(handle) if ordered => self.end_write(handle, key, kind),
            _ => self.remove(key, kind),
        }
    }

    fn end_write(&mut self, handle: Handle, key: Key, kind: EventKind) {
        if let Some(op) = self.ops.get_mut(key) {
            op.outcome = Some(kind);
        }
        if let Some(open) = self.handles.get_mut(handle) {
            open.writes.finish(key);
        }
        while let Some(key) = self.handles.get_mut(handle).and_then(|o| o.writes.pop_reportable()) {
            if let Some(kind) = self.ops.get_mut(key).and_then(|op| op.outcome.take()) {
                self.remove(key, kind);
            }
        }
        self.start_writes(handle);
    }

    fn remove(&mut self, key: Key, kind: EventKind) {
        let Some(op) = self.ops.remove(key) else { return };
        if let Some(handle) = op.handle {
            self.handles.op_ended(handle, key);
        }
        self.report(op.id, kind);
    }
}

impl What {
    fn group(&self) -> Option<Group> {
        match self {
            Self::Receive(group) | Self::Datagrams(group) | Self::Read { group, .. } => {
                Some(*group)
            }
            _ => None,
        }
    }
}

/// The final event of an operation that fails; a buffer comes back.
fn failed(what: What, error: io::Error) -> EventKind {
    match what {
        What::Write { buf, written, .. } => EventKind::Written { buf, written, result: Err(error) },
        What::Send(cursor) => {
            let written = cursor.sent_bytes();
            EventKind::Written { buf: cursor.buf, written, result: Err(error) }
        }
        _ => EventKind::Failed { error },
    }
}

fn start_connect(address: &SockAddr) -> io::Result<std::os::fd::OwnedFd> {
    let fd = sockets::stream_socket(address)?;
    sockets::set_nonblocking(fd.as_fd())?;
    // SAFETY: the address is `len` bytes at this pointer.
    let result = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), address.len()) };
    match sys::check(result as libc::ssize_t) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(fd),
    }
}
