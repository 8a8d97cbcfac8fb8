//! The table's entries: what was asked for, with the memory that the kernel
//! uses meanwhile.
//!
//! Invariant: an entry whose `in_kernel` is set is neither removed nor are its
//! heap buffers touched; they may only move with the entry, which does not
//! move what they point to.

use std::os::fd::OwnedFd;

use socket2::SockAddr;

use crate::io::{EventKind, Group, Handle, OpId};
use crate::slots::Key;
use crate::sys::datagrams::Cursor;

#[derive(Debug)]
pub(crate) enum What {
    Accept,
    /// The address is boxed: the kernel reads it until the connection stands.
    Connect {
        fd: OwnedFd,
        address: Box<SockAddr>,
    },
    Receive(Group),
    Datagrams(Group),
    Read {
        group: Group,
        offset: u64,
    },
    Write {
        buf: Vec<u8>,
        offset: Option<u64>,
        written: usize,
    },
    Send(Cursor),
    Sync,
}

impl What {
    pub(crate) fn group(&self) -> Option<Group> {
        match self {
            Self::Receive(group) | Self::Datagrams(group) | Self::Read { group, .. } => {
                Some(*group)
            }
            _ => None,
        }
    }

    /// Whether it stands in the queue of its handle's writes.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Send(_) | Self::Sync)
    }

    /// The final event of an operation that fails; a buffer comes back.
    pub(crate) fn failed(self, error: std::io::Error) -> EventKind {
        match self {
            Self::Write { buf, written, .. } => {
                EventKind::Written { buf, written, result: Err(error) }
            }
            Self::Send(cursor) => {
                let written = cursor.sent_bytes();
                EventKind::Written { buf: cursor.buf, written, result: Err(error) }
            }
            _ => EventKind::Failed { error },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) id: OpId,
    pub(crate) handle: Option<Handle>,
    pub(crate) what: What,
    /// The kernel has it and owes a completion.
    pub(crate) in_kernel: bool,
    /// What the kernel has is a wait for readiness, not the operation.
    pub(crate) polling: bool,
    pub(crate) cancelled: bool,
    /// How it ended, while an earlier write holds the report back.
    pub(crate) outcome: Option<EventKind>,
}

impl Op {
    pub(crate) fn new(id: OpId, handle: Option<Handle>, what: What) -> Self {
        let (in_kernel, polling, cancelled) = (false, false, false);
        Self { id, handle, what, in_kernel, polling, cancelled, outcome: None }
    }
}

/// Generations stay below 2^30, so the tokens below are never keys.
pub(crate) const GENERATION_BITS: u32 = 30;

/// Completions that nobody waits for.
pub(crate) const TOKEN_IGNORE: u64 = u64::MAX;
/// The waker's eventfd was written.
pub(crate) const TOKEN_WAKE: u64 = u64::MAX - 1;
/// A park has lasted long enough.
pub(crate) const TOKEN_PARK: u64 = u64::MAX - 2;

pub(crate) fn user_data(key: Key) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.index)
}

pub(crate) fn key(user_data: u64) -> Key {
    Key { index: user_data as u32, generation: (user_data >> 32) as u32 }
}
