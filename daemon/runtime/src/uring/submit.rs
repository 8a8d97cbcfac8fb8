//! Taking operations in, handing them to the kernel, cancelling them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use io_uring::squeue::{self, Flags};
use io_uring::{opcode, types};
use socket2::SockAddr;

use super::UringIo;
use super::op::{Op, TOKEN_IGNORE, What, user_data};
use crate::io::{EventKind, Group, Handle, OpId};
use crate::slots::Key;
use crate::sys::datagrams::{self, Cursor, Sent};
use crate::sys::sockets::{self, Kind};
use crate::sys::{bad_handle, cancelled};
use crate::writes::Sort;

/// Longest piece of one write; the kernel counts in 32 bits.
const PIECE_BYTES_MAX: usize = 1 << 30;
/// "Where it is": the file's own position, or no position at all.
const OFFSET_CURRENT: u64 = u64::MAX;

impl UringIo {
    /// Puts an operation on a usable handle into the table.
    pub(super) fn add(&mut self, handle: Handle, id: OpId, what: What) -> Option<Key> {
        if self.handles.usable(handle).is_none() {
            self.report(id, what.failed(bad_handle()));
            return None;
        }
        let key = self.insert(Op::new(id, Some(handle), what));
        if let Some(open) = self.handles.usable(handle) {
            open.ops.push(key);
        }
        Some(key)
    }

    fn insert(&mut self, op: Op) -> Key {
        self.ops.insert(op).expect("the table has no bound that memory would reach")
    }

    pub(super) fn submit_simple(&mut self, handle: Handle, id: OpId, what: What) {
        if let Some(key) = self.add(handle, id, what) {
            self.issue(key);
        }
    }

    pub(super) fn submit_connect(&mut self, address: SockAddr, id: OpId) {
        match sockets::stream_socket(&address) {
            Ok(fd) => {
                let what = What::Connect { fd, address: Box::new(address) };
                let key = self.insert(Op::new(id, None, what));
                self.issue(key);
            }
            Err(error) => self.report(id, EventKind::Failed { error }),
        }
    }

    pub(super) fn submit_grouped(&mut self, handle: Handle, group: Group, id: OpId, what: What) {
        if !self.groups.enter(group) {
            return self.report(id, EventKind::Failed { error: bad_handle() });
        }
        match self.add(handle, id, what) {
            Some(key) => self.issue(key),
            None => self.groups.leave(&self.ring.submitter(), group),
        }
    }

    pub(super) fn submit_ordered(&mut self, handle: Handle, id: OpId, what: What, sort: Sort) {
        let Some(key) = self.add(handle, id, what) else { return };
        if let Some(open) = self.handles.get_mut(handle) {
            open.writes.push(key, sort);
        }
        self.advance_writes(handle);
    }

    pub(super) fn submit_send(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, id: OpId) {
        match Cursor::new(buf, ends) {
            Ok(cursor) => self.submit_ordered(handle, id, What::Send(cursor), Sort::Append),
            Err(buf) => {
                let result = Err(io::ErrorKind::InvalidInput.into());
                self.report(id, EventKind::Written { buf, written: 0, result });
            }
        }
    }

    /// Reports the writes that are done and starts those that may, until
    /// neither goes on.
    pub(super) fn advance_writes(&mut self, handle: Handle) {
        loop {
            while let Some(key) =
                self.handles.get_mut(handle).and_then(|open| open.writes.pop_reportable())
            {
                if let Some(kind) = self.ops.get_mut(key).and_then(|op| op.outcome.take()) {
                    self.remove(key, kind);
                }
            }
            let next = self.handles.get_mut(handle).and_then(|open| open.writes.start_next());
            match next {
                Some(key) => self.start_write(key),
                None => return,
            }
        }
    }

    fn start_write(&mut self, key: Key) {
        match self.ops.get(key).map(|op| &op.what) {
            Some(What::Send(_)) => self.send_now(key),
            Some(What::Write { buf, .. }) if buf.is_empty() => self.finish_write(key, Ok(())),
            _ => self.issue(key),
        }
        // A write that ended at once is reported by the caller's next round,
        // for which the queue must offer it: see `advance_writes`.
    }

    /// Sends datagrams without a detour over the ring; waits for room there.
    pub(super) fn send_now(&mut self, key: Key) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let What::Send(cursor) = &mut op.what else { return };
        let Some(open) = op.handle.and_then(|handle| self.handles.get_mut(handle)) else { return };
        let sent = match &mut open.kind {
            Kind::Datagram { gso } => datagrams::send(open.fd.as_fd(), cursor, gso),
            _ => Err(io::Error::from_raw_os_error(libc::EPROTOTYPE)),
        };
        match sent {
            Ok(Sent::All) => self.finish_write(key, Ok(())),
            Ok(Sent::Blocked) => self.issue(key),
            Err(error) => self.finish_write(key, Err(error)),
        }
    }

    /// Notes the end of an operation in a queue of writes.
    pub(super) fn finish_write(&mut self, key: Key, result: io::Result<()>) {
        let Some(op) = self.ops.get_mut(key) else { return };
        // A husk stays behind until the outcome is reported.
        let what = std::mem::replace(&mut op.what, What::Sync);
        op.outcome = Some(match (what, result) {
            (What::Write { buf, written, .. }, Ok(())) => {
                EventKind::Written { buf, written, result: Ok(()) }
            }
            (What::Send(cursor), Ok(())) => {
                let written = cursor.sent_bytes();
                EventKind::Written { buf: cursor.buf, written, result: Ok(()) }
            }
            (_, Ok(())) => EventKind::Synced,
            (what, Err(error)) => what.failed(error),
        });
        if let Some(open) = op.handle.and_then(|handle| self.handles.get_mut(handle)) {
            open.writes.finish(key);
        }
    }

    /// Hands an operation to the kernel.
    pub(super) fn issue(&mut self, key: Key) {
        let Some(op) = self.ops.get(key) else { return };
        if let What::Read { group, .. } = op.what
            && !self.groups.reserve(group, key)
        {
            return;
        }
        let Some(entry) = self.entry(key) else { return };
        self.push_op(key, entry, false);
    }

    /// Has the kernel wait until the descriptor is ready: for descriptors
    /// that somebody made non-blocking, and for datagrams.
    pub(super) fn issue_poll(&mut self, key: Key) {
        let Some(op) = self.ops.get(key) else { return };
        let Some(fd) = self.raw_fd(op) else { return };
        let events = match op.what {
            What::Write { .. } | What::Send(_) | What::Connect { .. } => libc::POLLOUT,
            _ => libc::POLLIN,
        };
        let entry = opcode::PollAdd::new(types::Fd(fd), events as u32).build();
        self.push_op(key, entry, true);
    }

    fn push_op(&mut self, key: Key, entry: squeue::Entry, polling: bool) {
        if let Some(op) = self.ops.get_mut(key) {
            op.in_kernel = true;
            op.polling = polling;
        }
        // SAFETY: what the entry points to belongs to the operation (buffer,
        // address) or to the driver (message header), which keep it in place
        // until the completion has been drained; see `teardown` for a drop.
        unsafe { self.ring.push(entry.user_data(user_data(key))) };
    }

    fn raw_fd(&self, op: &Op) -> Option<RawFd> {
        if let What::Connect { fd, .. } = &op.what {
            return Some(fd.as_raw_fd());
        }
        self.handles.get(op.handle?).map(|open| open.fd.as_raw_fd())
    }

    /// Builds the submission of an operation.
    fn entry(&mut self, key: Key) -> Option<squeue::Entry> {
        let op = self.ops.get(key)?;
        let fd = types::Fd(self.raw_fd(op)?);
        let is_socket =
            op.handle.and_then(|h| self.handles.get(h)).is_some_and(|o| o.kind.is_socket());
        Some(match &op.what {
            What::Accept => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(),
            What::Connect { address, .. } => {
                opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
            }
            What::Receive(group) if is_socket => opcode::RecvMulti::new(fd, group.0).build(),
            What::Receive(group) => {
                let bytes = self.groups.buffer_bytes(*group);
                read_selected(fd, *group, bytes, OFFSET_CURRENT)
            }
            What::Datagrams(group) => {
                opcode::RecvMsgMulti::new(fd, &raw const *self.header, group.0).build()
            }
            What::Read { group, offset } => {
                let bytes = self.groups.buffer_bytes(*group);
                read_selected(fd, *group, bytes, *offset)
            }
            What::Write { buf, offset, written } => {
                write_rest(fd, &buf[*written..], offset.map(|o| o + *written as u64), is_socket)
            }
            What::Send(_) => {
                self.issue_poll(key);
                return None;
            }
            What::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        })
    }

    pub(super) fn cancel_key(&mut self, key: Key) {
        let Some(op) = self.ops.get_mut(key) else { return };
        if op.cancelled || op.outcome.is_some() {
            return;
        }
        op.cancelled = true;
        if !op.in_kernel {
            return self.fail(key, cancelled());
        }
        let entry = opcode::AsyncCancel::new(user_data(key)).build().user_data(TOKEN_IGNORE);
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry) };
    }

    /// Ends an operation that the kernel does not have with an error.
    pub(super) fn fail(&mut self, key: Key, error: io::Error) {
        let Some(op) = self.ops.get(key) else { return };
        if op.what.is_ordered() {
            let handle = op.handle;
            self.finish_write(key, Err(error));
            if let Some(handle) = handle {
                self.advance_writes(handle);
            }
        } else {
            self.end(key, EventKind::Failed { error });
        }
    }

    /// Ends an operation that stands in no queue.
    pub(super) fn end(&mut self, key: Key, kind: EventKind) {
        if let Some(group) = self.ops.get(key).and_then(|op| op.what.group()) {
            self.groups.leave(&self.ring.submitter(), group);
        }
        self.remove(key, kind);
    }

    fn remove(&mut self, key: Key, kind: EventKind) {
        let Some(op) = self.ops.remove(key) else { return };
        debug_assert!(!op.in_kernel, "the kernel still has {:?}", op.id);
        if let Some(handle) = op.handle {
            self.handles.op_ended(handle, key);
        }
        self.report(op.id, kind);
    }
}

fn read_selected(fd: types::Fd, group: Group, bytes: u32, offset: u64) -> squeue::Entry {
    opcode::Read::new(fd, std::ptr::null_mut(), bytes)
        .offset(offset)
        .buf_group(group.0)
        .build()
        .flags(Flags::BUFFER_SELECT)
}

fn write_rest(fd: types::Fd, rest: &[u8], offset: Option<u64>, is_socket: bool) -> squeue::Entry {
    let len = rest.len().min(PIECE_BYTES_MAX) as u32;
    if is_socket {
        // WAITALL: the kernel itself goes on after a short send.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        return opcode::Send::new(fd, rest.as_ptr(), len).flags(flags).build();
    }
    opcode::Write::new(fd, rest.as_ptr(), len).offset(offset.unwrap_or(OFFSET_CURRENT)).build()
}
