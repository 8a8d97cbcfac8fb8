//! Provided buffers: one area per group, whose buffers the kernel takes from
//! a ring of its own and which come back there when a lease is released.
//!
//! Invariants: a buffer is in the kernel's ring or on loan, never both; a
//! group is unmapped only when nothing is on loan, no operation names it and
//! its ring is unregistered.
//!
//! An operation that finds no buffer waits here and is started again when one
//! is released: one operation per buffer, oldest first, so that many streams
//! share few buffers fairly.

use std::collections::VecDeque;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::io::{Group, Lease};
use crate::slots::Key;
use crate::sys::area::{Area, map};

const COUNT_MAX: u16 = 1 << 15;

#[derive(Debug)]
struct Buffers {
    area: Area,
    entries: NonNull<BufRingEntry>,
    entries_bytes: usize,
    bytes: u32,
    count: u16,
    tail: u16,
    /// Buffers that a lease stands for.
    on_loan: u16,
    /// Reads of files under way: each has a buffer or will take one.
    reading: u16,
    users: usize,
    dropped: bool,
    waiting: VecDeque<Key>,
}

impl Buffers {
    fn new(count: u16, bytes: u32) -> io::Result<Self> {
        if !count.is_power_of_two() || count > COUNT_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let area = Area::new(usize::from(count), bytes as usize)?;
        let entries_bytes = usize::from(count) * size_of::<BufRingEntry>();
        let entries = map(entries_bytes)?.cast();
        Ok(Self {
            area,
            entries,
            entries_bytes,
            bytes,
            count,
            tail: 0,
            on_loan: 0,
            reading: 0,
            users: 0,
            dropped: false,
            waiting: VecDeque::new(),
        })
    }

    /// Puts a buffer into the kernel's ring, visible with the next publish.
    fn provide(&mut self, index: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let address = self.area.buffer(index).as_ptr() as u64;
        // SAFETY: the mapping holds `count` entries and slot < count. The
        // kernel reads an entry only after the tail has passed it.
        let entry = unsafe { &mut *self.entries.as_ptr().add(slot) };
        entry.set_addr(address);
        entry.set_len(self.area.stride() as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail lies within the first entry, which is mapped as
        // long as self; only this thread writes it.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) } as *const AtomicU16;
        // SAFETY: aligned to two, shared with the kernel only.
        unsafe { (*tail).store(self.tail, Ordering::Release) };
    }

    fn available(&self) -> bool {
        self.on_loan + self.reading < self.count
    }

    fn give_back(&mut self, index: u16) {
        self.provide(index);
        self.publish();
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; the group is unregistered
        // or its ring is closed, so the kernel no longer looks at it.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), self.entries_bytes) };
    }
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Option<Buffers>>,
}

impl Groups {
    pub(crate) fn add(
        &mut self,
        submitter: &Submitter<'_>,
        count: u16,
        bytes: u32,
    ) -> io::Result<Group> {
        let at = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        let name = u16::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut buffers = Buffers::new(count, bytes)?;
        let entries = buffers.entries.as_ptr() as u64;
        // SAFETY: the entries are mapped, page-aligned, `count` of them, and
        // stay until the group is unregistered or the ring is gone.
        unsafe { submitter.register_buf_ring_with_flags(entries, count, name, 0) }?;
        (0..count).for_each(|index| buffers.provide(index));
        buffers.publish();
        if at == self.groups.len() {
            self.groups.push(None);
        }
        self.groups[at] = Some(buffers);
        Ok(Group(name))
    }

    fn get(&mut self, group: Group) -> Option<&mut Buffers> {
        self.groups.get_mut(usize::from(group.0))?.as_mut()
    }

    /// Counts an operation in; refuses a group that is not there.
    pub(crate) fn enter(&mut self, group: Group) -> bool {
        let Some(buffers) = self.get(group).filter(|b| !b.dropped) else { return false };
        buffers.users += 1;
        true
    }

    pub(crate) fn leave(&mut self, submitter: &Submitter<'_>, group: Group) {
        if let Some(buffers) = self.get(group) {
            buffers.users -= 1;
        }
        self.sweep(submitter, group);
    }

    pub(crate) fn drop_group(&mut self, submitter: &Submitter<'_>, group: Group) {
        if let Some(buffers) = self.get(group) {
            buffers.dropped = true;
        }
        self.sweep(submitter, group);
    }

    fn sweep(&mut self, submitter: &Submitter<'_>, group: Group) {
        let idle = self.get(group).is_some_and(|b| b.dropped && b.users == 0 && b.on_loan == 0);
        if idle && submitter.unregister_buf_ring(group.0).is_ok() {
            self.groups[usize::from(group.0)] = None;
        }
    }

    /// Bytes that a file is read in.
    pub(crate) fn buffer_bytes(&mut self, group: Group) -> u32 {
        self.get(group).map_or(0, |b| b.bytes)
    }

    /// Reserves a buffer for the read of a file, or has it wait for one.
    pub(crate) fn reserve(&mut self, group: Group, key: Key) -> bool {
        let Some(buffers) = self.get(group) else { return false };
        if !buffers.available() {
            buffers.waiting.push_back(key);
            return false;
        }
        buffers.reading += 1;
        true
    }

    pub(crate) fn unreserve(&mut self, group: Group) {
        if let Some(buffers) = self.get(group) {
            buffers.reading -= 1;
        }
    }

    /// Whether an operation that the kernel refused for want of a buffer may
    /// try again at once; it waits otherwise.
    pub(crate) fn retry_or_wait(&mut self, group: Group, key: Key) -> bool {
        let Some(buffers) = self.get(group) else { return false };
        if buffers.available() {
            return true;
        }
        buffers.waiting.push_back(key);
        false
    }

    /// A waiting operation, if there is a buffer for it.
    pub(crate) fn next_waiting(&mut self, group: Group) -> Option<Key> {
        let buffers = self.get(group)?;
        if buffers.available() { buffers.waiting.pop_front() } else { None }
    }

    /// The kernel has filled a buffer: it is on loan now.
    pub(crate) fn lend(&mut self, group: Group, index: u16, offset: u32, len: u32) -> Lease {
        if let Some(buffers) = self.get(group) {
            buffers.on_loan += 1;
        }
        Lease { group, index, offset, len }
    }

    /// The kernel took a buffer and put nothing in.
    pub(crate) fn return_unused(&mut self, group: Group, index: u16) {
        if let Some(buffers) = self.get(group) {
            buffers.give_back(index);
        }
    }

    pub(crate) fn bytes(&self, lease: &Lease) -> &[u8] {
        let buffers = self.groups[usize::from(lease.group.0)].as_ref();
        let buffers = buffers.expect("a group lives as long as its leases");
        // SAFETY: a buffer on loan is not in the kernel's ring, so nobody
        // writes it until the lease, which is borrowed here, is released.
        unsafe { buffers.area.bytes(lease.index, lease.offset as usize, lease.len as usize) }
    }

    pub(crate) fn release(&mut self, submitter: &Submitter<'_>, lease: Lease) {
        if let Some(buffers) = self.get(lease.group) {
            buffers.give_back(lease.index);
            buffers.on_loan -= 1;
            if buffers.dropped {
                self.sweep(submitter, lease.group);
            }
        }
    }
}
