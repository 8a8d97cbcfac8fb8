//! What a decoder reports besides rows.

use ringmain_base::Reason;

/// Bytes of an overlong frame that are kept for its dead letter.
pub const HEAD_BYTES: usize = 4096;

/// A frame that did not become a row: the material of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    /// Why, as counted.
    pub reason: Reason,
    /// Why, for whoever reads the dead letter.
    pub detail: &'a str,
    /// Where the frame (or its length prefix) starts in the stream.
    pub offset: u64,
    /// The byte within the frame where the mistake was found.
    pub column: u32,
    /// The frame, or its first [`HEAD_BYTES`] when it is too long.
    pub frame: &'a [u8],
}

/// What one call of [`crate::Decoder::feed`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the chunk that need not be given again: decoded, refused or
    /// carried.
    pub consumed: usize,
    /// Rows added to the slab.
    pub rows: u64,
    /// Frames reported as refused.
    pub refused: u64,
    /// The slab has no room for the next frame: ship it and call again with
    /// the rest of the chunk.
    pub full: bool,
}

/// Why one frame did not become a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fail {
    /// The row does not fit what is left of the slab.
    Full,
    /// The frame is wrong.
    Bad(Bad),
}

/// What is wrong with a frame, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

impl From<Bad> for Fail {
    fn from(bad: Bad) -> Self {
        Self::Bad(bad)
    }
}

pub(crate) const fn bad<T>(at: usize, what: &'static str) -> Result<T, Bad> {
    Err(Bad { at, what })
}
