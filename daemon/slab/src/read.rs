//! Reading rows, unchecked: what makes that sound is argued in the crate's
//! head and nowhere else.

use std::marker::PhantomData;
use std::slice;
use std::str;

use crate::layout::{HEADER_BYTES, REST_SLOT, RowHeader, SCATTERED, SLOT_BYTES, Slot, align8, tag};

/// One message in a slab.
#[derive(Clone, Copy)]
pub struct RowRef<'s> {
    at: *const u8,
    slab: PhantomData<&'s [u8]>,
}

/// A value of a row, borrowed from the slab.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'s> {
    /// There is no such field.
    Absent,
    /// JSON null.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A number that needs more than 64 bits, as JSON text.
    Number(&'s str),
    /// Text.
    Str(&'s str),
    /// Bytes.
    Bytes(&'s [u8]),
    /// A list of values.
    List(ListRef<'s>),
    /// A map from names to values, in the order of arrival.
    Map(MapRef<'s>),
}

impl<'s> RowRef<'s> {
    /// # Safety
    /// A row that keeps the crate's invariants begins at `at` and lives for
    /// `'s`.
    #[inline]
    pub(crate) const unsafe fn from_ptr(at: *const u8) -> Self {
        Self { at, slab: PhantomData }
    }

    /// What stands before the slots.
    #[must_use]
    #[inline]
    pub fn header(self) -> &'s RowHeader {
        // SAFETY: a row begins with its header (crate invariant).
        unsafe { &*self.at.cast() }
    }

    /// When the message came in, microseconds since the Unix epoch.
    #[must_use]
    #[inline]
    pub fn ts(self) -> i64 {
        self.header().ts.to_native()
    }

    /// Slots of the row.
    #[must_use]
    #[inline]
    pub fn slots(self) -> u16 {
        self.header().slots.to_native()
    }

    /// The value in `slot`; absent when the row is older than the field.
    #[must_use]
    #[inline]
    pub fn get(self, slot: u16) -> ValueRef<'s> {
        match self.slot(slot) {
            // SAFETY: the slot belongs to this row (crate invariant).
            Some(slot) => unsafe { value(self.at, slot) },
            None => ValueRef::Absent,
        }
    }

    /// The value in `slot` as a number, if it is one that `f64` holds.
    #[must_use]
    #[inline]
    pub fn number(self, slot: u16) -> Option<f64> {
        let slot = self.slot(slot)?;
        match slot.tag {
            tag::FLOAT => Some(f64::from_bits(slot.payload.to_native())),
            tag::INT => Some(slot.payload.to_native() as i64 as f64),
            _ => None,
        }
    }

    /// Fields beyond the slot limit.
    #[must_use]
    pub fn rest(self) -> Option<MapRef<'s>> {
        match self.get(REST_SLOT) {
            ValueRef::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The raw slot.
    #[must_use]
    #[inline]
    pub(crate) fn slot(self, slot: u16) -> Option<&'s Slot> {
        // SAFETY: `slots` slots stand behind the header (crate invariant).
        (slot < self.slots())
            .then(|| unsafe { &*self.at.add(HEADER_BYTES + usize::from(slot) * SLOT_BYTES).cast() })
    }

    /// The row's own bytes. Whole only if the row is not [`SCATTERED`].
    #[must_use]
    #[inline]
    pub fn image(self) -> &'s [u8] {
        // SAFETY: `len` bytes belong to the row and are initialised.
        unsafe { slice::from_raw_parts(self.at, self.header().len.to_native() as usize) }
    }

    /// An upper bound of the bytes that a copy of the row takes.
    #[must_use]
    pub fn image_bound(self) -> usize {
        let own = self.header().len.to_native() as usize;
        if self.header().flags.to_native() & SCATTERED == 0 { own } else { self.gather_bound() }
    }

    /// An upper bound of the bytes that [`gather`](crate::edit) writes, which
    /// lays values out in another order, and so pads in other places.
    pub(crate) fn gather_bound(self) -> usize {
        let fixed = HEADER_BYTES + usize::from(self.slots()) * SLOT_BYTES;
        let bound = |slot: u16| self.slot(slot).map_or(0, |s| self.deep_bytes(s));
        fixed + (0..self.slots()).map(bound).sum::<usize>()
    }

    fn deep_bytes(self, slot: &Slot) -> usize {
        match slot.tag {
            tag::STR | tag::BYTES | tag::NUMBER => slot.len(),
            tag::LIST | tag::MAP => {
                // SAFETY: the slot belongs to this row.
                let nodes = unsafe { children(self.at, slot) };
                let own = align8(1) + size_of_val(nodes);
                own + nodes.iter().map(|node| self.deep_bytes(node)).sum::<usize>()
            }
            _ => 0,
        }
    }

    #[inline]
    pub(crate) fn as_ptr(self) -> *const u8 {
        self.at
    }
}

/// # Safety
/// `slot` belongs to the row at `row`, which keeps the crate's invariants and
/// lives for `'s`.
#[inline]
unsafe fn value<'s>(row: *const u8, slot: &Slot) -> ValueRef<'s> {
    let payload = slot.payload.to_native();
    match slot.tag {
        tag::NULL => ValueRef::Null,
        tag::BOOL => ValueRef::Bool(payload != 0),
        tag::INT => ValueRef::Int(payload as i64),
        tag::FLOAT => ValueRef::Float(f64::from_bits(payload)),
        // SAFETY: offset and length lie inside the slab and the bytes of
        // strings and numbers are UTF-8 (crate invariant).
        tag::STR => ValueRef::Str(unsafe { str::from_utf8_unchecked(bytes(row, slot)) }),
        // SAFETY: as above.
        tag::NUMBER => ValueRef::Number(unsafe { str::from_utf8_unchecked(bytes(row, slot)) }),
        // SAFETY: as above.
        tag::BYTES => ValueRef::Bytes(unsafe { bytes(row, slot) }),
        // SAFETY: as above, for the children.
        tag::LIST => ValueRef::List(ListRef { row, nodes: unsafe { children(row, slot) } }),
        // SAFETY: as above; a map has an even number of nodes.
        tag::MAP => ValueRef::Map(MapRef { row, nodes: unsafe { children(row, slot) } }),
        _ => ValueRef::Absent,
    }
}

/// # Safety
/// As for [`value`], with a string, bytes or number slot.
#[inline]
pub(crate) unsafe fn bytes<'s>(row: *const u8, slot: &Slot) -> &'s [u8] {
    // SAFETY: by the caller's promise.
    unsafe { slice::from_raw_parts(row.add(slot.offset()), slot.len()) }
}

/// # Safety
/// As for [`value`], with a list or map slot.
#[inline]
pub(crate) unsafe fn children<'s>(row: *const u8, slot: &Slot) -> &'s [Slot] {
    let count = if slot.tag == tag::MAP { slot.len() * 2 } else { slot.len() };
    // SAFETY: by the caller's promise; nodes are aligned to 8.
    unsafe { slice::from_raw_parts(row.add(slot.offset()).cast(), count) }
}

/// A list in a row.
#[derive(Clone, Copy)]
pub struct ListRef<'s> {
    row: *const u8,
    nodes: &'s [Slot],
}

impl<'s> ListRef<'s> {
    /// Elements.
    #[must_use]
    pub fn len(self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.nodes.is_empty()
    }

    /// The element at `at`, absent beyond the end.
    #[must_use]
    pub fn get(self, at: usize) -> ValueRef<'s> {
        // SAFETY: nodes belong to the row at `row`.
        self.nodes.get(at).map_or(ValueRef::Absent, |node| unsafe { value(self.row, node) })
    }

    /// The elements in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = ValueRef<'s>> {
        // SAFETY: nodes belong to the row at `row`.
        self.nodes.iter().map(move |node| unsafe { value(self.row, node) })
    }
}

/// A map in a row.
#[derive(Clone, Copy)]
pub struct MapRef<'s> {
    row: *const u8,
    nodes: &'s [Slot],
}

impl<'s> MapRef<'s> {
    /// Entries.
    #[must_use]
    pub fn len(self) -> usize {
        self.nodes.len() / 2
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.nodes.is_empty()
    }

    /// The entries in order of arrival.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'s str, ValueRef<'s>)> {
        let row = self.row;
        self.nodes.chunks_exact(2).map(move |pair| {
            // SAFETY: nodes belong to the row at `row`, keys are strings.
            unsafe { (str::from_utf8_unchecked(bytes(row, &pair[0])), value(row, &pair[1])) }
        })
    }

    /// The value of `name`, the last one if there are several, absent when
    /// there is none.
    #[must_use]
    pub fn get(self, name: &str) -> ValueRef<'s> {
        let same = |(key, _): &(&str, _)| *key == name;
        self.iter().filter(same).last().map_or(ValueRef::Absent, |(_, value)| value)
    }
}

impl std::fmt::Debug for ListRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl std::fmt::Debug for MapRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl std::fmt::Debug for RowRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries((0..self.slots()).map(|slot| self.get(slot))).finish()
    }
}
