//! What Lua code works on: the descriptor that the prelude reads through the
//! FFI, and the calls by which it writes.
//!
//! Every write goes through [`Slab`]'s own editing, so the slab's invariants
//! rest on nothing that Lua does. Before the first write to a row its header
//! and slots are saved: a message that fails is refused as it came in.

use std::ptr;
use std::sync::Arc;

use ringmain_base::limits::{SLAB_BYTES_MAX, SLOTS_MAX};
use ringmain_slab::{
    Budget, Full, HEADER_BYTES, RowRef, SLOT_BYTES, Scalar, Schema, Scratch, SharedSchema, Slab,
};

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

/// A message made by `ctx.emit`. Those for the default port stand in the index
/// behind the slab's own rows until the end of the call.
#[derive(Clone, Copy)]
struct Emitted {
    /// The row during whose processing it was emitted.
    at: usize,
    /// Rows kept before it.
    kept: usize,
    /// 0 is the default port.
    port: usize,
}

/// Fields that an operator's `keep` leaves.
pub(crate) struct Keep {
    mask: u64,
    names: Vec<String>,
}

/// The text that was stored last: a script stores the same few again and
/// again, and the rows may share one copy.
struct LastText {
    shared: Option<ringmain_slab::Shared>,
    len: usize,
    bytes: [u8; LastText::MAX],
}

impl LastText {
    const MAX: usize = 32;
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
            last_text: LastText { shared: None, len: 0, bytes: [0; LastText::MAX] },
            scratch: Scratch::default(),
            aside: None,
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

    /// Builds a message at the end of a port's slab.
    pub(crate) fn emit(
        &mut self,
        port: usize,
        mut build: impl FnMut(&mut Slab, i64, &mut Scratch) -> Result<(), i32>,
    ) -> Result<(), i32> {
        if self.slab.is_null() {
            return Err(code::NO_MESSAGE);
        }
        let now = self.desc.now as i64;
        let (at, kept) = self.progress();
        let mut scratch = std::mem::take(&mut self.scratch);
        // SAFETY: slab and ports are ours during the call.
        let slab = unsafe {
            match port.checked_sub(1) {
                None => Some(&mut *self.slab),
                Some(port) => (&mut *self.ports).get_mut(port),
            }
        };
        let done = slab.ok_or(code::PORT).and_then(|slab| {
            let mut room = 1024;
            loop {
                match build(slab, now, &mut scratch) {
                    Err(code::FULL) => slab.reserve(room).map_err(|Full| code::FULL)?,
                    done => return done,
                }
                room *= 2;
            }
        });
        self.scratch = scratch;
        self.load();
        if self.at().is_some() {
            self.load_row(at);
        }
        done?;
        self.emitted.push(Emitted { at, kept, port });
        Ok(())
    }

    /// Takes back what the message at `at` emitted before it failed.
    fn retract(&mut self, at: usize) {
        while let Some(emitted) = self.emitted.pop_if(|emitted| emitted.at == at) {
            match emitted.port.checked_sub(1) {
                None => {
                    let rows = self.slab().len() - 1;
                    self.slab().truncate(rows);
                }
                Some(port) => {
                    // SAFETY: the ports are ours, and this one was used.
                    let slab = unsafe { &mut (&mut *self.ports)[port] };
                    slab.truncate(slab.len() - 1);
                }
            }
        }
    }

    /// Ends the call: the index gets the kept rows, and each emitted one
    /// behind those that were kept before it.
    pub(crate) fn end(&mut self) {
        let (_, mut kept) = self.progress();
        self.load();
        let own: Vec<Emitted> = std::mem::take(&mut self.emitted);
        if own.iter().any(|emitted| emitted.port == 0) {
            kept = self.merge(&own, kept);
        }
        self.emitted = own;
        self.emitted.clear();
        let used = self.slab().used();
        // SAFETY: the loop wrote to the first `kept` entries nothing but
        // entries of this index, and `merge` only moved entries.
        unsafe { self.slab().set_raw(kept, used) };
        self.park();
    }

    fn merge(&mut self, emitted: &[Emitted], kept: usize) -> usize {
        // SAFETY: all entries that are read are in the index.
        let entry = |n: usize| unsafe { *self.desc.index.sub(n) };
        self.merged.clear();
        let mut next = 0;
        let default_port = emitted.iter().filter(|emitted| emitted.port == 0);
        for (n, emitted) in default_port.enumerate() {
            self.merged.extend((next..emitted.kept).map(entry));
            next = emitted.kept;
            self.merged.push(entry(self.desc.rows as usize + n));
        }
        self.merged.extend((next..kept).map(entry));
        for (n, offset) in self.merged.iter().enumerate() {
            // SAFETY: as many entries were in the index: kept ones among the
            // first `rows`, emitted ones behind.
            unsafe { *self.desc.index.sub(n) = *offset };
        }
        self.merged.len()
    }

    /// Changes the current row.
    #[inline]
    fn edit(&mut self, change: impl FnOnce(&mut Self, usize) -> Result<(), Full>) -> i32 {
        let Some(at) = self.begin_edit() else { return code::NO_MESSAGE };
        let done = change(self, at).map_err(|Full| code::FULL);
        self.end_edit(at, done)
    }

    /// The slab of the call.
    #[inline]
    fn slab(&mut self) -> &mut Slab {
        // SAFETY: `edit` found that there is a call, during which the slab is
        // ours alone.
        unsafe { &mut *self.slab }
    }

    #[inline]
    fn set(&mut self, slot: i32, value: Scalar<'_>) -> i32 {
        if !(0..i32::from(SLOTS_MAX)).contains(&slot) {
            return code::VALUE;
        }
        let slot = slot as u16;
        self.edit(|env, at| {
            env.widen(at, slot, value)?;
            env.slab().edit(at).set(slot, value)
        })
    }

    /// A row that lacks the slot gets all that the schema has, lest the next
    /// field move it again.
    #[inline]
    fn widen(&mut self, at: usize, slot: u16, value: Scalar<'_>) -> Result<(), Full> {
        if slot < self.slab().row(at).slots() || value == Scalar::Absent {
            return Ok(());
        }
        let last = self.names.version().saturating_sub(1).max(slot);
        let mut row = self.slab().edit(at);
        row.set(last, Scalar::Null)?;
        row.set(last, Scalar::Absent)
    }

    #[inline]
    fn set_text(&mut self, slot: i32, text: &[u8]) -> i32 {
        if text.len() <= LastText::MAX
            && let Some(done) = self.set_repeated(slot, text)
        {
            return done;
        }
        let Ok(valid) = str::from_utf8(text) else { return self.set(slot, Scalar::Bytes(text)) };
        self.set(slot, Scalar::Str(valid))
    }

    /// Lets the row share the text if it was the last one stored, too.
    #[inline]
    fn set_repeated(&mut self, slot: i32, text: &[u8]) -> Option<i32> {
        if self.slab.is_null() {
            return None;
        }
        let last = &mut self.last_text;
        if last.bytes[..last.len] != *text {
            last.bytes[..text.len()].copy_from_slice(text);
            (last.len, last.shared) = (text.len(), None);
            return None;
        }
        if let Some(shared) = last.shared {
            return Some(self.set_shared(slot, shared));
        }
        let shared = self.slab().intern(str::from_utf8(text).ok()?).ok()?;
        self.last_text.shared = Some(shared);
        Some(self.set_shared(slot, shared))
    }

    #[inline]
    fn set_shared(&mut self, slot: i32, text: ringmain_slab::Shared) -> i32 {
        let slot = slot as u16;
        self.edit(|env, at| {
            env.widen(at, slot, Scalar::Null)?;
            env.slab().edit(at).set_shared(slot, text)
        })
    }

    /// Puts the value of `build` in the place of the row at `at`: the new row
    /// is built behind the last one, then the index points to it.
    pub(crate) fn rebuild(
        &mut self,
        at: usize,
        mut build: impl FnMut(&mut Slab, RowRef<'_>, &mut Scratch) -> Result<(), i32>,
    ) -> Result<(), i32> {
        let mut aside = self
            .aside
            .take()
            .unwrap_or_else(|| Slab::new(4096, &Budget::new(u64::from(SLAB_BYTES_MAX))));
        let mut scratch = std::mem::take(&mut self.scratch);
        let done =
            copy_aside(self.slab(), at, &mut aside).map_err(|Full| code::FULL).and_then(|()| {
                let mut room = 4096.max(aside.used() * 2);
                loop {
                    match build(self.slab(), aside.row(0), &mut scratch) {
                        Err(code::FULL) => {}
                        done => return done,
                    }
                    self.slab().reserve(room).map_err(|Full| code::FULL)?;
                    room *= 2;
                }
            });
        self.scratch = scratch;
        aside.clear();
        self.aside = Some(aside);
        done?;
        self.adopt(at);
        Ok(())
    }

    /// Takes the row that was just appended as the row at `at`.
    fn adopt(&mut self, at: usize) {
        let slab = self.slab();
        let raw = slab.raw_parts();
        let last = raw.rows - 1;
        debug_assert!(at < last);
        // SAFETY: both entries are in the index; the last row stays whole when
        // its entry is dropped, because `used` covers it.
        unsafe {
            let index: *mut i32 = raw.index_end.wrapping_sub(4).cast();
            *index.sub(at) = *index.sub(last);
            slab.set_raw(last, raw.used);
        }
    }

    /// The row at hand, saved.
    #[inline]
    pub(crate) fn begin_edit(&mut self) -> Option<usize> {
        let at = self.at()?;
        self.save(at);
        Some(at)
    }

    /// After [`Env::begin_edit`].
    #[inline]
    pub(crate) fn end_edit(&mut self, at: usize, done: Result<(), i32>) -> i32 {
        self.load_row(at);
        match done {
            Ok(()) => code::OK,
            Err(code) => {
                self.full |= code == code::FULL;
                code
            }
        }
    }

    /// The slot of a name that is to be written, and the names as they are
    /// then.
    pub(crate) fn intern(&mut self, name: &str) -> Option<u16> {
        match self.names.slot(name) {
            Some(slot) => Some(slot),
            None => self.slot_of(name),
        }
    }

    fn route(&mut self, port: i32) -> i32 {
        let Some(at) = self.at() else { return code::NO_MESSAGE };
        // SAFETY: ports and slab are ours during the call, and distinct.
        let (row, target) = unsafe {
            match (&mut *self.ports).get_mut(port as usize) {
                Some(target) => ((*self.slab).row(at), target),
                None => return code::PORT,
            }
        };
        let copied = target.push_copy(row).or_else(|Full| {
            target.reserve(row.image_bound())?;
            target.push_copy(row)
        });
        self.full |= copied.is_err();
        if copied.is_ok() { code::OK } else { code::FULL }
    }

    fn keep(&mut self, at: usize) -> Result<(), i32> {
        let Some(keep) = self.keep.take() else { return Ok(()) };
        let done = self.keep_these(at, &keep);
        self.keep = Some(keep);
        done
    }

    fn keep_these(&mut self, at: usize, keep: &Keep) -> Result<(), i32> {
        let rest_is_kept =
            self.slab().row(at).rest().is_some_and(|rest| {
                rest.iter().any(|(name, _)| keep.names.iter().any(|k| k == name))
            });
        if !rest_is_kept {
            self.slab().edit(at).keep(keep.mask);
            return Ok(());
        }
        self.rebuild(at, |slab, row, scratch| crate::tree::keep(slab, row, scratch, keep))
    }
}

impl Keep {
    pub(crate) fn has(&self, slot: u16) -> bool {
        self.mask & (1 << slot) != 0
    }

    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|kept| kept == name)
    }
}

fn copy_aside(slab: &Slab, at: usize, aside: &mut Slab) -> Result<(), Full> {
    let row = slab.row(at);
    aside.push_copy(row).or_else(|Full| {
        aside.reserve(row.image_bound() + 64)?;
        aside.push_copy(row)
    })
}

/// The calls by their names in prelude.lua.
pub(crate) fn calls() -> [(&'static str, *const ()); 13] {
    [
        ("set_num", set_num as *const ()),
        ("set_int", set_int as *const ()),
        ("set_bool", set_bool as *const ()),
        ("set_str", set_str as *const ()),
        ("set_none", set_none as *const ()),
        ("resolve", resolve as *const ()),
        ("intern", intern as *const ()),
        ("rename", rename as *const ()),
        ("keep", keep as *const ()),
        ("route", route as *const ()),
        ("parse", parse as *const ()),
        ("search", crate::pattern::search as *const ()),
        ("is_plain", crate::pattern::is_plain as *const ()),
    ]
}

// The calls below are made by the prelude only, with the pointer that it was
// given when its state was made. None of them calls Lua or unwinds into it.

/// A whole number that `f64` holds exactly is stored as one.
extern "C" fn set_num(env: *mut Env, slot: i32, value: f64) -> i32 {
    // SAFETY: see above.
    let env = unsafe { &mut *env };
    env.set(slot, number(value))
}

/// What a Lua number is stored as.
#[inline]
pub(crate) fn number(value: f64) -> Scalar<'static> {
    const EXACT: f64 = (1u64 << 53) as f64;
    let whole = value as i64;
    // By bits, because -0.0 is not the integer 0.
    if (whole as f64).to_bits() == value.to_bits() && value.abs() < EXACT {
        Scalar::Int(whole)
    } else {
        Scalar::Float(value)
    }
}

extern "C" fn set_int(env: *mut Env, slot: i32, value: i64) -> i32 {
    // SAFETY: see above.
    unsafe { (*env).set(slot, Scalar::Int(value)) }
}

extern "C" fn set_bool(env: *mut Env, slot: i32, value: i32) -> i32 {
    // SAFETY: see above.
    unsafe { (*env).set(slot, Scalar::Bool(value != 0)) }
}

extern "C" fn set_str(env: *mut Env, slot: i32, text: *const u8, len: i32) -> i32 {
    // SAFETY: see above; the text is a Lua string or buffer that lives while
    // the call runs.
    unsafe { (*env).set_text(slot, bytes(text, len)) }
}

/// `null` 1 stores null, 0 removes the field.
extern "C" fn set_none(env: *mut Env, slot: i32, null: i32) -> i32 {
    let value = if null == 0 { Scalar::Absent } else { Scalar::Null };
    // SAFETY: see above.
    unsafe { (*env).set(slot, value) }
}

/// The slot of a name, -1 if the flow has no such field.
extern "C" fn resolve(env: *mut Env, name: *const u8, len: i32) -> i32 {
    // SAFETY: see above.
    let (env, name) = unsafe { (&mut *env, bytes(name, len)) };
    let slot = str::from_utf8(name).ok().and_then(|name| env.names.slot(name));
    slot.map_or(-1, i32::from)
}

/// The slot of a name, made if need be. -1: there is none left. -2: it is not
/// a name.
extern "C" fn intern(env: *mut Env, name: *const u8, len: i32) -> i32 {
    // SAFETY: see above.
    let (env, name) = unsafe { (&mut *env, bytes(name, len)) };
    match str::from_utf8(name) {
        Ok(name) if name.len() <= ringmain_base::limits::FIELD_NAME_BYTES_MAX => {
            env.intern(name).map_or(-1, i32::from)
        }
        _ => -2,
    }
}

extern "C" fn rename(env: *mut Env, from: i32, to: i32) -> i32 {
    // SAFETY: see above.
    let env = unsafe { &mut *env };
    env.edit(|env, at| env.slab().edit(at).rename(from as u16, to as u16))
}

extern "C" fn keep(env: *mut Env) -> i32 {
    // SAFETY: see above.
    let env = unsafe { &mut *env };
    let Some(at) = env.begin_edit() else { return code::NO_MESSAGE };
    let done = env.keep(at);
    env.end_edit(at, done)
}

extern "C" fn route(env: *mut Env, port: i32) -> i32 {
    // SAFETY: see above.
    unsafe { (*env).route(port) }
}

/// A number that needs more than 64 bits, as near as `f64` comes to it.
extern "C" fn parse(text: *const u8, len: i32) -> f64 {
    // SAFETY: the bytes of a row, given by the prelude.
    let text = unsafe { bytes(text, len) };
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// # Safety
/// `len` bytes at `at` live while the caller uses them.
pub(crate) unsafe fn bytes<'a>(at: *const u8, len: i32) -> &'a [u8] {
    if len <= 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts(at, len as usize) }
}
