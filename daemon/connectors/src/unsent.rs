//! What a sink had not had accepted when another took its place.

use crate::http_sink::Batch;
use crate::outbuf::Buf;

/// Messages in the form in which they are sent, in order.
#[derive(Debug)]
pub struct Unsent {
    pub(crate) what: What,
    /// Slabs of which something is among it, or behind it, and of which every
    /// row was taken.
    pub(crate) slabs: u64,
}

#[derive(Debug)]
pub(crate) enum What {
    /// Whole frames of a stream.
    Frames(Vec<Buf>),
    /// Requests.
    Requests(Vec<Batch>),
}

impl Unsent {
    /// Slabs that the sink had begun with and not finished, and that had come
    /// to their end.
    #[must_use]
    pub fn slabs(&self) -> u64 {
        self.slabs
    }
}
