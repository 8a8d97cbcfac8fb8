//! The table of descriptors that a real driver owns.
//!
//! A [`Handle`] packs the slot and its generation, so that a handle kept after
//! closing finds nothing. A descriptor is closed by dropping its entry, which
//! a driver does only when no operation is left in `ops`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::io::Handle;
use crate::slots::{Key, Slots};
use crate::sys::sockets::{self, Kind};
use crate::writes::WriteQueue;

const INDEX_BITS: u32 = 20;
const GENERATION_BITS: u32 = 32 - INDEX_BITS;

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: Kind,
    pub(crate) writes: WriteQueue,
    /// Everything asked of this handle that has not ended.
    pub(crate) ops: Vec<Key>,
    pub(crate) closing: bool,
    /// Nobody waits for what is written here.
    pub(crate) patient: bool,
}

#[derive(Debug)]
pub(crate) struct Handles {
    slots: Slots<Open>,
}

impl Handles {
    pub(crate) fn new() -> Self {
        Self { slots: Slots::new(1 << INDEX_BITS, GENERATION_BITS) }
    }

    /// Takes a descriptor of any kind.
    pub(crate) fn adopt(&mut self, fd: OwnedFd) -> io::Result<Handle> {
        let kind = sockets::kind(fd.as_fd())?;
        self.add(fd, kind)
    }

    pub(crate) fn add(&mut self, fd: OwnedFd, kind: Kind) -> io::Result<Handle> {
        let (writes, ops) = (WriteQueue::default(), Vec::new());
        // Only what goes out through a socket may be an answer.
        let open = Open { fd, kind, writes, ops, closing: false, patient: !kind.is_socket() };
        let full = |_| io::Error::from_raw_os_error(libc::ENFILE);
        self.slots.insert(open).map(pack).map_err(full)
    }

    /// An entry that may be used: there, and not being closed.
    pub(crate) fn usable(&mut self, handle: Handle) -> Option<&mut Open> {
        self.slots.get_mut(unpack(handle)).filter(|open| !open.closing)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&Open> {
        self.slots.get(unpack(handle))
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut Open> {
        self.slots.get_mut(unpack(handle))
    }

    /// An operation on the handle has ended; closes what was waiting for it.
    pub(crate) fn op_ended(&mut self, handle: Handle, key: Key) {
        let Some(open) = self.slots.get_mut(unpack(handle)) else { return };
        if let Some(at) = open.ops.iter().position(|k| *k == key) {
            open.ops.swap_remove(at);
        }
        self.close_if_idle(handle);
    }

    pub(crate) fn close_if_idle(&mut self, handle: Handle) {
        let key = unpack(handle);
        if self.slots.get(key).is_some_and(|open| open.closing && open.ops.is_empty()) {
            self.slots.remove(key);
        }
    }
}

fn pack(key: Key) -> Handle {
    Handle(key.generation << INDEX_BITS | key.index)
}

fn unpack(handle: Handle) -> Key {
    Key { index: handle.0 & ((1 << INDEX_BITS) - 1), generation: handle.0 >> INDEX_BITS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_not_taken_for_the_one_that_follows_it() {
        let mut handles = Handles::new();
        let first = handles.adopt(tempfile::tempfile().unwrap().into()).unwrap();
        handles.get_mut(first).unwrap().closing = true;
        handles.close_if_idle(first);
        let second = handles.adopt(tempfile::tempfile().unwrap().into()).unwrap();
        assert_ne!(first, second);
        assert!(handles.usable(first).is_none());
        assert!(handles.usable(second).is_some());
    }

    #[test]
    fn a_closing_handle_stays_until_its_last_operation_ended() {
        let mut handles = Handles::new();
        let handle = handles.adopt(tempfile::tempfile().unwrap().into()).unwrap();
        let key = Key { index: 3, generation: 0 };
        let open = handles.usable(handle).unwrap();
        open.ops.push(key);
        open.closing = true;
        handles.close_if_idle(handle);
        assert!(handles.usable(handle).is_none());
        assert!(handles.get(handle).is_some());
        handles.op_ended(handle, key);
        assert!(handles.get(handle).is_none());
    }
}
