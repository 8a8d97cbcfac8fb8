//! What is kept per stream: the part of a frame that has come so far, and
//! where in the stream we are.

use crate::csv::CsvStream;
use crate::options::{Framing, Limits};
use crate::refused::HEAD_BYTES;

/// A carry that grew beyond this gives its memory back when it is empty, so
/// that one long frame on each of many connections does not stay in memory.
const CARRY_KEPT_BYTES: usize = 16 << 10;

/// The state of one stream (connection, file). The carry never exceeds
/// `Limits::frame_bytes`.
pub struct Framer {
    pub(crate) framing: Framing,
    pub(crate) frame_bytes: usize,
    /// Where the frame at hand begins.
    pub(crate) offset: u64,
    /// Its bytes so far, without a length prefix.
    pub(crate) carry: Vec<u8>,
    /// The bytes so far of its length prefix.
    pub(crate) prefix: [u8; 4],
    pub(crate) prefix_len: usize,
    pub(crate) skip: Option<Skip>,
    pub(crate) csv: CsvStream,
}

/// A frame that is too long and is passed over.
pub(crate) struct Skip {
    /// Its beginning.
    pub(crate) head: Vec<u8>,
    /// Bytes passed so far.
    pub(crate) passed: u64,
}

impl Skip {
    /// Passes over more bytes of the frame.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        let head = bytes.len().min(HEAD_BYTES - self.head.len());
        self.head.extend_from_slice(&bytes[..head]);
        self.passed += bytes.len() as u64;
    }
}

impl Framer {
    /// The state at the beginning of a stream.
    #[must_use]
    pub fn new(framing: Framing, limits: Limits) -> Self {
        Self {
            framing,
            frame_bytes: limits.frame_bytes(),
            offset: 0,
            carry: Vec::new(),
            prefix: [0; 4],
            prefix_len: 0,
            skip: None,
            csv: CsvStream::default(),
        }
    }

    /// The state at `offset` of a stream, where a frame begins. A CSV stream
    /// with a header needs [`crate::Decoder::read_header`] as well.
    #[must_use]
    pub fn resume_at(framing: Framing, limits: Limits, offset: u64) -> Self {
        Self { offset, ..Self::new(framing, limits) }
    }

    /// Bytes of a partial frame that are kept.
    #[must_use]
    pub fn carry_bytes(&self) -> usize {
        self.carry.len() + self.skip.as_ref().map_or(0, |skip| skip.head.len())
    }

    /// Where in the stream the first frame begins that was not completely
    /// consumed: the place to resume at.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Forgets everything: a new stream begins.
    pub fn reset(&mut self) {
        let limits = Limits { frame_bytes: self.frame_bytes as u32 };
        *self = Self::new(self.framing, limits);
    }

    /// The same for a stream whose frames end otherwise.
    pub fn reset_as(&mut self, framing: Framing) {
        self.framing = framing;
        self.reset();
    }

    /// Bytes that the frame at hand may still have.
    pub(crate) fn allowed(&self) -> usize {
        self.frame_bytes - self.carry.len()
    }

    /// Keeps bytes of a frame that is not complete; the caller has looked at
    /// [`Framer::allowed`].
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.allowed());
        let missing = (self.carry.len() + bytes.len()).saturating_sub(self.carry.capacity());
        if missing > 0 {
            // Doubles, as `Vec` would, but not beyond the longest frame.
            let more = missing.max(self.carry.capacity()).min(self.allowed()).max(bytes.len());
            self.carry.reserve_exact(more);
        }
        self.carry.extend_from_slice(bytes);
    }

    /// The frame at hand, of `bytes` with line end or prefix, is done with.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        self.prefix_len = 0;
        self.carry.clear();
        if self.carry.capacity() > CARRY_KEPT_BYTES {
            self.carry = Vec::new();
        }
    }

    /// Begins to pass over the frame at hand.
    pub(crate) fn begin_skip(&mut self) {
        let mut head = std::mem::take(&mut self.carry);
        let passed = head.len() as u64;
        head.truncate(HEAD_BYTES);
        head.shrink_to_fit();
        self.skip = Some(Skip { head, passed });
    }

    /// The declared length behind a whole prefix.
    pub(crate) fn declared(&self) -> Option<usize> {
        (self.prefix_len == 4).then(|| match self.framing {
            Framing::U32Le => u32::from_le_bytes(self.prefix) as usize,
            _ => u32::from_be_bytes(self.prefix) as usize,
        })
    }
}
