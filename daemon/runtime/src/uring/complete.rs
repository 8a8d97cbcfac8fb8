//! What completions mean.
//!
//! A completion without `more` is the last that the kernel owes for an entry;
//! whether it is also the end of the operation is decided here: multishot
//! operations end in the kernel for its own reasons and are issued again.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use io_uring::{cqueue, types};

use super::UringIo;
use super::op::{self, TOKEN_IGNORE, TOKEN_PARK, TOKEN_WAKE, What};
use super::ring::Completion;
use crate::io::{EventKind, Group, Lease, OpId};
use crate::slots::Key;
use crate::sys::sockets::{self, Kind};
use crate::sys::{cancelled, datagrams};

impl UringIo {
    /// Works one completion off.
    pub(super) fn complete(&mut self, completion: Completion) {
        let is_last = !cqueue::more(completion.flags);
        match completion.user_data {
            TOKEN_IGNORE => return,
            TOKEN_WAKE => return self.woken(is_last),
            TOKEN_PARK => return self.park_timeout_passed(),
            _ => {}
        }
        let key = op::key(completion.user_data);
        let Some(op) = self.ops.get_mut(key) else {
            debug_assert!(false, "a completion for nobody: {completion:?}");
            return;
        };
        op.in_kernel = !is_last;
        let id = op.id;
        if op.polling {
            op.polling = false;
            return self.became_ready(key, completion.result);
        }
        match op.what {
            What::Accept => self.accepted(key, id, completion),
            What::Connect { .. } => self.connected(key, completion.result),
            What::Receive(group) => {
                let Some(index) = self.filled(key, group, completion) else {
                    // It may have been started for a buffer that it had no use
                    // for (the stream has ended): the next one takes it.
                    return self.start_waiting(group);
                };
                let lease = self.groups.lend(group, index, 0, completion.result as u32);
                self.received_bytes += lease.len();
                self.report(id, EventKind::Received { lease });
                self.go_on(key);
            }
            What::Datagrams(group) => {
                let Some(index) = self.filled(key, group, completion) else {
                    return self.start_waiting(group);
                };
                let whole = self.groups.lend(group, index, 0, completion.result as u32);
                self.received_bytes += whole.len();
                self.datagrams_received(id, whole);
                self.go_on(key);
            }
            What::Read { group, .. } => {
                self.groups.unreserve(group);
                let Some(index) = self.filled(key, group, completion) else {
                    // Its buffer is free, and nobody will release it.
                    return self.start_waiting(group);
                };
                let lease = self.groups.lend(group, index, 0, completion.result as u32);
                self.end(key, EventKind::Received { lease });
            }
            What::Write { .. } => self.wrote(key, completion.result),
            What::Send(_) => self.became_ready(key, completion.result),
            What::Sync => self.settle_write(key, done(completion.result)),
        }
    }

    /// A wait for readiness is over: the operation itself follows.
    fn became_ready(&mut self, key: Key, result: i32) {
        let Some(op) = self.ops.get(key) else { return };
        if op.cancelled {
            return self.fail(key, cancelled());
        }
        if let Err(error) = done(result) {
            return self.fail(key, error);
        }
        if matches!(op.what, What::Send(_)) {
            let handle = op.handle;
            self.send_now(key);
            if let Some(handle) = handle {
                self.advance_writes(handle);
            }
        } else {
            self.issue(key);
        }
    }

    /// After something was received or accepted: is the kernel still at it?
    fn go_on(&mut self, key: Key) {
        match self.ops.get(key) {
            Some(op) if op.in_kernel => {}
            Some(op) if op.cancelled => self.fail(key, cancelled()),
            Some(_) => self.issue(key),
            None => {}
        }
    }

    fn accepted(&mut self, key: Key, id: OpId, completion: Completion) {
        match done(completion.result) {
            Ok(()) => {
                // SAFETY: the kernel has just given us this descriptor.
                let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
                sockets::set_nodelay(fd.as_fd());
                let peer = sockets::peer(fd.as_fd());
                // A table of a million handles that is full: refused by closing.
                if let Ok(handle) = self.handles.add(fd, Kind::Stream) {
                    self.report(id, EventKind::Accepted { handle, peer });
                }
                self.go_on(key);
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ECONNABORTED | libc::EINTR) => self.go_on(key),
                Some(libc::EAGAIN) => self.issue_poll(key),
                _ => self.fail(key, error),
            },
        }
    }

    fn connected(&mut self, key: Key, result: i32) {
        if let Err(error) = done(result) {
            return self.fail(key, error);
        }
        let Some(op) = self.ops.get_mut(key) else { return };
        if op.cancelled {
            return self.fail(key, cancelled());
        }
        let What::Connect { fd, .. } = std::mem::replace(&mut op.what, What::Accept) else {
            return;
        };
        match self.handles.add(fd, Kind::Stream) {
            Ok(handle) => self.end(key, EventKind::Connected { handle }),
            Err(error) => self.fail(key, error),
        }
    }

    /// The buffer that was filled. Everything else is dealt with here: the
    /// end, an error, no buffer to be had.
    fn filled(&mut self, key: Key, group: Group, completion: Completion) -> Option<u16> {
        let index = cqueue::buffer_select(completion.flags);
        if completion.result > 0 && index.is_some() {
            return index;
        }
        if let Some(index) = index {
            self.groups.return_unused(group, index);
        }
        let datagrams = matches!(self.ops.get(key)?.what, What::Datagrams(_));
        match done(completion.result) {
            // An empty datagram has a header, so this is no datagram at all.
            Ok(()) if datagrams => self.go_on(key),
            Ok(()) => self.end(key, EventKind::Eof),
            Err(error) => match error.raw_os_error() {
                _ if self.ops.get(key)?.cancelled => self.fail(key, cancelled()),
                Some(libc::ENOBUFS) => {
                    if self.groups.retry_or_wait(group, key) {
                        self.issue(key);
                    }
                }
                Some(libc::EAGAIN) => self.issue_poll(key),
                Some(libc::EINTR) => self.issue(key),
                _ => self.fail(key, error),
            },
        }
        None
    }

    fn datagrams_received(&mut self, id: OpId, whole: Lease) {
        let parsed = {
            let bytes = self.groups.bytes(&whole);
            types::RecvMsgOut::parse(bytes, &self.header).map(|out| {
                let payload = out.payload_data();
                let len = payload.len() as u32;
                let offset = (payload.as_ptr() as usize - bytes.as_ptr() as usize) as u32;
                let segment_bytes = datagrams::segment_bytes(out.control_data()).unwrap_or(len);
                let peer = sockets::parse_address(out.name_data());
                (offset, len, segment_bytes, peer, out.is_payload_truncated())
            })
        };
        let Ok((offset, len, segment_bytes, peer, truncated)) = parsed else {
            // Shorter than its own header: no buffer of ours is that small.
            return self.give_back(whole);
        };
        // The kernel has room for a few hundred small datagrams by default, and
        // loses the next; for ten of a local sender, which waits for more room.
        self.hurry();
        let lease = Lease { offset, len, ..whole };
        self.report(id, EventKind::Datagrams { lease, segment_bytes, peer, truncated });
    }

    fn wrote(&mut self, key: Key, result: i32) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let was_cancelled = op.cancelled;
        let What::Write { buf, written, .. } = &mut op.what else { return };
        match done(result) {
            Ok(()) => {
                *written += result as usize;
                if *written >= buf.len() {
                    self.settle_write(key, Ok(()));
                } else if was_cancelled {
                    self.settle_write(key, Err(cancelled()));
                } else if result == 0 {
                    self.settle_write(key, Err(io::ErrorKind::WriteZero.into()));
                } else {
                    self.issue(key);
                }
            }
            Err(error) => match error.raw_os_error() {
                _ if was_cancelled => self.settle_write(key, Err(error)),
                Some(libc::EAGAIN) => self.issue_poll(key),
                Some(libc::EINTR) => self.issue(key),
                _ => self.settle_write(key, Err(error)),
            },
        }
    }

    /// A write or sync has ended in the kernel.
    fn settle_write(&mut self, key: Key, result: io::Result<()>) {
        let handle = self.ops.get(key).and_then(|op| op.handle);
        self.finish_write(key, result);
        if let Some(handle) = handle {
            self.advance_writes(handle);
        }
    }
}

fn done(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}
