//! Editing rows in place.
//!
//! Scalars are written into their slot. Text goes behind the last row of the
//! slab and the row becomes [`SCATTERED`]. A row that lacks the slot (it is
//! older than the field) is first gathered behind the last row, with more
//! slots. Space that an edit leaves unused comes back when the slab does.

use ringmain_base::limits::SLOTS_MAX;
use rkyv::rend::{u16_le, u32_le};

use crate::build::{Scalar, copy_short};
use crate::layout::{HEADER_BYTES, Node, RowHeader, SCATTERED, SLOT_BYTES, Slot, align8, tag};
use crate::read::{RowRef, bytes, children};
use crate::slab::{Full, Inner, Shared};

/// Where a field's new value comes from ([`RowMut::assign`]).
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// From outside the slab.
    Scalar(Scalar<'a>),
    /// Text that is in the slab already.
    Shared(Shared),
    /// The value that another field of the row has before the assignment.
    Field(u16),
}

/// Fields that are usually assigned at once, at most.
const FEW: usize = 4;

/// A row that may be changed.
pub struct RowMut<'s> {
    slab: &'s mut Inner,
    at: usize,
}

impl<'s> RowMut<'s> {
    #[inline]
    pub(crate) fn new(slab: &'s mut Inner, at: usize) -> Self {
        Self { slab, at }
    }

    /// The row as it is now.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> RowRef<'_> {
        // SAFETY: `at` is in the index.
        unsafe { RowRef::from_ptr(self.slab.row_ptr(self.at)) }
    }

    /// Sets or, with [`Scalar::Absent`], removes a field.
    ///
    /// # Errors
    /// [`Full`] when the slab cannot grow; the row keeps its old value.
    #[inline]
    pub fn set(&mut self, slot: u16, value: Scalar<'_>) -> Result<(), Full> {
        if slot >= self.as_ref().slots() {
            if matches!(value, Scalar::Absent) {
                return Ok(());
            }
            self.widen(slot)?;
        }
        let node = self.node(value)?;
        self.write(slot, node);
        Ok(())
    }

    /// Sets a field to a whole number.
    ///
    /// # Errors
    /// As [`RowMut::set`].
    #[inline]
    pub fn set_int(&mut self, slot: u16, value: i64) -> Result<(), Full> {
        self.put(slot, Node::new(tag::INT, 0, value as u64))
    }

    /// Sets a field to a number.
    ///
    /// # Errors
    /// As [`RowMut::set`].
    #[inline]
    pub fn set_float(&mut self, slot: u16, value: f64) -> Result<(), Full> {
        self.put(slot, Node::new(tag::FLOAT, 0, value.to_bits()))
    }

    /// Sets a field to text that [`crate::Slab::intern`] put into this slab.
    /// No byte of it is copied, unless the row stands behind the text.
    ///
    /// # Errors
    /// [`Full`] when the slab cannot grow; the row keeps its old value.
    ///
    /// # Panics
    /// When the text is not in this slab, or not since it was last cleared.
    #[inline]
    pub fn set_shared(&mut self, slot: u16, text: Shared) -> Result<(), Full> {
        if slot >= self.as_ref().slots() {
            self.widen(slot)?;
        }
        let node = self.shared(text)?;
        self.write(slot, node);
        Ok(())
    }

    /// Sets several fields at once: [`Source::Field`] reads what was there
    /// before. Of two values for one field the later wins.
    ///
    /// # Errors
    /// [`Full`] when the slab cannot grow; the row keeps all its old values.
    ///
    /// # Panics
    /// When there are more values than a row has slots.
    pub fn assign<'a>(
        &mut self,
        sets: impl Iterator<Item = (u16, Source<'a>)> + Clone,
    ) -> Result<(), Full> {
        if let Some(top) = sets.clone().map(|(slot, _)| slot).max() {
            self.reserve_slots(top + 1)?;
        }
        if sets.clone().nth(FEW).is_none() {
            self.assign_at_most::<FEW>(sets)
        } else {
            self.assign_at_most::<{ SLOTS_MAX as usize }>(sets)
        }
    }

    /// What has to be kept until all of it is known is written to the stack.
    #[inline]
    fn assign_at_most<'a, const N: usize>(
        &mut self,
        sets: impl Iterator<Item = (u16, Source<'a>)> + Clone,
    ) -> Result<(), Full> {
        let mut nodes = [Node::ABSENT; N];
        for (at, (_, source)) in sets.clone().enumerate() {
            nodes[at] = match source {
                Source::Scalar(value) => self.node(value)?,
                Source::Shared(text) => self.shared(text)?,
                Source::Field(from) => self.field(from),
            };
        }
        for ((slot, _), node) in sets.zip(nodes) {
            self.write(slot, node);
        }
        Ok(())
    }

    /// Sets a field to what another field has, whatever it is.
    ///
    /// # Errors
    /// [`Full`] when the slab cannot grow; the row keeps its old value.
    #[inline]
    pub fn copy(&mut self, from: u16, to: u16) -> Result<(), Full> {
        if to >= self.slots() {
            self.widen(to)?;
        }
        let node = self.field(from);
        self.write(to, node);
        Ok(())
    }

    /// Gives the row at least `slots` slots. Rows older than a field lack its
    /// slot; a row moves to the end of the used memory for it.
    ///
    /// # Errors
    /// [`Full`] when the slab cannot grow; the row is as it was.
    #[inline]
    pub fn reserve_slots(&mut self, slots: u16) -> Result<(), Full> {
        if slots > self.slots() { self.widen(slots - 1) } else { Ok(()) }
    }

    /// Removes every field whose bit in `slots` is not set, and all fields
    /// beyond the slot limit.
    pub fn keep(&mut self, slots: u64) {
        for slot in 0..self.as_ref().slots() {
            if slot >= SLOTS_MAX || slots & (1 << slot) == 0 {
                self.write(slot, Node::ABSENT);
            }
        }
    }

    /// Slots of the row.
    #[must_use]
    #[inline]
    pub fn slots(&self) -> u16 {
        self.as_ref().slots()
    }

    /// Moves the value of `from` to `to`, whatever it is; `from` is absent
    /// afterwards.
    ///
    /// # Errors
    /// [`Full`] when the slab cannot grow; the row is unchanged.
    pub fn rename(&mut self, from: u16, to: u16) -> Result<(), Full> {
        if self.slot(from).tag() == tag::ABSENT || from == to {
            return Ok(());
        }
        if to >= self.as_ref().slots() {
            self.widen(to)?;
        }
        // Read again: widening moved the row, and with it its offsets.
        let node = self.slot(from);
        self.write(to, node);
        self.write(from, Node::ABSENT);
        Ok(())
    }

    /// Sets the hash of the partition key.
    #[inline]
    pub fn set_key_hash(&mut self, hash: u32) {
        self.header().key_hash = u32_le::from_native(hash);
    }

    #[inline]
    fn slot(&self, slot: u16) -> Node {
        self.as_ref().slot(slot).map_or(Node::ABSENT, |slot| (*slot).into())
    }

    #[inline]
    fn header(&mut self) -> &mut RowHeader {
        // SAFETY: `at` is in the index, and the slab is borrowed exclusively.
        unsafe { &mut *self.slab.row_ptr(self.at).cast() }
    }

    /// Writes a value without bytes of its own.
    #[inline]
    fn put(&mut self, slot: u16, node: Node) -> Result<(), Full> {
        self.reserve_slots(slot + 1)?;
        self.write(slot, node);
        Ok(())
    }

    #[inline]
    fn write(&mut self, slot: u16, node: Node) {
        assert!(slot < self.as_ref().slots());
        assert!(slot < SLOTS_MAX || node.tag() == tag::ABSENT, "the rest is a map");
        // SAFETY: the slot is in bounds; `node` is a scalar or has offsets of
        // this row.
        unsafe {
            let slots: *mut Slot = self.slab.row_ptr(self.at).add(HEADER_BYTES).cast();
            node.write(slots.add(usize::from(slot)));
        }
    }

    #[inline]
    fn node(&mut self, value: Scalar<'_>) -> Result<Node, Full> {
        Ok(match value {
            Scalar::Absent => Node::ABSENT,
            Scalar::Null => Node::new(tag::NULL, 0, 0),
            Scalar::Bool(v) => Node::new(tag::BOOL, 0, u64::from(v)),
            Scalar::Int(v) => Node::new(tag::INT, 0, v as u64),
            Scalar::Float(v) => Node::new(tag::FLOAT, 0, v.to_bits()),
            Scalar::Number(v) => self.store(tag::NUMBER, v.as_bytes())?,
            Scalar::Str(v) => self.store(tag::STR, v.as_bytes())?,
            Scalar::Bytes(v) => self.store(tag::BYTES, v)?,
        })
    }

    /// The value of a field, to be written to another field of this row: both
    /// refer to the same bytes then, which no contiguous row does.
    #[inline]
    fn field(&mut self, from: u16) -> Node {
        let node = self.slot(from);
        if node.tag() >= tag::STR {
            self.scatter();
        }
        node
    }

    #[inline]
    fn shared(&mut self, text: Shared) -> Result<Node, Full> {
        let pos = self.slab.shared_at(text);
        // SAFETY: `at` is in the index; both addresses lie in the slab.
        let offset = unsafe {
            let row = self.slab.row_ptr(self.at);
            self.slab.data().add(pos).offset_from(row)
        };
        if offset < 0 {
            return self.copy_shared(pos, text.len());
        }
        self.scatter();
        Ok(Node::new(tag::STR, text.len() as u32, offset as u64))
    }

    /// The row was built or gathered after the text was interned: offsets do
    /// not point backwards, so it gets a copy.
    #[cold]
    fn copy_shared(&mut self, from: usize, len: usize) -> Result<Node, Full> {
        self.slab.reserve(len)?;
        let pos = self.slab.used;
        // SAFETY: the text ends before `used`, and `reserve` made room for the
        // copy behind it; `at` is in the index.
        let offset = unsafe {
            let data = self.slab.data();
            std::ptr::copy_nonoverlapping(data.add(from), data.add(pos), len);
            data.add(pos).offset_from(self.slab.row_ptr(self.at))
        };
        self.slab.used = pos + align8(len);
        self.scatter();
        Ok(Node::new(tag::STR, len as u32, offset as u64))
    }

    #[inline]
    fn scatter(&mut self) {
        let header = self.header();
        header.flags = u32_le::from_native(header.flags.to_native() | SCATTERED);
    }

    /// Copies bytes behind the last row.
    #[inline]
    fn store(&mut self, tag: u8, bytes: &[u8]) -> Result<Node, Full> {
        self.slab.reserve(bytes.len())?;
        let pos = self.slab.used;
        // SAFETY: `reserve` made room; `at` is in the index.
        let offset = unsafe {
            copy_short(bytes, self.slab.data().add(pos));
            let row = self.slab.row_ptr(self.at);
            self.slab.data().add(pos).offset_from(row)
        };
        self.slab.used = pos + align8(bytes.len());
        self.scatter();
        Ok(Node::new(tag, bytes.len() as u32, offset as u64))
    }

    /// Gathers the row behind the last one, with slots up to `slot`.
    #[cold]
    fn widen(&mut self, slot: u16) -> Result<(), Full> {
        assert!(slot < SLOTS_MAX, "fields beyond the slot limit have no slot");
        let bound = self.as_ref().gather_bound() + usize::from(slot + 1) * SLOT_BYTES;
        self.slab.reserve(bound)?;
        let offset = self.slab.used;
        // SAFETY: `at` is in the index; the room was reserved, and nothing
        // else reads the slab meanwhile.
        unsafe {
            let row = RowRef::from_ptr(self.slab.row_ptr(self.at));
            let len = gather(row, slot + 1, self.slab.data().add(offset));
            debug_assert!(len <= align8(bound));
            self.slab.used = offset + len;
            self.slab.set_row(self.at, offset);
        }
        Ok(())
    }
}

/// Appends a contiguous copy of a scattered row.
pub(crate) fn gather_append(slab: &mut Inner, row: RowRef<'_>, slots: u16) -> Result<(), Full> {
    if slab.room() < align8(row.gather_bound()) {
        return Err(Full);
    }
    let at = slab.used;
    // SAFETY: the bound of the copy's size was just found to be free.
    let len = unsafe { gather(row, slots, slab.data().add(at)) };
    debug_assert!(len <= align8(row.gather_bound()));
    slab.publish(at, len);
    Ok(())
}

/// Writes a contiguous copy of `row` with at least `slots` slots to `to` and
/// returns its length, a multiple of 8.
///
/// # Safety
/// `to` is aligned to 8 and has room for the row's `gather_bound` and the
/// slots; it does not overlap what the row refers to.
unsafe fn gather(row: RowRef<'_>, slots: u16, to: *mut u8) -> usize {
    let old = row.slots();
    let slots = slots.max(old);
    let fixed = HEADER_BYTES + usize::from(slots) * SLOT_BYTES;
    let mut copy = Gather { from: row.as_ptr(), to, pos: fixed };
    for at in 0..slots {
        let node = match row.slot(at) {
            // SAFETY: the slot belongs to the row; room by the caller.
            Some(slot) => unsafe { copy.node(slot) },
            None => Node::ABSENT,
        };
        // SAFETY: inside the fixed part.
        unsafe { node.write(to.add(HEADER_BYTES).cast::<Slot>().add(usize::from(at))) };
    }
    let len = copy.pad();
    let mut header = *row.header();
    header.len = u32_le::from_native(len as u32);
    header.slots = u16_le::from_native(slots);
    header.version = u16_le::from_native(header.version.to_native().max(slots.min(SLOTS_MAX)));
    header.flags = u32_le::from_native(header.flags.to_native() & !SCATTERED);
    // SAFETY: room by the caller.
    unsafe { to.cast::<RowHeader>().write(header) };
    len
}

struct Gather {
    from: *const u8,
    to: *mut u8,
    pos: usize,
}

impl Gather {
    /// # Safety
    /// `slot` belongs to the row at `from`; room as for [`gather`].
    unsafe fn node(&mut self, slot: &Slot) -> Node {
        match slot.tag {
            tag::STR | tag::BYTES | tag::NUMBER => {
                // SAFETY: by the caller's promise.
                let bytes = unsafe { bytes(self.from, slot) };
                let at = self.pos;
                // SAFETY: as above.
                unsafe { copy_short(bytes, self.to.add(at)) };
                self.pos += bytes.len();
                Node::new(slot.tag, bytes.len() as u32, at as u64)
            }
            tag::LIST | tag::MAP => {
                // SAFETY: by the caller's promise.
                let nodes = unsafe { children(self.from, slot) };
                let at = self.pad();
                self.pos += size_of_val(nodes);
                for (i, node) in nodes.iter().enumerate() {
                    // SAFETY: the target nodes were just set aside. Depth is
                    // bounded by DEPTH_MAX, so is this recursion.
                    unsafe {
                        let copy = self.node(node);
                        copy.write(self.to.add(at).cast::<Slot>().add(i));
                    }
                }
                Node::new(slot.tag, slot.len() as u32, at as u64)
            }
            _ => (*slot).into(),
        }
    }

    /// Advances to the next multiple of 8, over zeroes.
    fn pad(&mut self) -> usize {
        let end = align8(self.pos);
        for at in self.pos..end {
            // SAFETY: `gather_bound` counts the padding.
            unsafe { self.to.add(at).write(0) };
        }
        self.pos = end;
        end
    }
}
