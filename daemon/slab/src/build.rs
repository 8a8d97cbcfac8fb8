//! Building a row in place at the end of a slab.

use std::ptr;

use ringmain_base::limits::DEPTH_MAX;
use rkyv::rend::{i64_le, u16_le, u32_le};

use crate::layout::{HEADER_BYTES, Node, REST_SLOT, RowHeader, SLOT_BYTES, Slot, align8, tag};
use crate::slab::{Full, Inner};

/// A value that is not nested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// No field: removes it.
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
    Number(&'a str),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// Memory for trees under construction, reused from row to row. What is in it
/// belongs to one builder; a new builder empties it, which is what keeps
/// offsets of one row out of another.
#[derive(Debug, Default)]
pub struct Scratch {
    nodes: Vec<Slot>,
    open: Vec<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    first: usize,
    map: bool,
}

/// Bytes that one move copies for a short text.
const WIDE: usize = 16;

/// A row under construction. Dropping it without [`RowBuilder::finish`] leaves
/// the slab as it was.
pub struct RowBuilder<'s> {
    slab: &'s mut Inner,
    scratch: &'s mut Scratch,
    start: usize,
    /// End of the variable part so far, from the slab's start.
    pos: usize,
    limit: usize,
    version: u16,
    slots: u16,
    flags: u32,
    overflow: bool,
}

impl<'s> RowBuilder<'s> {
    #[inline]
    pub(crate) fn begin(
        slab: &'s mut Inner,
        version: u16,
        slots: u16,
        scratch: &'s mut Scratch,
    ) -> Self {
        scratch.nodes.clear();
        scratch.open.clear();
        assert!(slots <= REST_SLOT + 1, "a row of {slots} slots");
        let (start, limit) = (slab.used, slab.limit());
        let fixed = HEADER_BYTES + usize::from(slots) * SLOT_BYTES;
        let overflow = start + fixed > limit;
        if !overflow {
            // SAFETY: `fixed` bytes from `start` were just found to be free.
            unsafe {
                let first = slab.data().add(start + HEADER_BYTES);
                ptr::write_bytes(first, 0, usize::from(slots) * SLOT_BYTES);
            }
        }
        let pos = start + fixed;
        Self { slab, scratch, start, pos, limit, version, slots, flags: 0, overflow }
    }

    /// Sets a field. A slot that the row does not have is a mistake of the
    /// caller.
    #[inline]
    pub fn set(&mut self, slot: u16, value: Scalar<'_>) {
        let node = self.node(value);
        self.put(slot, node);
    }

    /// Sets a field to text.
    #[inline]
    pub fn set_str(&mut self, slot: u16, text: &str) {
        let node = self.store(tag::STR, text.as_bytes());
        self.put(slot, node);
    }

    /// Sets a field to `text[from..to]`; false if there is no such part of it.
    /// As [`RowBuilder::set_str`], but knowing what stands around the value
    /// lets short ones be copied without a branch on their length.
    #[inline]
    pub fn set_str_in(&mut self, slot: u16, text: &str, from: usize, to: usize) -> bool {
        let Some(part) = text.get(from..to) else { return false };
        let wide = part.len() <= WIDE && from + WIDE <= text.len() && self.pos + WIDE <= self.limit;
        if !wide || self.overflow {
            self.set_str(slot, part);
            return true;
        }
        // SAFETY: the bytes read lie in `text`, those written before `limit`,
        // in memory that belongs to no row yet; what is too much is written
        // over by the next value, or lies behind the row.
        unsafe {
            let to = self.slab.data().add(self.pos).cast::<[u8; WIDE]>();
            let from = text.as_ptr().add(from).cast::<[u8; WIDE]>();
            to.write_unaligned(from.read_unaligned());
        }
        let offset = self.pos - self.start;
        self.pos += part.len();
        self.put(slot, Node::new(tag::STR, part.len() as u32, offset as u64));
        true
    }

    /// Sets a field to a whole number.
    #[inline]
    pub fn set_int(&mut self, slot: u16, value: i64) {
        self.put(slot, Node::new(tag::INT, 0, value as u64));
    }

    /// Sets a field to a number.
    #[inline]
    pub fn set_float(&mut self, slot: u16, value: f64) {
        self.put(slot, Node::new(tag::FLOAT, 0, value.to_bits()));
    }

    /// Sets flags of the row ([`crate::BARE`]).
    pub fn set_flags(&mut self, flags: u32) {
        self.flags |= flags & !crate::layout::SCATTERED;
    }

    /// Whether the field has been set to something.
    #[must_use]
    pub fn has(&self, slot: u16) -> bool {
        assert!(slot < self.slots, "slot {slot} of a row of {}", self.slots);
        // SAFETY: slots were zeroed at the beginning and are in bounds.
        !self.overflow && unsafe { (*self.slot_ptr(slot)).tag != tag::ABSENT }
    }

    /// Begins a nested value for `slot`.
    #[inline]
    pub fn tree(&mut self, slot: u16) -> TreeBuilder<'_, 's> {
        self.scratch.nodes.clear();
        self.scratch.open.clear();
        TreeBuilder { row: self, slot }
    }

    /// Makes the row visible.
    ///
    /// # Errors
    /// [`Full`] when it did not fit; the slab is unchanged, and the caller
    /// builds the row again in another slab or after [`crate::Slab::reserve`].
    #[inline]
    pub fn finish(self, ts: i64) -> Result<(), Full> {
        if self.overflow {
            return Err(Full);
        }
        let len = align8(self.pos - self.start);
        // SAFETY: `limit` is a multiple of 8, so the padding is free too; it
        // is zeroed lest it carry bytes of other messages out of the process.
        unsafe {
            let pos = self.slab.data().add(self.pos);
            if self.pos + 8 <= self.limit {
                // More than the padding, but without a loop of a length that
                // nobody can predict.
                pos.cast::<u64>().write_unaligned(0);
            } else {
                for at in 0..self.start + len - self.pos {
                    pos.add(at).write(0);
                }
            }
            let header: *mut RowHeader = self.slab.data().add(self.start).cast();
            header.write(RowHeader {
                len: u32_le::from_native(len as u32),
                version: u16_le::from_native(self.version),
                slots: u16_le::from_native(self.slots),
                flags: u32_le::from_native(self.flags),
                key_hash: u32_le::from_native(0),
                ts: i64_le::from_native(ts),
            });
        }
        self.slab.publish(self.start, len);
        Ok(())
    }

    #[inline]
    fn slot_ptr(&self, slot: u16) -> *mut Slot {
        let offset = self.start + HEADER_BYTES + usize::from(slot) * SLOT_BYTES;
        self.slab.data().wrapping_add(offset).cast()
    }

    #[inline]
    fn put(&mut self, slot: u16, node: Node) {
        assert!(slot < self.slots, "slot {slot} of a row of {}", self.slots);
        assert!(slot < REST_SLOT || node.tag() == tag::MAP || self.overflow, "the rest is a map");
        if !self.overflow {
            // SAFETY: the slot lies in the fixed part, which was found free.
            unsafe { node.write(self.slot_ptr(slot)) };
        }
    }

    #[inline]
    fn node(&mut self, value: Scalar<'_>) -> Node {
        match value {
            Scalar::Absent => Node::ABSENT,
            Scalar::Null => Node::new(tag::NULL, 0, 0),
            Scalar::Bool(v) => Node::new(tag::BOOL, 0, u64::from(v)),
            Scalar::Int(v) => Node::new(tag::INT, 0, v as u64),
            Scalar::Float(v) => Node::new(tag::FLOAT, 0, v.to_bits()),
            Scalar::Number(v) => self.store(tag::NUMBER, v.as_bytes()),
            Scalar::Str(v) => self.store(tag::STR, v.as_bytes()),
            Scalar::Bytes(v) => self.store(tag::BYTES, v),
        }
    }

    /// Copies bytes to the variable part.
    #[inline]
    fn store(&mut self, tag: u8, bytes: &[u8]) -> Node {
        if self.overflow || bytes.len() > self.limit - self.pos {
            self.overflow = true;
            return Node::ABSENT;
        }
        let offset = self.pos - self.start;
        // SAFETY: the bytes end before `limit`.
        unsafe { copy_short(bytes, self.slab.data().add(self.pos)) };
        self.pos += bytes.len();
        Node::new(tag, bytes.len() as u32, offset as u64)
    }

    /// Copies the nodes from `first` on to the variable part, in order.
    fn store_nodes(&mut self, first: usize) -> Option<usize> {
        let nodes = &self.scratch.nodes[first..];
        let pos = align8(self.pos);
        if self.overflow || pos + size_of_val(nodes) > self.limit {
            self.overflow = true;
            return None;
        }
        // SAFETY: the nodes end before `limit`; `pos` is aligned to 8, and the
        // gap before it is zeroed.
        unsafe {
            let data = self.slab.data();
            for gap in self.pos..pos {
                data.add(gap).write(0);
            }
            let to: *mut Slot = data.add(pos).cast();
            ptr::copy_nonoverlapping(nodes.as_ptr(), to, nodes.len());
        }
        self.pos = pos + size_of_val(nodes);
        Some(pos - self.start)
    }
}

/// Builds one nested value, children before parents, without an allocation
/// once the scratch memory has its size.
pub struct TreeBuilder<'b, 's> {
    row: &'b mut RowBuilder<'s>,
    slot: u16,
}

impl TreeBuilder<'_, '_> {
    /// Opens a list. False when it would be nested deeper than [`DEPTH_MAX`];
    /// nothing is opened then.
    #[must_use]
    pub fn list(&mut self) -> bool {
        self.open(false)
    }

    /// Opens a map; then [`TreeBuilder::key`] and a value take turns.
    #[must_use]
    pub fn map(&mut self) -> bool {
        self.open(true)
    }

    /// The next entry's name.
    pub fn key(&mut self, name: &str) {
        assert!(self.expects_key(), "a key where a value belongs");
        let node = self.row.store(tag::STR, name.as_bytes());
        self.row.scratch.nodes.push(node.into());
    }

    /// A value without children; nothing is absent in a tree, so
    /// [`Scalar::Absent`] is null there.
    #[inline]
    pub fn scalar(&mut self, value: Scalar<'_>) {
        assert!(!self.expects_key(), "a value where a key belongs");
        let value = if value == Scalar::Absent { Scalar::Null } else { value };
        let node = self.row.node(value);
        self.row.scratch.nodes.push(node.into());
    }

    /// Closes the innermost list or map.
    pub fn close(&mut self) {
        let open = self.row.scratch.open.pop().expect("close follows an open list or map");
        let count = self.row.scratch.nodes.len() - open.first;
        assert!(!open.map || count.is_multiple_of(2), "a key without a value");
        let offset = self.row.store_nodes(open.first);
        self.row.scratch.nodes.truncate(open.first);
        let (tag, len) = if open.map { (tag::MAP, count / 2) } else { (tag::LIST, count) };
        let node = offset.map_or(Node::ABSENT, |at| Node::new(tag, len as u32, at as u64));
        self.row.scratch.nodes.push(node.into());
    }

    /// How many lists and maps are open.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.row.scratch.open.len()
    }

    /// Puts the finished value into its slot.
    pub fn finish(self) {
        assert!(self.row.scratch.open.is_empty(), "an open list or map");
        let node = self.row.scratch.nodes.pop().expect("a tree has a root");
        assert!(self.row.scratch.nodes.is_empty(), "a tree has one root");
        self.row.put(self.slot, node.into());
    }

    fn open(&mut self, map: bool) -> bool {
        if self.row.scratch.open.len() >= DEPTH_MAX {
            return false;
        }
        assert!(!self.expects_key(), "a value where a key belongs");
        let first = self.row.scratch.nodes.len();
        self.row.scratch.open.push(Open { first, map });
        true
    }

    fn expects_key(&self) -> bool {
        let nodes = self.row.scratch.nodes.len();
        self.row
            .scratch
            .open
            .last()
            .is_some_and(|open| open.map && (nodes - open.first).is_multiple_of(2))
    }
}

/// memcpy for what is mostly short: field values. Two overlapping words beat
/// the call for up to 32 bytes.
///
/// # Safety
/// `bytes.len()` bytes at `to` may be written and do not overlap `bytes`.
#[inline]
pub(crate) unsafe fn copy_short(bytes: &[u8], to: *mut u8) {
    let (from, n) = (bytes.as_ptr(), bytes.len());
    // SAFETY: every access lies in the first `n` bytes of either side.
    unsafe {
        match n {
            16..=32 => {
                let head = from.cast::<u128>().read_unaligned();
                let tail = from.add(n - 16).cast::<u128>().read_unaligned();
                to.cast::<u128>().write_unaligned(head);
                to.add(n - 16).cast::<u128>().write_unaligned(tail);
            }
            8..16 => {
                let head = from.cast::<u64>().read_unaligned();
                let tail = from.add(n - 8).cast::<u64>().read_unaligned();
                to.cast::<u64>().write_unaligned(head);
                to.add(n - 8).cast::<u64>().write_unaligned(tail);
            }
            4..8 => {
                let head = from.cast::<u32>().read_unaligned();
                let tail = from.add(n - 4).cast::<u32>().read_unaligned();
                to.cast::<u32>().write_unaligned(head);
                to.add(n - 4).cast::<u32>().write_unaligned(tail);
            }
            0 => {}
            1..4 => {
                to.write(from.read());
                to.add(n / 2).write(from.add(n / 2).read());
                to.add(n - 1).write(from.add(n - 1).read());
            }
            _ => ptr::copy_nonoverlapping(from, to, n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;
    use crate::{Budget, Slab, ValueRef};

    #[test]
    fn a_part_of_a_text_is_stored_wherever_it_stands_and_however_full_the_slab_is() {
        let text = "0123456789abcdefghijklmnopqrstuvé";
        let mut scratch = Scratch::default();
        let step = if cfg!(miri) { 7 } else { 1 };
        for from in (0..text.len()).step_by(step) {
            for to in from..=text.len() {
                let mut slab = Slab::new(1024, &Budget::new(0));
                // Fills it until no row fits any more: the last ones end at
                // the limit.
                loop {
                    let mut row = slab.build(1, 1, &mut scratch);
                    let stored = row.set_str_in(0, text, from, to);
                    assert_eq!(stored, text.get(from..to).is_some());
                    if !stored || row.finish(0).is_err() {
                        break;
                    }
                }
                for row in slab.rows() {
                    assert!(matches!(row.get(0), ValueRef::Str(part) if part == &text[from..to]));
                    let used = 40 + (to - from);
                    assert!(row.image()[used..].iter().all(|byte| *byte == 0));
                    assert_eq!(row.image().len(), used.next_multiple_of(8));
                }
            }
        }
    }
}
