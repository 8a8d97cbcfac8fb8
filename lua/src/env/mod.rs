//! What Lua code works on: the descriptor that the prelude reads through the
//! FFI, and the calls by which it writes.
//!
//! Every write goes through [`Slab`]'s own editing, so the slab's invariants
//! rest on nothing that Lua does. Before the first write to a row its header
//! and slots are saved: a message that fails is refused as it came in.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use ringmain_base::limits::{SLAB_BYTES_MAX, SLOTS_MAX};
use ringmain_metrics::Named;
use ringmain_slab::{HEADER_BYTES, RowRef, SLOT_BYTES, Schema, Scratch, SharedSchema, Slab};

mod calls;
mod emit;
mod write;

pub(crate) use calls::{bytes, calls, number};
use emit::Emitted;
pub(crate) use write::Keep;
use write::LastText;

/// Rows kept before a row, and the row's number, in one `f64`: see `LOOP` in
/// prelude.lua.
const POS_SHIFT: u32 = 26;
const _: () = assert!((SLAB_BYTES_MAX as usize / HEADER_BYTES) < 1 << POS_SHIFT);

const SAVED_BYTES: usize = HEADER_BYTES + (SLOTS_MAX as usize + 1) * SLOT_BYTES;

/// Codes that the calls return; 0 is success. `CODES` in prelude.lua has the
/// texts.
pub(crate) mod code {
    pub(crate) const OK: i32 = 0;
    pub(crate) const NO_MESSAGE: i32 = 1;
    pub(crate) const FULL: i32 = 2;
    pub(crate) const NAME: i32 = 3;
    pub(crate) const VALUE: i32 = 4;
    pub(crate) const DEPTH: i32 = 5;
    pub(crate) const TABLE: i32 = 6;
    pub(crate) const PORT: i32 = 7;
    pub(crate) const PLACE: i32 = 8;
    pub(crate) const GONE: i32 = 9;
}

/// What the prelude reads as `rm_desc`.
#[repr(C)]
pub(crate) struct Desc {
    data: *mut u8,
    /// Entry 0; entry `i` is at `index - i`.
    index: *mut i32,
    row: *mut u8,
    /// Number of the current row and rows kept, see [`POS_SHIFT`].
    pos: f64,
    /// The turn's wall clock in microseconds.
    now: f64,
    first: i32,
    kept: i32,
    rows: i32,
    /// Counts slabs, so that a proxy of an old one is recognised.
    call: i32,
    /// Of the partition whose timer runs: the key's hash of what it emits.
    hash: u32,
}

/// The descriptor and what the calls need besides. At a fixed address for as
/// long as its Lua state lives.
#[repr(C)]
pub(crate) struct Env {
    desc: Desc,
    /// Null outside of a call.
    slab: *mut Slab,
    ports: *mut [Slab],
    schema: SharedSchema,
    names: Arc<Schema>,
    keep: Option<Keep>,
    saved: Saved,
    /// The last error was that a slab could not grow.
    full: bool,
    emitted: Vec<Emitted>,
    /// The index under construction, kept for its memory.
    merged: Vec<i32>,
    last_text: LastText,
    pub(crate) scratch: Scratch,
    /// Where a row is copied before it is built anew.
    aside: Option<Slab>,
    /// What `ctx.metrics` writes to.
    metrics: Arc<Named>,
    /// The metatable of tables that are lists even when they are empty.
    lists: *const c_void,
    /// Stands in for the row outside of a call: no slots.
    nowhere: [u64; 3],
}

struct Saved {
    /// The `pos` of the message that was saved.
    pos: f64,
    offset: i32,
    bytes: usize,
    image: [u64; SAVED_BYTES / 8],
}

impl Env {
    pub(crate) fn new(schema: SharedSchema) -> Self {
        let names = schema.snapshot();
        Self {
            desc: Desc {
                data: ptr::null_mut(),
                index: ptr::null_mut(),
                row: ptr::null_mut(),
                pos: 0.0,
                now: 0.0,
                first: 0,
                kept: 0,
                rows: 0,
                call: 0,
                hash: 0,
            },
            slab: ptr::null_mut(),
            ports: ptr::slice_from_raw_parts_mut(ptr::null_mut(), 0),
            schema,
            names,
            keep: None,
            saved: Saved { pos: -1.0, offset: 0, bytes: 0, image: [0; SAVED_BYTES / 8] },
            full: false,
            emitted: Vec::new(),
            merged: Vec::new(),
            last_text: LastText::NONE,
            scratch: Scratch::default(),
            aside: None,
            metrics: Arc::default(),
            lists: ptr::null(),
            nowhere: [0; 3],
        }
    }

    /// Points the cursor at no message. Called once the address is fixed.
    pub(crate) fn park(&mut self) {
        self.slab = ptr::null_mut();
        self.desc.row = self.nowhere.as_mut_ptr().cast();
        self.desc.pos = -1.0;
        self.saved.pos = -2.0;
        self.last_text.shared = None;
    }

    /// Begins a call: `slab` and `ports` stay valid and unused by others until
    /// [`Env::end`].
    pub(crate) fn begin(&mut self, slab: *mut Slab, ports: *mut [Slab], now_us: i64) {
        self.desc.now = now_us as f64;
        self.slab = slab;
        self.ports = ports;
        self.desc.call = self.desc.call.wrapping_add(1);
        self.desc.hash = 0;
        self.reach(0, 0);
        self.load();
        // SAFETY: the caller's promise.
        self.desc.rows = unsafe { (*slab).len() as i32 };
    }

    /// Where the loop is to go on.
    pub(crate) fn reach(&mut self, row: usize, kept: usize) {
        self.desc.first = row as i32;
        self.desc.kept = kept as i32;
        self.desc.pos = (((row as u64) << POS_SHIFT) | kept as u64) as f64;
    }

    /// The row that is being processed, and how many before it are kept.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let pos = self.desc.pos as u64;
        ((pos >> POS_SHIFT) as usize, (pos & ((1 << POS_SHIFT) - 1)) as usize)
    }

    pub(crate) fn rows(&self) -> usize {
        self.desc.rows as usize
    }

    /// A row of the call's slab.
    pub(crate) fn row(&self, at: usize) -> RowRef<'_> {
        assert!(!self.slab.is_null(), "between begin and end");
        // SAFETY: between `begin` and `end` the slab is ours.
        unsafe { (*self.slab).row(at) }
    }

    /// Whether the failure at hand came from a slab that could not grow.
    pub(crate) fn take_full(&mut self) -> bool {
        std::mem::take(&mut self.full)
    }

    pub(crate) fn names(&self) -> &Arc<Schema> {
        &self.names
    }

    /// Looks at the flow's schema; whether it has grown.
    pub(crate) fn refresh(&mut self) -> bool {
        let names = self.schema.snapshot();
        let grown = names.version() != self.names.version();
        self.names = names;
        grown
    }

    pub(crate) fn set_keep(&mut self, names: &[String]) {
        let mask = names.iter().filter_map(|name| self.slot_of(name)).fold(0, |m, s| m | 1 << s);
        self.keep = Some(Keep { mask, names: names.to_vec() });
    }

    pub(crate) fn set_metrics(&mut self, metrics: Arc<Named>) {
        self.metrics = metrics;
    }

    pub(crate) fn set_lists(&mut self, metatable: *const c_void) {
        self.lists = metatable;
    }

    /// What marks a table as a list.
    pub(crate) fn lists(&self) -> *const c_void {
        self.lists
    }

    /// The key's hash of the message at hand, or of the timer's partition.
    fn hash(&self) -> u32 {
        self.at().map_or(self.desc.hash, |at| self.row(at).header().key_hash.to_native())
    }

    fn slot_of(&mut self, name: &str) -> Option<u16> {
        let slot = self.schema.intern(name).ok()?;
        if slot >= self.names.version() {
            self.names = self.schema.snapshot();
        }
        Some(slot)
    }

    /// Reads the slab's addresses anew: it may have moved.
    fn load(&mut self) {
        // SAFETY: between `begin` and `end` the slab is ours.
        let raw = unsafe { (*self.slab).raw_parts() };
        self.desc.data = raw.data;
        self.desc.index = raw.index_end.wrapping_sub(4).cast();
    }

    fn load_row(&mut self, at: usize) {
        self.load();
        // SAFETY: `at` is in the index of the slab whose addresses were just
        // read.
        unsafe {
            let offset = *self.desc.index.sub(at);
            self.desc.row = self.desc.data.add(offset as usize);
        }
    }

    /// The current row's number, if there is a message.
    #[inline]
    fn at(&self) -> Option<usize> {
        let at = (self.desc.pos as u64 >> POS_SHIFT) as usize;
        (!self.slab.is_null() && at < self.rows()).then_some(at)
    }

    /// Saves the row before its first change.
    #[inline]
    fn save(&mut self, at: usize) {
        if self.saved.pos == self.desc.pos {
            return;
        }
        // SAFETY: the slab is ours and `at` in its index; a row has at most
        // SLOTS_MAX + 1 slots, which is what `image` holds.
        unsafe {
            let row = (*self.slab).row(at);
            self.saved.bytes =
                (HEADER_BYTES + usize::from(row.slots()) * SLOT_BYTES).min(SAVED_BYTES);
            ptr::copy_nonoverlapping(
                self.desc.row,
                self.saved.image.as_mut_ptr().cast(),
                self.saved.bytes,
            );
            self.saved.offset = *self.desc.index.sub(at);
        }
        self.saved.pos = self.desc.pos;
    }

    /// Gives the row at `at` back the value that it came with.
    pub(crate) fn restore(&mut self, at: usize) {
        self.retract(at);
        if self.saved.pos != self.desc.pos {
            return;
        }
        self.load();
        // SAFETY: `offset` is where the row stood when it was saved; rows do
        // not move inside a slab, so its bytes are still there, and what its
        // old slots refer to was never overwritten.
        unsafe {
            *self.desc.index.sub(at) = self.saved.offset;
            let row = self.desc.data.add(self.saved.offset as usize);
            ptr::copy_nonoverlapping(self.saved.image.as_ptr().cast(), row, self.saved.bytes);
        }
        self.saved.pos = -2.0;
    }
}
