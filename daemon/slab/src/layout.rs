//! The bytes of a row. `lua/` reads and writes the same layout through
//! LuaJIT's FFI: a change here changes `lua/src/prelude.lua`.

use ringmain_base::limits::SLOTS_MAX;
use rkyv::Portable;
use rkyv::bytecheck::CheckBytes;
use rkyv::rend::{i64_le, u16_le, u32_le, u64_le};

/// The row refers to bytes behind its own length, in the same slab.
pub const SCATTERED: u32 = 1;

/// The message was a JSON text that is not an object: its only field is
/// written without the object around it.
pub const BARE: u32 = 2;

/// Slot that holds a map of the fields beyond [`SLOTS_MAX`], where a row has
/// that many slots.
pub const REST_SLOT: u16 = SLOTS_MAX;

/// Kinds of values. The number 0 is "no such field", so that zeroed slots are
/// absent fields.
pub mod tag {
    /// The field does not exist.
    pub const ABSENT: u8 = 0;
    /// JSON null.
    pub const NULL: u8 = 1;
    /// Payload 0 or 1.
    pub const BOOL: u8 = 2;
    /// Payload is an `i64`.
    pub const INT: u8 = 3;
    /// Payload is an `f64`.
    pub const FLOAT: u8 = 4;
    /// UTF-8 at offset `payload`, `len` bytes.
    pub const STR: u8 = 5;
    /// Bytes at offset `payload`, `len` of them.
    pub const BYTES: u8 = 6;
    /// A number that neither `i64` nor `f64` holds exactly, as JSON text.
    pub const NUMBER: u8 = 7;
    /// `len` slots at offset `payload`.
    pub const LIST: u8 = 8;
    /// `len` pairs of slots (key, value) at offset `payload`.
    pub const MAP: u8 = 9;
    /// The highest tag.
    pub const LAST: u8 = MAP;
}

/// What stands before the slots of a row.
#[derive(Portable, CheckBytes, Clone, Copy, Debug)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub struct RowHeader {
    /// Bytes of header, slots and variable part; a multiple of 8.
    pub len: u32_le,
    /// Fields that the schema had when the row was built.
    pub version: u16_le,
    /// Slots of this row.
    pub slots: u16_le,
    /// [`SCATTERED`], [`BARE`].
    pub flags: u32_le,
    /// Hash of the partition key, 0 until it is computed.
    pub key_hash: u32_le,
    /// When the message came in, microseconds since the Unix epoch.
    pub ts: i64_le,
}

/// A tagged value of 16 bytes: a field of a row, or a node of a tree.
#[derive(Portable, CheckBytes, Clone, Copy, Debug)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub struct Slot {
    /// One of [`tag`].
    pub tag: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Bytes or elements, by tag.
    pub len: u32_le,
    /// Value or offset relative to the row, by tag.
    pub payload: u64_le,
}

/// A slot on its way to its place: two words that are written as such. A
/// [`Slot`] that passes through a `Result` is taken apart into bytes, and what
/// reads the words back waits for every one of them (10 ns a field).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    head: u64,
    payload: u64,
}

impl Node {
    /// An absent field.
    pub(crate) const ABSENT: Self = Self::new(tag::ABSENT, 0, 0);

    #[inline]
    pub(crate) const fn new(tag: u8, len: u32, payload: u64) -> Self {
        Self { head: tag as u64 | ((len as u64) << 32), payload }
    }

    #[inline]
    pub(crate) const fn tag(self) -> u8 {
        self.head as u8
    }

    /// # Safety
    /// `to` is aligned to 8 and may be written.
    #[inline]
    pub(crate) unsafe fn write(self, to: *mut Slot) {
        let words: *mut u64 = to.cast();
        // SAFETY: by the caller's promise; a slot is two words.
        unsafe {
            words.write(self.head.to_le());
            words.add(1).write(self.payload.to_le());
        }
    }
}

impl From<Slot> for Node {
    fn from(slot: Slot) -> Self {
        Self::new(slot.tag, slot.len.to_native(), slot.payload.to_native())
    }
}

impl From<Node> for Slot {
    #[inline]
    fn from(node: Node) -> Self {
        Self {
            tag: node.tag(),
            reserved: [0; 3],
            len: u32_le::from_native((node.head >> 32) as u32),
            payload: u64_le::from_native(node.payload),
        }
    }
}

impl Slot {
    pub(crate) fn offset(&self) -> usize {
        self.payload.to_native() as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.len.to_native() as usize
    }
}

/// Size of a row's header.
pub const HEADER_BYTES: usize = size_of::<RowHeader>();

/// Size of a slot.
pub const SLOT_BYTES: usize = size_of::<Slot>();

const _: () = assert!(HEADER_BYTES == 24 && align_of::<RowHeader>() == 8);
const _: () = assert!(SLOT_BYTES == 16 && align_of::<Slot>() == 8);
const _: () =
    assert!(std::mem::offset_of!(Slot, len) == 4 && std::mem::offset_of!(Slot, payload) == 8);

/// The next multiple of 8.
pub(crate) const fn align8(n: usize) -> usize {
    (n + 7) & !7
}
