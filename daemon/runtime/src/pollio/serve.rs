//! Doing what is ready.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{PollIo, What};
use crate::io::{EventKind, Group, Handle, OpId};
use crate::slots::Key;
use crate::sys::sockets::{self, Kind};
use crate::sys::{self, check, datagrams};

/// Buffers that one stream may fill before the next has its turn.
const FILLS_PER_TURN: usize = 8;
/// What a pipe that polls writable takes without blocking.
const PIPE_BYTES: usize = 4096;

impl PollIo {
    /// Serves what is ready until about `max` events wait.
    pub(super) fn serve(&mut self, max: usize) {
        self.run_files(max);
        if self.ready.len() >= max {
            return;
        }
        // An error here (out of memory) is met again by the next wait.
        if !self.fresh && self.look(Some(0)).is_err() {
            return;
        }
        self.fresh = false;
        let count = self.watched_ops.len();
        self.first = if count == 0 { 0 } else { (self.first + 1) % count };
        for step in 0..count {
            let at = (self.first + step) % count;
            if self.watched[at + 1].revents != 0 {
                self.act(self.watched_ops[at], max);
            }
            if self.ready.len() >= max {
                return;
            }
        }
    }

    /// Reads, writes and syncs of files: always ready, so done in order.
    fn run_files(&mut self, max: usize) {
        for _ in 0..self.runnable.len() {
            if self.ready.len() >= max {
                return;
            }
            let Some(key) = self.runnable.pop_front() else { return };
            if !self.act(key, max) && self.ops.get(key).is_some() {
                self.runnable.push_back(key);
            }
        }
    }

    /// Goes on with an operation; false when it could not.
    fn act(&mut self, key: Key, max: usize) -> bool {
        let Some(op) = self.ops.get(key).filter(|op| op.outcome.is_none()) else { return true };
        let (id, handle) = (op.id, op.handle);
        let progress = match (&op.what, handle) {
            (What::Connect(_), _) => self.finish_connect(key),
            (What::Accept, Some(handle)) => self.accept_all(handle, id, max),
            (What::Receive(group), Some(handle)) => self.receive_some(key, handle, *group, id, max),
            (What::Datagrams(group), Some(handle)) => {
                self.receive_datagrams_some(handle, *group, id, max)
            }
            (What::Read { group, offset }, Some(handle)) => {
                self.read_once(key, handle, *group, *offset)
            }
            (What::Write { .. }, Some(handle)) => self.write_some(key, handle),
            (What::Send(_), Some(handle)) => self.send_some(key, handle),
            (What::Sync, Some(handle)) => self.sync_now(key, handle),
            (_, None) => Ok(()),
        };
        match progress {
            Ok(()) => true,
            Err(error) if is_retry(&error) => false,
            Err(error) => {
                self.fail(key, error);
                true
            }
        }
    }

    fn fd(&self, handle: Handle) -> io::Result<BorrowedFd<'_>> {
        self.handles.get(handle).map(|open| open.fd.as_fd()).ok_or_else(sys::bad_handle)
    }

    fn finish_connect(&mut self, key: Key) -> io::Result<()> {
        let Some(What::Connect(fd)) = self.ops.get(key).map(|op| &op.what) else { return Ok(()) };
        if let Some(error) = sockets::take_error(fd.as_fd())? {
            return Err(error);
        }
        let Some(op) = self.ops.remove(key) else { return Ok(()) };
        let What::Connect(fd) = op.what else { return Ok(()) };
        let kind = match self.handles.add(fd, Kind::Stream) {
            Ok(handle) => EventKind::Connected { handle },
            Err(error) => EventKind::Failed { error },
        };
        self.report(op.id, kind);
        Ok(())
    }

    fn accept_all(&mut self, listener: Handle, id: OpId, max: usize) -> io::Result<()> {
        while self.ready.len() < max {
            let listening = self.fd(listener)?.as_raw_fd();
            let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: no address is asked for, so both pointers may be null.
            let fd = unsafe { libc::accept4(listening, address, len, libc::SOCK_CLOEXEC) };
            match check(fd as libc::ssize_t) {
                Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => continue,
                other => other?,
            };
            // SAFETY: the kernel has just given us this descriptor.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            sockets::set_nodelay(fd.as_fd());
            let peer = sockets::peer(fd.as_fd());
            let handle = self.handles.add(fd, Kind::Stream)?;
            self.report(id, EventKind::Accepted { handle, peer });
        }
        Ok(())
    }

    fn receive_some(
        &mut self,
        key: Key,
        handle: Handle,
        group: Group,
        id: OpId,
        max: usize,
    ) -> io::Result<()> {
        let open = self.handles.get(handle).ok_or_else(sys::bad_handle)?;
        let (fd, is_socket) = (open.fd.as_raw_fd(), open.kind.is_socket());
        for _ in 0..FILLS_PER_TURN {
            let mut full = false;
            let (len, lease) = self.groups.fill(
                group,
                |to, len| {
                    // SAFETY: the group lends `len` writable bytes.
                    let got = unsafe { read_now(fd, is_socket, to, len) }?;
                    full = got == len;
                    Ok(got)
                },
                |got| *got,
            )?;
            if len == 0 {
                self.groups.release(lease);
                self.end(key, EventKind::Eof);
                return Ok(());
            }
            self.report(id, EventKind::Received { lease });
            if !full || !is_socket || self.ready.len() >= max {
                return Ok(());
            }
        }
        Ok(())
    }

    fn receive_datagrams_some(
        &mut self,
        handle: Handle,
        group: Group,
        id: OpId,
        max: usize,
    ) -> io::Result<()> {
        while self.ready.len() < max {
            let fd = self.handles.get(handle).ok_or_else(sys::bad_handle)?.fd.as_fd();
            let (got, lease) = self.groups.fill(
                group,
                // SAFETY: the group lends `len` writable bytes.
                |to, len| unsafe { datagrams::receive(fd, to, len) },
                |got| got.len,
            )?;
            let datagrams::Received { segment_bytes, peer, truncated, .. } = got;
            self.report(id, EventKind::Datagrams { lease, segment_bytes, peer, truncated });
        }
        Ok(())
    }

    fn read_once(&mut self, key: Key, handle: Handle, group: Group, offset: u64) -> io::Result<()> {
        let fd = self.fd(handle)?.as_raw_fd();
        let offset = file_offset(offset)?;
        let (len, lease) = self.groups.fill(
            group,
            // SAFETY: the group lends `len` writable bytes.
            |to, len| check(unsafe { libc::pread(fd, to.cast(), len, offset) }),
            |got| *got,
        )?;
        if len == 0 {
            self.groups.release(lease);
            self.end(key, EventKind::Eof);
        } else {
            self.end(key, EventKind::Received { lease });
        }
        Ok(())
    }

    fn write_some(&mut self, key: Key, handle: Handle) -> io::Result<()> {
        let open = self.handles.get(handle).ok_or_else(sys::bad_handle)?;
        let (fd, kind) = (open.fd.as_raw_fd(), open.kind);
        let Some(op) = self.ops.get_mut(key) else { return Ok(()) };
        let What::Write { buf, offset, written } = &mut op.what else { return Ok(()) };
        while *written < buf.len() {
            match write_now(fd, kind, &buf[*written..], offset.map(|o| o + *written as u64)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if kind == Kind::Pipe {
                // Writable was good for one write only.
                break;
            }
        }
        if *written == buf.len() {
            let (buf, written) = (std::mem::take(buf), *written);
            self.end(key, EventKind::Written { buf, written, result: Ok(()) });
        }
        Ok(())
    }

    fn send_some(&mut self, key: Key, handle: Handle) -> io::Result<()> {
        let open = self.handles.get_mut(handle).ok_or_else(sys::bad_handle)?;
        let Some(op) = self.ops.get_mut(key) else { return Ok(()) };
        let What::Send(cursor) = &mut op.what else { return Ok(()) };
        let Kind::Datagram { gso } = &mut open.kind else {
            return Err(io::Error::from_raw_os_error(libc::EPROTOTYPE));
        };
        if datagrams::send(open.fd.as_fd(), cursor, gso)? == datagrams::Sent::All {
            let (buf, written) = (std::mem::take(&mut cursor.buf), cursor.sent_bytes());
            self.end(key, EventKind::Written { buf, written, result: Ok(()) });
        }
        Ok(())
    }

    fn sync_now(&mut self, key: Key, handle: Handle) -> io::Result<()> {
        let fd = self.fd(handle)?.as_raw_fd();
        // SAFETY: no pointers are passed.
        check(unsafe { libc::fdatasync(fd) } as libc::ssize_t)?;
        self.end(key, EventKind::Synced);
        Ok(())
    }
}

/// Not an end: it goes on when the descriptor is ready, or when a buffer is
/// free again.
fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn file_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// # Safety
/// `to` is writable for `len` bytes, and nobody borrows them.
unsafe fn read_now(fd: i32, is_socket: bool, to: *mut u8, len: usize) -> io::Result<usize> {
    // SAFETY: as the caller vouches. A pipe that polls readable does not
    // block its only reader.
    check(unsafe {
        if is_socket {
            libc::recv(fd, to.cast(), len, libc::MSG_DONTWAIT)
        } else {
            libc::read(fd, to.cast(), len)
        }
    })
}

fn write_now(fd: i32, kind: Kind, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
    let (from, len) = (bytes.as_ptr().cast(), bytes.len());
    if let Some(offset) = offset {
        let offset = file_offset(offset)?;
        // SAFETY: `from` is readable for `len` bytes.
        return check(unsafe { libc::pwrite(fd, from, len, offset) });
    }
    match kind {
        Kind::Stream | Kind::Datagram { .. } => {
            // SAFETY: as above.
            check(unsafe { libc::send(fd, from, len, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
        }
        // SAFETY: as above.
        Kind::File => check(unsafe { libc::write(fd, from, len) }),
        Kind::Pipe => write_pipe(fd, bytes),
    }
}

/// Writes what fits; where the kernel cannot be asked not to block, only what
/// a writable pipe takes for certain.
fn write_pipe(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    let slice = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    // SAFETY: one slice, readable for its length; offset -1 is "where it is".
    let result = check(unsafe { libc::pwritev2(fd, &raw const slice, 1, -1, libc::RWF_NOWAIT) });
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
            // SAFETY: the length is within the slice.
            check(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len().min(PIPE_BYTES)) })
        }
        other => other,
    }
}
