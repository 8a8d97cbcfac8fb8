//! Bounds that hold everywhere, in one place.

/// Longest frame (line, datagram, length-prefixed record) that a source
/// accepts unless configured otherwise. Longer ones become dead letters.
pub const FRAME_BYTES_DEFAULT: u32 = 1 << 20;

/// No configuration may allow longer frames than this.
pub const FRAME_BYTES_LIMIT: u32 = 64 << 20;

/// Named fields of a flow that have a slot of their own. Fields beyond it are
/// kept in a nested tree at the end of each row.
pub const SLOTS_MAX: u16 = 64;

/// Deepest nesting of a message. RFC 8259 section 9 lets a parser set one.
pub const DEPTH_MAX: usize = 128;

/// Longest name of a field, in bytes.
pub const FIELD_NAME_BYTES_MAX: usize = 1024;

/// Size of a slab unless configured otherwise.
pub const SLAB_BYTES_DEFAULT: u32 = 64 << 10;

/// Largest size that a slab may grow to for messages that need it.
pub const SLAB_BYTES_MAX: u32 = 256 << 20;

/// Slices of a flow's key space unless configured otherwise.
pub const PARTITIONS_DEFAULT: u16 = 64;

/// How long a partly filled slab may wait for more rows, in microseconds.
pub const LINGER_US_DEFAULT: u64 = 1_000;

/// Shards of one daemon.
pub const SHARDS_MAX: usize = 256;

/// The partition, of `count`, that a key of this hash belongs to. The upper
/// bits are scaled: no division, and every bit counts.
#[must_use]
#[inline]
pub const fn partition_of(key_hash: u32, count: u16) -> u16 {
    ((key_hash as u64 * count as u64) >> 32) as u16
}

const _: () = assert!(FRAME_BYTES_DEFAULT <= FRAME_BYTES_LIMIT);
const _: () = assert!(FRAME_BYTES_LIMIT <= SLAB_BYTES_MAX / 4);
const _: () = assert!(SLAB_BYTES_DEFAULT.is_power_of_two());
