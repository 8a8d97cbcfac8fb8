//! `Io`: what a connector may ask of the machine, and what comes back.
//!
//! Completion-based: a connector submits operations under an [`OpId`] of its
//! own and later receives [`Event`]s that carry it. Nothing here blocks, and
//! nothing is a future: a shard's turn polls for events and hands each to its
//! owner. Implementations: io_uring ([`crate::uring`]), poll(2)
//! ([`crate::pollio`]) for machines where io_uring is refused, and an
//! in-memory twin ([`crate::memory`]) for tests and simulation; one
//! conformance suite runs over all of them.
//!
//! Invariants:
//! - A buffer that the kernel may write belongs to the driver until it comes
//!   back as a [`Lease`]; a lease is released exactly once, by value.
//! - A group's buffers are its bound: when all are on loan, receiving stops
//!   (and with it the peer, through TCP's window) until one is released, and
//!   then goes on by itself.
//! - Writes on one handle complete in the order of their submission.
//! - Every submitted operation ends in exactly one final event, also when it
//!   is cancelled or its handle is closed: `Failed` with `ECANCELED`, or
//!   `Written` with that error, since a buffer always comes back.
//! - A handle that was closed is never taken for a later one: what is asked
//!   of it fails with `EBADF`.
//! - TCP connections that are made or accepted here have `TCP_NODELAY` set.
//!
//! Deliberately absent: opening files, resolving names, binding sockets.
//! These are control work, done with std or rustix by the connector, which
//! then hands the descriptor over with [`Io::adopt`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// A descriptor that the driver owns; an index, not a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u32);

/// A bounded set of receive buffers that belongs to one connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group(pub u16);

/// Who asked: `owner` is the connector on this shard, `tag` its own number.
/// One `OpId` names at most one operation in flight per kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId {
    /// The connector, numbered by the shard.
    pub owner: u32,
    /// Chosen by the connector.
    pub tag: u32,
}

/// A filled receive buffer on loan. Not `Clone`: it goes back exactly once,
/// through [`Io::release`].
#[derive(Debug)]
#[must_use = "a lease that is dropped is a buffer lost; release it"]
pub struct Lease {
    pub(crate) group: Group,
    pub(crate) index: u16,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

impl Lease {
    /// Bytes received.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing was received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The other end of a socket, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An internet address.
    Ip(SocketAddr),
    /// A unix socket, or a pipe.
    Local,
}

/// Something that happened, for the connector that asked.
#[derive(Debug)]
pub struct Event {
    /// The operation that it belongs to.
    pub op: OpId,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug)]
pub enum EventKind {
    /// A listener accepted a connection; more may follow.
    Accepted {
        /// The new connection.
        handle: Handle,
        /// Who connected.
        peer: Peer,
    },
    /// A connection was made; final.
    Connected {
        /// The new connection.
        handle: Handle,
    },
    /// Bytes of a stream or of a file. Not final for `receive`, final for
    /// `read`.
    Received {
        /// The bytes.
        lease: Lease,
    },
    /// One or, coalesced by the kernel (UDP_GRO), several datagrams of
    /// `segment_bytes` each, the last perhaps shorter. Not final.
    Datagrams {
        /// The bytes.
        lease: Lease,
        /// Length of each but the last; the whole length when there is one.
        segment_bytes: u32,
        /// Who sent them.
        peer: Peer,
        /// The datagram was longer than the buffer and lost its end.
        truncated: bool,
    },
    /// The peer closed its side, or the file has no more bytes there; final.
    Eof,
    /// All of `buf` was written, or an error ended it; final.
    Written {
        /// The buffer comes back, contents unchanged.
        buf: Vec<u8>,
        /// How many bytes of it were written: all of them unless `result` is
        /// an error.
        written: usize,
        /// Why it stopped short.
        result: io::Result<()>,
    },
    /// Data is on stable storage; final.
    Synced,
    /// The time of a timer has come; final.
    Timer,
    /// The operation failed or was cancelled; final.
    Failed {
        /// Why.
        error: io::Error,
    },
}

/// What a connector may ask of the machine.
pub trait Io {
    /// Makes a group of `count` (a power of two, at most 32,768) receive
    /// buffers of at least `bytes` each: what is received in one piece may be
    /// up to 191 bytes longer, a file is read in pieces of exactly `bytes`.
    /// [`crate::group_bytes`] says what it takes of the memory.
    ///
    /// # Errors
    /// When the memory is not to be had.
    fn group(&mut self, count: u16, bytes: u32) -> io::Result<Group>;

    /// Gives the group's memory back as soon as no operation uses it and every
    /// lease has been released. Nothing new may be asked for with it.
    fn drop_group(&mut self, group: Group);

    /// The bytes of a lease.
    fn bytes(&self, lease: &Lease) -> &[u8];

    /// Returns the buffer; receiving that had stopped for want of buffers
    /// goes on.
    fn release(&mut self, lease: Lease);

    /// Takes a descriptor over (file, pipe, listener, socket).
    ///
    /// # Errors
    /// When the table of descriptors is full.
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Handle>;

    /// The descriptor behind a handle, to set options or ask for addresses.
    /// `None` when it is closed, or when there is none (in the twin).
    fn descriptor(&self, handle: Handle) -> Option<BorrowedFd<'_>>;

    /// Whoever reads what is written here is not kept waiting by a fraction of
    /// a millisecond more ([`crate::GATHER_US`]), as over all other sockets:
    /// acknowledgements within a wide window. For as long as it is open.
    fn patient(&mut self, handle: Handle);

    /// Cancels what is in flight on the handle, then closes it. Writes that
    /// were not done are given up: close after the last `Written`.
    fn close(&mut self, handle: Handle);

    /// Accepts connections until cancelled.
    fn accept(&mut self, listener: Handle, op: OpId);

    /// Connects a stream socket to an internet address.
    fn connect(&mut self, addr: SocketAddr, op: OpId);

    /// Connects a stream socket to a unix address.
    fn connect_unix(&mut self, path: &Path, op: OpId);

    /// Receives from a stream (socket, pipe, terminal) until its end, an
    /// error or a cancel.
    fn receive(&mut self, handle: Handle, group: Group, op: OpId);

    /// Receives datagrams, with their sender and kernel coalescing where the
    /// socket has `UDP_GRO` set, until an error or a cancel.
    fn receive_datagrams(&mut self, handle: Handle, group: Group, op: OpId);

    /// Reads once from a file at `offset` into one buffer of the group;
    /// `Received` or `Eof`.
    fn read(&mut self, handle: Handle, group: Group, offset: u64, op: OpId);

    /// Writes all of `buf`: at `offset` of a file, or to a stream, socket,
    /// pipe or append-only file where it is `None`.
    fn write(&mut self, handle: Handle, buf: Vec<u8>, offset: Option<u64>, op: OpId);

    /// Sends `buf` on a connected datagram socket as datagrams that end at
    /// the given offsets (`ends` is ascending, its last is `buf.len()`).
    /// `Written` when all are handed to the kernel. Equal lengths are sent
    /// coalesced (UDP_SEGMENT) where the kernel can.
    fn send_datagrams(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, op: OpId);

    /// Brings to stable storage what was written to the handle before
    /// (fdatasync): starts when those writes are done, and holds up none that
    /// come after.
    fn sync(&mut self, handle: Handle, op: OpId);

    /// Fires once, `after_us` microseconds after the turn began.
    fn timer(&mut self, after_us: u64, op: OpId);

    /// Ends what is in flight under this id; its final event still comes, and
    /// may say that the operation was faster. Linear in the operations in
    /// flight: to end everything of one connection, close it.
    fn cancel(&mut self, op: OpId);

    /// Moves what has happened into `events`, at most `max` of them, and
    /// submits what was asked for since the last call. Never blocks. Hand in
    /// the same vector every time: then nothing is allocated per event.
    fn poll(&mut self, events: &mut Vec<Event>, max: usize);

    /// Operations that have not had their final event.
    fn in_flight(&self) -> usize;
}
