//! Writing to the current row, by the slab's own editing.

use ringmain_base::limits::{SLAB_BYTES_MAX, SLOTS_MAX};
use ringmain_slab::{Budget, Full, RowRef, Scalar, Scratch, Shared, Slab};

use super::{Env, code};

/// Fields that an operator's `keep` leaves.
pub(crate) struct Keep {
    pub(super) mask: u64,
    pub(super) names: Vec<String>,
}

/// The text that was stored last: a script stores the same few again and
/// again, and the rows may share one copy.
pub(super) struct LastText {
    pub(super) shared: Option<Shared>,
    len: usize,
    bytes: [u8; LastText::MAX],
}

impl LastText {
    const MAX: usize = 32;

    pub(super) const NONE: Self = Self { shared: None, len: 0, bytes: [0; Self::MAX] };
}

impl Env {
    /// Changes the current row.
    #[inline]
    pub(super) fn edit(
        &mut self,
        change: impl FnOnce(&mut Self, usize) -> Result<(), Full>,
    ) -> i32 {
        let Some(at) = self.begin_edit() else { return code::NO_MESSAGE };
        let done = change(self, at).map_err(|Full| code::FULL);
        self.end_edit(at, done)
    }

    /// The slab of the call.
    #[inline]
    pub(super) fn slab(&mut self) -> &mut Slab {
        // SAFETY: `edit` found that there is a call, during which the slab is
        // ours alone.
        unsafe { &mut *self.slab }
    }

    #[inline]
    pub(super) fn set(&mut self, slot: i32, value: Scalar<'_>) -> i32 {
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
    pub(super) fn set_text(&mut self, slot: i32, text: &[u8]) -> i32 {
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
    fn set_shared(&mut self, slot: i32, text: Shared) -> i32 {
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

    pub(super) fn keep(&mut self, at: usize) -> Result<(), i32> {
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
