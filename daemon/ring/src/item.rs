//! What travels on an edge: slabs with the numbers they stand for, and markers.

/// The source sequence numbers that a slab carries rows of, both inclusive.
/// Numbers start at 1, so that 0 can say "nothing yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Lowest number.
    pub first: u64,
    /// Highest number.
    pub last: u64,
}

impl Span {
    /// For a slab whose rows stand for no message of a source, such as those
    /// that a timer emits: nobody waits for its ack.
    pub const EMPTY: Self = Self { first: 1, last: 0 };

    /// From `first` to `last`, both inclusive.
    #[must_use]
    pub const fn new(first: u64, last: u64) -> Self {
        Self { first, last }
    }

    /// Whether it holds no number.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// Control in band: it keeps its place among the slabs, and needs no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Everything before it belongs to the checkpoint of this number.
    Barrier(u64),
    /// A batch of this number begins (a file, a transfer).
    Begin(u64),
    /// The batch is complete; whether it counts is decided by what follows.
    End(u64),
    /// The batch counts.
    Commit(u64),
    /// The batch does not count; what was received of it is void.
    Cancel(u64),
    /// Everything after it comes from this version of the flow, or a later one.
    Version(u64),
    /// Nothing follows; finish what you have.
    Drain,
    /// No row with an event time before this will follow (microseconds).
    Watermark(i64),
}

/// One place in an edge's forward ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<S> {
    /// Payload.
    Slab {
        /// The memory with the rows.
        slab: S,
        /// What it stands for.
        span: Span,
    },
    /// Control.
    Marker(Marker),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_keeps_every_number_of_both() {
        let (low, high) = (Span::new(3, 5), Span::new(9, 11));
        assert_eq!(high.join(low), Span::new(3, 11));
        assert_eq!(low.join(Span::EMPTY), low);
        assert_eq!(Span::EMPTY.join(high), high);
        assert!(Span::EMPTY.join(Span::EMPTY).is_empty());
    }
}
