//! Buffers of the poll driver and of the in-memory twin: a free list over one
//! area.

use std::io;

use crate::io::{Group, Lease};
use crate::sys::area::Area;

#[derive(Debug)]
pub(crate) struct Buffers {
    area: Area,
    bytes: u32,
    /// Last in, first out: the same few stay in the cache.
    free: Vec<u16>,
    count: u16,
    /// Operations that name this group and have not ended.
    users: usize,
    dropped: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Option<Buffers>>,
}

impl Groups {
    pub(crate) fn add(&mut self, count: u16, bytes: u32) -> io::Result<Group> {
        if !count.is_power_of_two() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let area = Area::new(usize::from(count), bytes as usize)?;
        let free = (0..count).rev().collect();
        let buffers = Buffers { area, bytes, free, count, users: 0, dropped: false };
        let at = match self.groups.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.groups.push(None);
                self.groups.len() - 1
            }
        };
        let name = u16::try_from(at).map_err(|_| io::ErrorKind::OutOfMemory)?;
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

    pub(crate) fn leave(&mut self, group: Group) {
        if let Some(buffers) = self.get(group) {
            buffers.users -= 1;
        }
        self.sweep(group);
    }

    pub(crate) fn drop_group(&mut self, group: Group) {
        if let Some(buffers) = self.get(group) {
            buffers.dropped = true;
        }
        self.sweep(group);
    }

    fn sweep(&mut self, group: Group) {
        let idle =
            |b: &mut Buffers| b.dropped && b.users == 0 && b.free.len() == usize::from(b.count);
        if self.get(group).is_some_and(idle) {
            self.groups[usize::from(group.0)] = None;
        }
    }

    pub(crate) fn has_free(&self, group: Group) -> bool {
        let buffers = self.groups.get(usize::from(group.0)).and_then(Option::as_ref);
        buffers.is_some_and(|b| !b.free.is_empty())
    }

    /// Lets `fill` write up to its second argument into a free buffer, which is
    /// on loan from then on, unless that failed.
    pub(crate) fn fill<T>(
        &mut self,
        group: Group,
        fill: impl FnOnce(*mut u8, usize) -> io::Result<T>,
        len_of: impl FnOnce(&T) -> usize,
    ) -> io::Result<(T, Lease)> {
        let buffers = self.get(group).ok_or_else(crate::sys::bad_handle)?;
        let index = *buffers.free.last().ok_or(io::ErrorKind::WouldBlock)?;
        let to = buffers.area.buffer(index).as_ptr();
        let got = fill(to, buffers.bytes as usize)?;
        let len = len_of(&got) as u32;
        debug_assert!(len <= buffers.bytes, "{len} bytes in a buffer of {}", buffers.bytes);
        buffers.free.pop();
        Ok((got, Lease { group, index, offset: 0, len }))
    }

    /// What one buffer takes.
    pub(crate) fn buffer_bytes(&mut self, group: Group) -> usize {
        self.get(group).map_or(0, |buffers| buffers.bytes as usize)
    }

    /// Copies bytes that fit into a free buffer.
    pub(crate) fn fill_from(&mut self, group: Group, bytes: &[u8]) -> io::Result<Lease> {
        let copy = |to: *mut u8, len: usize| {
            assert!(bytes.len() <= len, "{} bytes into a buffer of {len}", bytes.len());
            // SAFETY: `to` is writable for `len` bytes, and in no other hands.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
            Ok(())
        };
        self.fill(group, copy, |()| bytes.len()).map(|((), lease)| lease)
    }

    pub(crate) fn bytes(&self, lease: &Lease) -> &[u8] {
        let buffers = self.groups[usize::from(lease.group.0)].as_ref();
        let buffers = buffers.expect("a group lives as long as its leases");
        // SAFETY: a buffer on loan is not in the free list, and only buffers
        // of the free list are written.
        unsafe { buffers.area.bytes(lease.index, lease.offset as usize, lease.len as usize) }
    }

    pub(crate) fn release(&mut self, lease: Lease) {
        let group = lease.group;
        if let Some(buffers) = self.get(group) {
            debug_assert!(buffers.free.len() < usize::from(buffers.count));
            buffers.free.push(lease.index);
        }
        self.sweep(group);
    }
}
