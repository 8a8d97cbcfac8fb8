//! The slab: memory, index, copies.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use ringmain_base::limits::SLAB_BYTES_MAX;
use rkyv::rend::u32_le;

use crate::ahead::{AHEAD_BYTES, AHEAD_INDEX_BYTES, LINE_BYTES, fetch_line};
use crate::budget::Budget;
use crate::build::{RowBuilder, Scratch};
use crate::check::{self, Malformed};
use crate::edit::{self, RowMut};
use crate::layout::{HEADER_BYTES, RowHeader, SCATTERED, align8};
use crate::read::RowRef;

const ALIGN: usize = 128;
const INDEX_BYTES: usize = size_of::<u32>();

/// The slab has no room for it, and may not grow to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the slab is full and [shards] memory does not let it grow")
    }
}

impl std::error::Error for Full {}

/// Memory that holds a batch of rows. A handle of 8 bytes; whoever has it owns
/// the rows.
pub struct Slab {
    inner: Box<Inner>,
}

pub(crate) struct Inner {
    data: NonNull<u8>,
    capacity: usize,
    /// End of the last row; a multiple of 8.
    pub(crate) used: usize,
    /// Rows in the index.
    pub(crate) rows: usize,
    standard: usize,
    budget: Budget,
    /// Names the interned texts of this slab since it was last cleared; 0 when
    /// there are none. Unique among all slabs of the process.
    stamp: u64,
}

static NEXT_STAMP: AtomicU64 = AtomicU64::new(1);

/// Text that [`Slab::intern`] put into a slab, good until the slab is cleared.
/// Any number of rows may refer to it ([`RowMut::set_shared`]).
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    stamp: u64,
    /// From the slab's first byte: it stays when the slab grows.
    offset: u32,
    len: u32,
}

impl Shared {
    pub(crate) fn len(self) -> usize {
        self.len as usize
    }
}

// SAFETY: a slab owns its memory exclusively and has no thread affinity.
unsafe impl Send for Slab {}
// SAFETY: `&Slab` only reads; every write takes `&mut Slab`.
unsafe impl Sync for Slab {}

/// Addresses for code that works on rows outside this crate (LuaJIT's FFI).
#[derive(Clone, Copy, Debug)]
pub struct RawParts {
    /// First byte of the slab.
    pub data: *mut u8,
    /// One past the index: entry `i` is the `u32` at `index_end - 4 * (i + 1)`
    /// and holds the offset of row `i` from `data`.
    pub index_end: *mut u8,
    /// Rows in the index.
    pub rows: usize,
    /// Bytes used by rows; a multiple of 8.
    pub used: usize,
    /// Bytes up to which variable parts may grow: before the index of all the
    /// rows there are now.
    pub limit: usize,
}

impl Slab {
    /// A slab of `bytes` (rounded up to 128) that may grow within `budget`.
    #[must_use]
    pub fn new(bytes: usize, budget: &Budget) -> Self {
        assert!(bytes <= SLAB_BYTES_MAX as usize, "a slab is too large");
        let capacity = bytes.max(1024).next_multiple_of(ALIGN);
        let inner = Inner {
            data: allocate(capacity),
            capacity,
            used: 0,
            rows: 0,
            standard: capacity,
            budget: budget.clone(),
            stamp: 0,
        };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn inner_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }

    /// Rows in the index.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.inner.rows
    }

    /// Whether the index is empty.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.inner.rows == 0
    }

    /// Bytes of the slab now.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.inner.capacity
    }

    /// Bytes that rows take, also those no longer in the index.
    #[must_use]
    pub fn used(&self) -> usize {
        self.inner.used
    }

    /// Bytes left for one more row and its index entry.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        self.inner.room()
    }

    /// Forgets the rows and, if the slab had grown, returns to its standard
    /// size.
    pub fn clear(&mut self) {
        let inner = &mut *self.inner;
        inner.used = 0;
        inner.rows = 0;
        inner.stamp = 0;
        if inner.capacity > inner.standard {
            inner.replace(inner.standard);
        }
    }

    /// The row at `at` in the index.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    #[inline]
    pub fn row(&self, at: usize) -> RowRef<'_> {
        assert!(at < self.inner.rows, "no row {at} in a slab of {}", self.inner.rows);
        // SAFETY: the entry is in the index, so it names a whole row (crate
        // invariant), which lives as long as the slab is borrowed.
        unsafe { RowRef::from_ptr(self.inner.row_ptr(at)) }
    }

    /// The rows in order.
    #[inline]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = RowRef<'_>> {
        // SAFETY: as in `row`; `at` is below the number of rows.
        (0..self.inner.rows).map(|at| unsafe { RowRef::from_ptr(self.inner.row_ptr(at)) })
    }

    /// Keeps the rows for which `keep` says so, in order; nothing moves but
    /// index entries.
    #[inline]
    pub fn retain(&mut self, mut keep: impl FnMut(RowRef<'_>) -> bool) {
        let rows = self.inner.rows;
        let mut kept = 0;
        // A panic of `keep` leaves no row, rather than some of them twice.
        self.inner.rows = 0;
        for at in 0..rows {
            // SAFETY: `kept <= at < rows`: both entries were in the index,
            // which nobody writes meanwhile.
            unsafe {
                let offset = self.inner.index(at).read();
                let row = RowRef::from_ptr(self.inner.data.as_ptr().add(offset as usize));
                // Written before it is known whether it stays: no branch that
                // could be mispredicted.
                self.inner.index(kept).write(offset);
                kept += usize::from(keep(row));
            }
        }
        self.inner.rows = kept;
    }

    /// Divides the rows: `places[t]` gets the places, in the index, of the
    /// rows that `target` says belong to `t`. No branch depends on a row, so
    /// none is mispredicted; [`Slab::retain`] with a hundred cycles behind
    /// `true` is, at every second row.
    ///
    /// # Panics
    /// When `target` names a list that there is not.
    #[inline]
    pub fn divide(&self, places: &mut [Vec<u32>], target: impl Fn(RowRef<'_>) -> usize) {
        for list in places.iter_mut() {
            list.clear();
            list.reserve(self.inner.rows);
        }
        for (at, row) in self.rows().enumerate() {
            places[target(row)].push(at as u32);
        }
    }

    /// Keeps the rows at these places of the index.
    ///
    /// # Panics
    /// When the places do not ascend, or there is no row at one.
    pub fn select(&mut self, places: &[u32]) {
        assert!(places.last().is_none_or(|last| (*last as usize) < self.inner.rows));
        assert!(places.is_sorted_by(|a, b| a < b), "places ascend");
        for (at, place) in places.iter().enumerate() {
            // SAFETY: places ascend and the last is in the index, so all are;
            // and none is written before it is read, since `at <= place`.
            unsafe { self.inner.index(at).write(self.inner.index(*place as usize).read()) };
        }
        self.inner.rows = places.len();
    }

    /// An empty slab of the same standard size within the same budget.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self::new(self.inner.standard, &self.inner.budget)
    }

    /// Asks a filter which rows it would keep; afterwards all of them are
    /// there again. `kept` gets an answer for each row.
    ///
    /// # Panics
    /// When `filter` does more than take rows out of the index.
    pub fn sift(
        &mut self,
        kept: &mut Vec<bool>,
        offsets: &mut Vec<u32>,
        filter: impl FnOnce(&mut Self),
    ) {
        let inner = &mut *self.inner;
        if inner.stamp == 0 {
            inner.stamp = NEXT_STAMP.fetch_add(1, Ordering::Relaxed);
        }
        let (stamp, used, rows) = (inner.stamp, inner.used, inner.rows);
        offsets.clear();
        // SAFETY: `at` is below the number of rows.
        offsets.extend((0..rows).map(|at| unsafe { inner.index(at).read() }));
        filter(self);
        let inner = &mut *self.inner;
        // The stamp is this slab's alone, and gone when `used` has fallen: what
        // was a row is one still, and nothing lies where its entry stood.
        assert!(
            inner.stamp == stamp && inner.used == used && inner.rows <= rows,
            "a filter takes rows out of the index, and that is all"
        );
        let mut next = 0;
        kept.clear();
        for offset in offsets.iter() {
            // SAFETY: `next` is below the number of rows.
            let is = next < inner.rows && unsafe { inner.index(next).read() } == *offset;
            next += usize::from(is);
            kept.push(is);
        }
        assert!(next == inner.rows, "a filter keeps the order of its rows");
        for (at, offset) in offsets.iter().enumerate() {
            // SAFETY: as many entries lay above the same `used` before, in no
            // larger a slab; each names what was a whole row and still is,
            // since edits in place leave rows whole.
            unsafe { inner.index(at).write(*offset) };
        }
        inner.rows = rows;
    }

    /// Writes the hash of its partition key into every row, as `hash` computes
    /// it.
    #[inline]
    pub fn hash_keys(&mut self, mut hash: impl FnMut(RowRef<'_>) -> u32) {
        for at in 0..self.inner.rows {
            // SAFETY: `at` is in the index, so it names a whole row; the
            // borrow of it ends before the header is written.
            unsafe {
                let row = self.inner.row_ptr(at);
                let hash = hash(RowRef::from_ptr(row));
                (*row.cast::<RowHeader>()).key_hash = u32_le::from_native(hash);
            }
        }
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.inner.rows = self.inner.rows.min(rows);
    }

    /// Begins a row with `slots` absent fields. Nothing is visible until
    /// [`RowBuilder::finish`].
    #[inline]
    pub fn build<'s>(
        &'s mut self,
        version: u16,
        slots: u16,
        scratch: &'s mut Scratch,
    ) -> RowBuilder<'s> {
        RowBuilder::begin(&mut self.inner, version, slots, scratch)
    }

    /// The row at `at`, for editing.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline]
    pub fn edit(&mut self, at: usize) -> RowMut<'_> {
        assert!(at < self.inner.rows, "no row {at} in a slab of {}", self.inner.rows);
        RowMut::new(&mut self.inner, at)
    }

    /// Appends a copy of a row of another slab. One memcpy, unless the row was
    /// edited.
    ///
    /// # Errors
    /// [`Full`] when there is no room; the slab is unchanged.
    #[inline]
    pub fn push_copy(&mut self, row: RowRef<'_>) -> Result<(), Full> {
        if row.header().flags.to_native() & SCATTERED != 0 {
            return edit::gather_append(&mut self.inner, row, row.slots());
        }
        let bytes = row.image();
        if self.inner.room() < bytes.len() {
            return Err(Full);
        }
        self.inner.append(bytes);
        Ok(())
    }

    /// Appends copies of all rows of `other`, growing where needed.
    ///
    /// # Errors
    /// [`Full`] with the rows copied so far in place.
    pub fn push_all(&mut self, other: &Slab) -> Result<(), Full> {
        for row in other.rows() {
            if self.push_copy(row).is_err() {
                self.reserve(row.image_bound())?;
                self.push_copy(row)?;
            }
        }
        Ok(())
    }

    /// Appends a row that came from outside the process, after checking it.
    ///
    /// # Errors
    /// What is wrong with it, or that there is no room; the slab is unchanged.
    pub fn push_checked(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.inner.room() < align8(bytes.len()) {
            return Err(Malformed::NoRoom);
        }
        let at = self.inner.used;
        // SAFETY: `room` covers the bytes; the memory behind `used` belongs to
        // no row. The copy is checked where it lies, because there it is
        // aligned.
        let copy = unsafe {
            let to = self.inner.data.as_ptr().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            std::slice::from_raw_parts(to, bytes.len())
        };
        check::row(copy)?;
        self.inner.publish(at, bytes.len());
        Ok(())
    }

    /// Puts text into the slab that many rows are to refer to. Rows that stand
    /// before it share it; so intern after the rows are there.
    ///
    /// # Errors
    /// [`Full`] when the slab cannot grow.
    pub fn intern(&mut self, text: &str) -> Result<Shared, Full> {
        let inner = &mut *self.inner;
        inner.reserve(text.len())?;
        let pos = inner.used;
        // SAFETY: `reserve` made room behind `used`, where no row is.
        unsafe {
            let to = inner.data.as_ptr().add(pos);
            std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
        }
        inner.used = pos + align8(text.len());
        if inner.stamp == 0 {
            inner.stamp = NEXT_STAMP.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Shared { stamp: inner.stamp, offset: pos as u32, len: text.len() as u32 })
    }

    /// Makes room for `bytes` more, growing within the budget if need be.
    ///
    /// # Errors
    /// [`Full`] when the budget is spent.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        self.inner.reserve(bytes)
    }

    /// Addresses of rows and index.
    pub fn raw_parts(&mut self) -> RawParts {
        let inner = &*self.inner;
        let end = inner.data.as_ptr().wrapping_add(inner.capacity);
        RawParts {
            data: inner.data.as_ptr(),
            index_end: end,
            rows: inner.rows,
            used: inner.used,
            limit: inner.capacity - inner.rows * INDEX_BYTES,
        }
    }

    /// Takes over what code outside this crate did through [`RawParts`].
    ///
    /// # Safety
    /// The first `rows` index entries name whole rows that keep the crate's
    /// invariants, and `used`, a multiple of 8, covers every byte that they
    /// refer to.
    pub unsafe fn set_raw(&mut self, rows: usize, used: usize) {
        let inner = &mut *self.inner;
        assert!(used.is_multiple_of(8) && used + rows * INDEX_BYTES <= inner.capacity);
        inner.rows = rows;
        // Interned text above the new end is about to be overwritten.
        if used < inner.used {
            inner.stamp = 0;
        }
        inner.used = used;
    }
}

impl Inner {
    #[inline]
    pub(crate) fn data(&self) -> *mut u8 {
        self.data.as_ptr()
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        (self.capacity - self.used).saturating_sub((self.rows + 1) * INDEX_BYTES) & !7
    }

    /// Where an interned text begins. The stamp proves that it was put into
    /// this slab and that `used` has not fallen since, so nothing overwrote it.
    #[inline]
    pub(crate) fn shared_at(&self, text: Shared) -> usize {
        assert!(text.stamp == self.stamp, "interned in another slab, or before it was cleared");
        text.offset as usize
    }

    /// Highest end of a row that is added next.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.used + self.room()
    }

    /// # Safety
    /// `at` is at most `rows`, and the entry lies above `used`.
    #[inline]
    unsafe fn index(&self, at: usize) -> *mut u32 {
        let from_start = self.capacity - (at + 1) * INDEX_BYTES;
        // SAFETY: inside the allocation, by the caller's promise.
        unsafe { self.data.as_ptr().add(from_start).cast() }
    }

    /// # Safety
    /// `at` is below `rows`.
    #[inline]
    pub(crate) unsafe fn row_ptr(&self, at: usize) -> *mut u8 {
        // SAFETY: an index entry is an offset inside the allocation.
        unsafe { self.data.as_ptr().add(self.index(at).read() as usize) }
    }

    /// Points entry `at` to the row at `offset`.
    ///
    /// # Safety
    /// `at` is below `rows` and a whole row begins at `offset`.
    pub(crate) unsafe fn set_row(&mut self, at: usize, offset: usize) {
        // SAFETY: by the caller's promise.
        unsafe { self.index(at).write(offset as u32) }
    }

    /// Makes the row of `len` bytes at `offset` (which is `used`) visible.
    #[inline]
    pub(crate) fn publish(&mut self, offset: usize, len: usize) {
        debug_assert_eq!(offset, self.used);
        debug_assert!(len >= HEADER_BYTES && align8(len) <= self.room());
        // SAFETY: `room` kept one index entry free above the row's end.
        unsafe { self.index(self.rows).write(offset as u32) };
        self.fetch_ahead(offset, len);
        self.rows += 1;
        self.used = offset + align8(len);
    }

    /// Asks for the lines of rows to come, after that of `len` bytes at
    /// `offset`; two for each row, as most rows have.
    #[inline]
    fn fetch_ahead(&self, offset: usize, len: usize) {
        let line = |at: usize| fetch_line(self.data().wrapping_add(at));
        let ahead = offset + AHEAD_BYTES;
        // What lies behind the slab may be at work elsewhere.
        if ahead < self.capacity {
            line(ahead);
            line(ahead + LINE_BYTES);
        }
        line(self.capacity.saturating_sub(self.rows * INDEX_BYTES + AHEAD_INDEX_BYTES));
        if self.rows == 0 {
            (offset + len..ahead.min(self.capacity)).step_by(LINE_BYTES).for_each(line);
        }
    }

    /// Copies a whole contiguous row to the end; the caller checked the room.
    #[inline]
    pub(crate) fn append(&mut self, image: &[u8]) {
        assert!(image.len() <= self.room());
        let at = self.used;
        // SAFETY: the room was just asserted; source and target are distinct
        // because the target lies behind every row of this slab.
        unsafe {
            std::ptr::copy_nonoverlapping(image.as_ptr(), self.data().add(at), image.len());
        }
        self.publish(at, image.len());
    }

    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        if self.room() >= bytes {
            return Ok(());
        }
        if bytes > SLAB_BYTES_MAX as usize {
            return Err(Full);
        }
        let need = self.used + align8(bytes) + (self.rows + 2) * INDEX_BYTES;
        let target = need.max(self.capacity * 2).next_multiple_of(ALIGN);
        let target =
            if target > SLAB_BYTES_MAX as usize { need.next_multiple_of(ALIGN) } else { target };
        if target > SLAB_BYTES_MAX as usize || !self.budget.charge((target - self.capacity) as u64)
        {
            return Err(Full);
        }
        self.move_to(target);
        Ok(())
    }

    /// Swaps the memory for an empty one of `capacity`, which is smaller.
    fn replace(&mut self, capacity: usize) {
        debug_assert!(self.rows == 0 && capacity <= self.capacity);
        self.budget.refund((self.capacity - capacity) as u64);
        let old = std::mem::replace(&mut self.data, allocate(capacity));
        release(old, self.capacity);
        self.capacity = capacity;
    }

    fn move_to(&mut self, capacity: usize) {
        let data = allocate(capacity);
        let index = self.rows * INDEX_BYTES;
        // SAFETY: both allocations hold `used` bytes at the start and the
        // index at the end (`reserve` computed it), and they are distinct.
        unsafe {
            std::ptr::copy_nonoverlapping(self.data.as_ptr(), data.as_ptr(), self.used);
            let from = self.data.as_ptr().add(self.capacity - index);
            std::ptr::copy_nonoverlapping(from, data.as_ptr().add(capacity - index), index);
        }
        release(self.data, self.capacity);
        self.data = data;
        self.capacity = capacity;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.refund((self.capacity - self.standard) as u64);
        release(self.data, self.capacity);
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        write!(f, "Slab({} rows, {} of {} B)", inner.rows, inner.used, inner.capacity)
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGN).expect("capacities are bounded by SLAB_BYTES_MAX")
}

fn allocate(capacity: usize) -> NonNull<u8> {
    let layout = layout(capacity);
    // SAFETY: the size is at least 1024, so not zero.
    let data = unsafe { alloc_zeroed(layout) };
    NonNull::new(data).unwrap_or_else(|| handle_alloc_error(layout))
}

fn release(data: NonNull<u8>, capacity: usize) {
    // SAFETY: `data` came from `allocate` with this capacity, and is forgotten.
    unsafe { dealloc(data.as_ptr(), layout(capacity)) }
}
