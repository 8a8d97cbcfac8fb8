//! The far side of the twin: what a test feeds, and what it finds.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::io::Peer;

/// Names something in the world: the far end of a stream, a listener, a
/// datagram socket, a file. Stays valid after the connector closes its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End(pub(super) usize);

/// What an injected failure hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Receiving or reading.
    Read,
    /// Writing or sending.
    Write,
    /// Bringing to stable storage.
    Sync,
    /// Accepting a connection.
    Accept,
}

/// Where a connection is made to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// An internet address.
    Ip(std::net::SocketAddr),
    /// A unix address.
    Path(PathBuf),
}

/// What a socket takes before somebody reads, unless the test says otherwise.
const WINDOW_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) bytes: Vec<u8>,
    pub(super) segment_bytes: u32,
    pub(super) peer: Peer,
}

#[derive(Debug)]
pub(super) enum Kind {
    Stream {
        inbox: VecDeque<u8>,
        finished: bool,
        outbox: Vec<u8>,
        /// The peer is gone: reading and writing fail.
        gone: bool,
        /// The connector has closed its side.
        closed: bool,
    },
    Listener {
        waiting: VecDeque<usize>,
    },
    Datagrams {
        inbox: VecDeque<Arrival>,
        outbox: Vec<Vec<u8>>,
    },
    File {
        content: Vec<u8>,
        durable: Vec<u8>,
    },
    /// A file of this machine, for connectors that open theirs themselves.
    Disk(std::fs::File),
}

/// How likely it is that something goes wrong, each from 0 to 1. All of it
/// follows from the twin's seed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// An operation that could go on does not, this time.
    pub delay: f64,
    /// A write into a file fails half way: the disk is full.
    pub full: f64,
    /// A sync fails.
    pub sync: f64,
    /// A connection is refused although somebody listens.
    pub refuse: f64,
    /// A connection breaks, with what was not read.
    pub reset: f64,
}

#[derive(Debug)]
pub(super) struct Thing {
    pub(super) kind: Kind,
    /// Bytes that may lie unread on the far side.
    pub(super) window_bytes: usize,
    pub(super) failures: VecDeque<(Act, i32)>,
}

impl Thing {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, window_bytes: WINDOW_BYTES, failures: VecDeque::new() }
    }

    pub(super) fn stream() -> Self {
        Self::new(Kind::Stream {
            inbox: VecDeque::new(),
            finished: false,
            outbox: Vec::new(),
            gone: false,
            closed: false,
        })
    }

    /// The failure that the test has ordered for this act, if one is due.
    pub(super) fn take_failure(&mut self, act: Act) -> Option<std::io::Error> {
        let at = self.failures.iter().position(|(when, _)| *when == act)?;
        let (_, errno) = self.failures.remove(at)?;
        Some(std::io::Error::from_raw_os_error(errno))
    }
}
