//! Messages that a call adds: emitted ones, and those that leave by a port.

use ringmain_slab::{Full, Scratch, Slab};

use super::{Env, code};

/// A message made by `ctx.emit`. Those for the default port stand in the index
/// behind the slab's own rows until the end of the call.
#[derive(Clone, Copy)]
pub(super) struct Emitted {
    /// The row during whose processing it was emitted.
    at: usize,
    /// Rows kept before it.
    kept: usize,
    /// 0 is the default port.
    port: usize,
}

impl Env {
    /// Builds a message at the end of a port's slab.
    pub(crate) fn emit(
        &mut self,
        port: usize,
        mut build: impl FnMut(&mut Slab, i64, &mut Scratch) -> Result<(), i32>,
    ) -> Result<(), i32> {
        if self.slab.is_null() {
            return Err(code::NO_MESSAGE);
        }
        let (now, hash) = (self.desc.now as i64, self.hash());
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
                    Ok(()) => {
                        let last = slab.len() - 1;
                        slab.edit(last).set_key_hash(hash);
                        return Ok(());
                    }
                    wrong => return wrong,
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
    pub(super) fn retract(&mut self, at: usize) {
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

    pub(super) fn route(&mut self, port: i32) -> i32 {
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
        if copied.is_err() {
            self.full = true;
            return code::FULL;
        }
        // Should the limit strike before the loop goes on, the row is refused
        // and must not be there as well.
        let (at, kept) = self.progress();
        self.emitted.push(Emitted { at, kept, port: port as usize + 1 });
        code::OK
    }
}
