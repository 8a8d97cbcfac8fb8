//! One connection of an HTTP source: which part of which request it is in.

use ringmain_runtime::io::Io;

use super::answer::Answer;
use super::work::Work;
use crate::http::HEAD_BYTES_MAX;
use crate::http::wire::Wire;

/// What a connection is doing.
pub(super) enum Phase {
    /// It reads a head, or waits for one.
    Head,
    /// It reads a body; only a poll can, since that takes a slab.
    Body(Box<Work>),
    /// Everything of the request is in the flow, and the answer waits until
    /// this batch is accepted.
    Waiting { batch: u64, answer: Answer, keep_alive: bool },
    /// The answer is on its way.
    Answering { keep_alive: bool },
    /// The answer was the last; what still comes is thrown away, so that the
    /// answer is not lost by a reset.
    Linger,
}

pub(super) struct Connection {
    /// Which of all connections that there were.
    pub(super) number: u64,
    pub(super) wire: Wire,
    pub(super) peer: String,
    pub(super) phase: Phase,
    /// A head, as far as it has come.
    pub(super) head: Vec<u8>,
    /// When what it waits for began.
    pub(super) since_us: u64,
    /// It is in the queue for the decoder, since then.
    pub(super) queued: bool,
    pub(super) queued_us: u64,
    /// What it was last counted with.
    pub(super) carried: usize,
}

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heading {
    Incomplete,
    Complete,
    TooLong,
}

impl Connection {
    pub(super) fn new(number: u64, wire: Wire, peer: String, now_us: u64) -> Self {
        Self {
            number,
            wire,
            peer,
            phase: Phase::Head,
            head: Vec::new(),
            since_us: now_us,
            queued: false,
            queued_us: 0,
            carried: 0,
        }
    }

    /// Takes what has come of a head.
    pub(super) fn read_head(&mut self, now_us: u64, io: &mut dyn Io) -> Heading {
        let bytes = self.wire.bytes(io);
        if bytes.is_empty() {
            return Heading::Incomplete;
        }
        if self.head.is_empty() {
            // Line ends before a request are read over.
            let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            if blank > 0 {
                self.wire.consume(blank, io);
                return self.read_head(now_us, io);
            }
            self.since_us = now_us;
        }
        let old = self.head.len();
        let take = bytes.len().min(HEAD_BYTES_MAX - old);
        let (end, used) = if old == 0 {
            let end = head_end(&bytes[..take]);
            let used = end.unwrap_or(take);
            self.head.extend_from_slice(&bytes[..used]);
            (end, used)
        } else {
            let start = old.saturating_sub(3);
            self.head.extend_from_slice(&bytes[..take]);
            let end = head_end(&self.head[start..]).map(|end| start + end);
            self.head.truncate(end.unwrap_or(self.head.len()));
            (end, self.head.len() - old)
        };
        self.wire.consume(used, io);
        match end {
            Some(_) => Heading::Complete,
            None if self.head.len() >= HEAD_BYTES_MAX => Heading::TooLong,
            None => Heading::Incomplete,
        }
    }

    /// Bytes that it keeps beside the receive buffers.
    pub(super) fn carried_bytes(&self) -> usize {
        let work = match &self.phase {
            Phase::Body(work) => work.carried_bytes(),
            _ => 0,
        };
        self.head.len() + self.wire.held_bytes() + work
    }
}

/// Where the empty line behind a head ends.
fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match bytes.get(at + 1..) {
        Some([b'\n', ..]) => Some(at + 2),
        Some([b'\r', b'\n', ..]) => Some(at + 3),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_at_an_empty_line() {
        assert_eq!(head_end(b"GET / HTTP/1.1\r\na: b\r\n\r\nbody"), Some(24));
        assert_eq!(head_end(b"GET / HTTP/1.1\n\nbody"), Some(16));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\na: b\r\n\r"), None);
        assert_eq!(head_end(b""), None);
    }
}
