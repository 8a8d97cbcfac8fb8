//! Why a message became a dead letter or was dropped: a closed set, so that
//! counters by reason are bounded.

/// Why a component refused a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The bytes are not what `decode` says they are.
    Decode,
    /// The frame is longer than `frame_bytes`.
    TooLong,
    /// The bytes ended in the middle of a frame.
    Truncated,
    /// An expression or a Lua operator raised an error on this message.
    Script,
    /// A Lua operator ran out of its time or memory, or a throttle or a window
    /// of its limit.
    Limit,
    /// The message needs more memory than one slab may have.
    Memory,
    /// No field of that name has a value that the component can use.
    Field,
    /// The encoder cannot express the message.
    Encode,
    /// The other side refused it for good.
    Rejected,
    /// The other side could not be reached in as many attempts as `retry`
    /// allows.
    Undelivered,
}

impl Reason {
    /// Every reason, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Decode,
        Self::TooLong,
        Self::Truncated,
        Self::Script,
        Self::Limit,
        Self::Memory,
        Self::Field,
        Self::Encode,
        Self::Rejected,
        Self::Undelivered,
    ];

    /// The name that dead letters and metrics carry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
            Self::Script => "script",
            Self::Limit => "limit",
            Self::Memory => "memory",
            Self::Field => "field",
            Self::Encode => "encode",
            Self::Rejected => "rejected",
            Self::Undelivered => "undelivered",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_the_order_of_their_numbers() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }
}
