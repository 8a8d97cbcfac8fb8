//! A flow's view of the shard's `Io`: everything asked for through it is noted,
//! so that a flow which is taken out leaves nothing open.
//!
//! One more indirect call per operation; operations are per batch. Reading a
//! lease and giving it back are not noted, and nothing is per message.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use ringmain_runtime::io::{Event, EventKind, Group, Handle, Io, Lease, OpId};

/// What a flow has open on a shard.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    handles: BTreeSet<Handle>,
    groups: BTreeSet<u16>,
}

impl Holdings {
    /// Notes the connection that an event brings.
    pub(crate) fn note(&mut self, event: &EventKind) {
        if let EventKind::Accepted { handle, .. } | EventKind::Connected { handle } = event {
            self.handles.insert(*handle);
        }
    }

    /// Closes everything.
    pub(crate) fn close(&mut self, io: &mut dyn Io) {
        for handle in std::mem::take(&mut self.handles) {
            io.close(handle);
        }
        for group in std::mem::take(&mut self.groups) {
            io.drop_group(Group(group));
        }
    }
}

/// Disposes of an event whose flow is gone.
pub(crate) fn dispose(event: EventKind, io: &mut dyn Io) {
    match event {
        EventKind::Accepted { handle, .. } | EventKind::Connected { handle } => io.close(handle),
        EventKind::Received { lease } | EventKind::Datagrams { lease, .. } => io.release(lease),
        _ => {}
    }
}

/// `Io` with a ledger.
pub(crate) struct ScopedIo<'a> {
    pub io: &'a mut dyn Io,
    pub holdings: &'a mut Holdings,
}

impl Io for ScopedIo<'_> {
    fn group(&mut self, count: u16, bytes: u32) -> io::Result<Group> {
        let group = self.io.group(count, bytes)?;
        self.holdings.groups.insert(group.0);
        Ok(group)
    }

    fn drop_group(&mut self, group: Group) {
        self.holdings.groups.remove(&group.0);
        self.io.drop_group(group);
    }

    fn bytes(&self, lease: &Lease) -> &[u8] {
        self.io.bytes(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.io.release(lease);
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Handle> {
        let handle = self.io.adopt(fd)?;
        self.holdings.handles.insert(handle);
        Ok(handle)
    }

    fn descriptor(&self, handle: Handle) -> Option<BorrowedFd<'_>> {
        self.io.descriptor(handle)
    }

    fn patient(&mut self, handle: Handle) {
        self.io.patient(handle);
    }

    fn close(&mut self, handle: Handle) {
        self.holdings.handles.remove(&handle);
        self.io.close(handle);
    }

    fn accept(&mut self, listener: Handle, op: OpId) {
        self.io.accept(listener, op);
    }

    fn connect(&mut self, addr: SocketAddr, op: OpId) {
        self.io.connect(addr, op);
    }

    fn connect_unix(&mut self, path: &Path, op: OpId) {
        self.io.connect_unix(path, op);
    }

    fn receive(&mut self, handle: Handle, group: Group, op: OpId) {
        self.io.receive(handle, group, op);
    }

    fn receive_datagrams(&mut self, handle: Handle, group: Group, op: OpId) {
        self.io.receive_datagrams(handle, group, op);
    }

    fn read(&mut self, handle: Handle, group: Group, offset: u64, op: OpId) {
        self.io.read(handle, group, offset, op);
    }

    fn write(&mut self, handle: Handle, buf: Vec<u8>, offset: Option<u64>, op: OpId) {
        self.io.write(handle, buf, offset, op);
    }

    fn send_datagrams(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, op: OpId) {
        self.io.send_datagrams(handle, buf, ends, op);
    }

    fn sync(&mut self, handle: Handle, op: OpId) {
        self.io.sync(handle, op);
    }

    fn timer(&mut self, after_us: u64, op: OpId) {
        self.io.timer(after_us, op);
    }

    fn cancel(&mut self, op: OpId) {
        self.io.cancel(op);
    }

    fn poll(&mut self, events: &mut Vec<Event>, max: usize) {
        self.io.poll(events, max);
    }

    fn in_flight(&self) -> usize {
        self.io.in_flight()
    }
}
