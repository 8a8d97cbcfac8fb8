//! Frames on their way to disk, and the segments that hold them.
//!
//! Places are counted in bytes of frames since the process began: `written`
//! is what the kernel has, `durable` what is on stable storage, `end` what was
//! given to the log.
//!
//! Invariants:
//! - One write is under way at a time, so a crash tears the end and nothing
//!   before it.
//! - A new segment begins when all of the last one is on stable storage.
//! - `durable` rises only over what was synced in one go with everything
//!   before it. What a failed sync leaves, and what never reached the disk, it
//!   does not pass before the sink has accepted it.
//! - No more than `max_size` is taken, up to one frame.
//!
//! A full disk (or any other failure) is tried again with growing waits.
//! Meanwhile nothing more is taken than one buffer holds.

use std::collections::VecDeque;
use std::io;

use ringmain_base::Now;
use ringmain_base::units::format_bytes;
use ringmain_runtime::io::{EventKind, Handle, Io, OpId};
use ringmain_slab::SharedSchema;

use super::folder::{Folder, Recovered, Segment};
use super::format;
use super::place::{Mark, Place};

/// What one write holds, up to one frame more.
pub(super) const WRITE_BYTES: usize = 256 << 10;

const WRITE_TAG: u32 = super::TAGS;
const SYNC_TAG: u32 = super::TAGS + 1;
const MARK_TAG: u32 = super::TAGS + 2;
const DIR_TAG: u32 = super::TAGS + 3;
/// Of the reader.
pub(super) const READ_TAG: u32 = super::TAGS + 4;

/// How often it is written down how far messages have been accepted.
const MARK_EVERY_US: u64 = 200_000;

const RETRY_MIN_US: u64 = 50_000;
const RETRY_MAX_US: u64 = 2_000_000;

/// Whether a frame may be given to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// Later: the disk is at work.
    Busy,
    /// When the sink has accepted some, or the disk has room again.
    No,
}

impl Room {
    /// Something else has to be stored first, and cannot be now.
    pub(crate) fn max_wait(self) -> Self {
        if self == Self::No { Self::No } else { Self::Busy }
    }
}

/// How it is configured.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub max_bytes: u64,
    pub segment_bytes: u64,
    /// 0: as often as the disk can.
    pub sync_every_us: u64,
}

/// Attempts after a failure.
#[derive(Debug, Default)]
struct Trouble {
    why: Option<String>,
    wait_us: u64,
    again_us: u64,
}

/// A sync under way: what it makes durable.
#[derive(Clone, Copy, Debug)]
struct Sync {
    upto: u64,
    /// The folder's entry of a new segment, too.
    folder: bool,
}

#[derive(Debug)]
pub(super) struct Log {
    folder: Folder,
    schema: SharedSchema,
    limits: Limits,
    owner: u32,
    pub(super) segments: VecDeque<Segment>,
    next_id: u64,
    /// The last segment, while it is written to.
    active: Option<Handle>,
    /// No more goes into it.
    retiring: bool,
    filling: Vec<u8>,
    filling_slots: u16,
    spare: Vec<u8>,
    /// The write under way is of so many bytes.
    flight: Option<usize>,
    /// Came back with an error.
    returned: Option<Vec<u8>>,
    sync: Option<Sync>,
    dir: Option<Handle>,
    dir_dirty: bool,
    dirty_us: Option<u64>,
    pub(super) end: u64,
    pub(super) written: u64,
    durable: u64,
    /// `durable` stays until so much is accepted.
    barrier: u64,
    accepted: u64,
    trouble: Trouble,
    mark: Mark,
    mark_file: Option<Handle>,
    mark_flight: bool,
    mark_us: u64,
}

impl Log {
    pub(super) fn new(folder: Folder, schema: SharedSchema, limits: Limits) -> Self {
        Self {
            folder,
            schema,
            limits,
            owner: 0,
            segments: VecDeque::new(),
            next_id: 1,
            active: None,
            retiring: false,
            filling: Vec::new(),
            filling_slots: 0,
            spare: Vec::new(),
            flight: None,
            returned: None,
            sync: None,
            dir: None,
            dir_dirty: false,
            dirty_us: None,
            end: 0,
            written: 0,
            durable: 0,
            barrier: 0,
            accepted: 0,
            trouble: Trouble::default(),
            mark: Mark::default(),
            mark_file: None,
            mark_flight: false,
            mark_us: 0,
        }
    }

    /// Finds what an earlier run left.
    pub(super) fn open(&mut self, io: &mut dyn Io, owner: u32) -> Result<Recovered, String> {
        self.owner = owner;
        let found = self.folder.recover()?;
        let name = self.folder.dir.display();
        let fails = |error: io::Error| format!("{name}: {error}");
        let file = self.folder.mark_file().map_err(fails)?;
        self.mark_file = Some(io.adopt(file.into()).map_err(fails)?);
        let dir = std::fs::File::open(&self.folder.dir).map_err(fails)?;
        // Where a folder cannot be synced, there is nothing to do about it.
        self.dir = io.adopt(dir.into()).ok();
        self.segments.clone_from(&found.segments);
        self.next_id = found.next_id;
        self.mark = found.mark;
        self.accepted = found.accepted;
        self.end = self.segments.back().map_or(0, Segment::end);
        (self.written, self.durable) = (self.end, self.end);
        Ok(found)
    }

    fn op(&self, tag: u32) -> OpId {
        OpId { owner: self.owner, tag }
    }

    /// Bytes that the segments take on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.head_bytes + segment.len).sum()
    }

    /// Everything before is on stable storage or accepted.
    pub(super) fn safe(&self) -> u64 {
        self.durable.max(self.accepted)
    }

    /// Whether a frame of at most `bytes` may come.
    pub(super) fn room(&self, bytes: usize) -> Room {
        let waiting = self.filling.len() + self.flight.unwrap_or(0);
        let returned = self.returned.as_ref().map_or(0, Vec::len);
        let all = self.disk_bytes() + (waiting + returned + bytes) as u64;
        if all > self.limits.max_bytes {
            return Room::No;
        }
        if self.filling.len() < WRITE_BYTES {
            return Room::Yes;
        }
        if self.trouble.why.is_some() { Room::No } else { Room::Busy }
    }

    /// Takes the frames that `append` adds to the buffer at hand, and returns
    /// the place of their end. `append` says how many slots their rows have.
    pub(super) fn append(&mut self, append: impl FnOnce(&mut Vec<u8>) -> u16) -> u64 {
        let before = self.filling.len();
        let slots = append(&mut self.filling);
        self.filling_slots = self.filling_slots.max(slots);
        self.end += (self.filling.len() - before) as u64;
        self.end
    }

    /// Writes, syncs, begins segments. `now_or_never`: nothing waits for the
    /// next sync.
    pub(super) fn poll(&mut self, io: &mut dyn Io, now: Now, now_or_never: bool) {
        if now.mono_us >= self.trouble.again_us {
            self.write(io, now);
            self.sync(io, now.mono_us, now_or_never);
        }
        self.save_mark(io, now.mono_us, now_or_never);
    }

    fn write(&mut self, io: &mut dyn Io, now: Now) {
        if self.flight.is_some() || (self.filling.is_empty() && self.returned.is_none()) {
            return;
        }
        if self.returned.is_none() {
            self.retiring |= self.wants_new_segment();
        }
        if self.retiring && !self.retire(io) {
            return;
        }
        if self.active.is_none()
            && let Err(error) = self.begin_segment(io, now)
        {
            return self.fail("cannot begin a segment", &error, now.mono_us);
        }
        let (Some(handle), Some(segment)) = (self.active, self.segments.back()) else { return };
        let bytes = self.returned.take().unwrap_or_else(|| {
            let mut bytes = std::mem::replace(&mut self.filling, std::mem::take(&mut self.spare));
            self.filling_slots = 0;
            format::seal(&mut bytes, segment.id, segment.len);
            bytes
        });
        self.flight = Some(bytes.len());
        let at = segment.head_bytes + segment.len;
        io.write(handle, bytes, Some(at), self.op(WRITE_TAG));
    }

    fn wants_new_segment(&self) -> bool {
        let Some(last) = self.segments.back().filter(|_| self.active.is_some()) else {
            return false;
        };
        let full = last.len > 0
            && last.head_bytes + last.len + self.filling.len() as u64 > self.limits.segment_bytes;
        full || self.filling_slots > last.names
    }

    /// Closes the segment at hand when it is durable; true when it is closed.
    fn retire(&mut self, io: &mut dyn Io) -> bool {
        if let Some(handle) = self.active {
            if self.dirty_us.is_some() || self.sync.is_some() {
                return false;
            }
            io.close(handle);
            self.active = None;
        }
        self.retiring = false;
        true
    }

    fn begin_segment(&mut self, io: &mut dyn Io, now: Now) -> io::Result<()> {
        let previous_end = self.segments.back().map(|last| last.len);
        let schema = self.schema.snapshot();
        let (id, base, wall_us) = (self.next_id, self.written, now.wall_us);
        let (segment, file) = self.folder.create(id, base, previous_end, wall_us, &schema)?;
        let handle = match io.adopt(file.into()) {
            Ok(handle) => handle,
            Err(error) => {
                let _ = std::fs::remove_file(&segment.path);
                return Err(error);
            }
        };
        self.active = Some(handle);
        self.next_id += 1;
        self.segments.push_back(segment);
        self.dir_dirty = true;
        Ok(())
    }

    fn sync(&mut self, io: &mut dyn Io, now_us: u64, now_or_never: bool) {
        let (Some(handle), None) = (self.active, self.sync) else { return };
        let Some(dirty_us) = self.dirty_us else { return };
        let due_us = dirty_us.saturating_add(self.limits.sync_every_us);
        if !self.retiring && !now_or_never && now_us < due_us {
            return;
        }
        self.dirty_us = None;
        self.sync = Some(Sync { upto: self.written, folder: self.dir_dirty });
        io.sync(handle, self.op(SYNC_TAG));
    }

    pub(super) fn on_event(&mut self, tag: u32, event: EventKind, io: &mut dyn Io, now: Now) {
        match (tag, event) {
            (WRITE_TAG, EventKind::Written { buf, result, .. }) => {
                self.flight = None;
                match result {
                    Ok(()) => self.wrote(buf, now.mono_us),
                    Err(error) => {
                        self.returned = Some(buf);
                        self.fail("cannot write", &error, now.mono_us);
                    }
                }
            }
            (SYNC_TAG, EventKind::Synced) => match (self.sync, self.dir) {
                (Some(Sync { folder: true, .. }), Some(dir)) => io.sync(dir, self.op(DIR_TAG)),
                _ => self.synced(),
            },
            (DIR_TAG, EventKind::Synced) => {
                self.dir_dirty = false;
                self.synced();
            }
            // Some file systems do not sync folders; there is no more to do.
            (DIR_TAG, EventKind::Failed { .. }) => self.synced(),
            (SYNC_TAG, EventKind::Failed { error }) => {
                // What could not be written may be gone from the kernel's
                // memory: no later sync says anything about it.
                self.sync = None;
                self.barrier = self.written;
                self.retiring = true;
                self.fail("cannot sync", &error, now.mono_us);
            }
            (MARK_TAG, _) => self.mark_flight = false,
            _ => {}
        }
    }

    fn wrote(&mut self, mut buf: Vec<u8>, now_us: u64) {
        let bytes = buf.len() as u64;
        self.written += bytes;
        if let Some(segment) = self.segments.back_mut() {
            segment.len += bytes;
        }
        self.dirty_us.get_or_insert(now_us);
        if buf.capacity() <= 2 * WRITE_BYTES + (1 << 20) {
            buf.clear();
            self.spare = buf;
        }
        self.works();
    }

    fn synced(&mut self) {
        if let Some(sync) = self.sync.take()
            && self.accepted >= self.barrier
        {
            self.durable = self.durable.max(sync.upto);
        }
        self.works();
    }

    fn works(&mut self) {
        if let Some(why) = self.trouble.why.take() {
            tracing::info!("{}: works again; it was: {why}", self.folder.owner);
        }
        self.trouble = Trouble::default();
    }

    fn fail(&mut self, what: &str, error: &io::Error, now_us: u64) {
        let dir = self.folder.dir.display();
        self.trouble.why = Some(format!("spill: {what} in {dir}: {error}"));
        let doubled = self.trouble.wait_us.saturating_mul(2);
        self.trouble.wait_us = doubled.clamp(RETRY_MIN_US, RETRY_MAX_US);
        self.trouble.again_us = now_us.saturating_add(self.trouble.wait_us);
    }

    /// What did not get to the disk and cannot now, to be read from memory,
    /// and its place. It is sealed as segment 0 from its beginning.
    pub(super) fn take_back(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.trouble.why.is_none() || self.flight.is_some() {
            return None;
        }
        let mut bytes = self.returned.take().unwrap_or_default();
        bytes.append(&mut self.filling);
        self.filling_slots = 0;
        if bytes.is_empty() {
            return None;
        }
        format::seal(&mut bytes, 0, 0);
        let place = std::mem::replace(&mut self.written, self.end);
        self.barrier = self.end;
        // Places on disk no longer follow one another.
        self.retiring = true;
        Some((place, bytes))
    }

    /// Everything before `place` has been accepted by the sink.
    pub(super) fn accept(&mut self, place: u64, io: &mut dyn Io) {
        self.accepted = self.accepted.max(place);
        while let Some(first) = self.segments.front() {
            let is_active = self.segments.len() == 1 && self.active.is_some();
            if first.end() > self.accepted || (is_active && !self.is_at_rest()) {
                return;
            }
            if let Some(handle) = self.active.take_if(|_| is_active) {
                self.retiring = false;
                self.dirty_us = None;
                io.close(handle);
            }
            if let Err(error) = std::fs::remove_file(&first.path) {
                tracing::warn!("{}: cannot be removed: {error}", first.path.display());
            }
            self.segments.pop_front();
        }
    }

    /// Nothing is on its way to the segment at hand.
    fn is_at_rest(&self) -> bool {
        let empty = self.filling.is_empty() && self.returned.is_none();
        empty && self.flight.is_none() && self.sync.is_none()
    }

    /// Everything that was given is safe, and that is written down.
    pub(super) fn is_idle(&self) -> bool {
        let marked = !self.mark_flight && !self.is_mark_stale();
        self.is_at_rest() && self.safe() >= self.end && marked
    }

    fn is_mark_stale(&self) -> bool {
        let fresh = self.fresh_mark();
        (fresh.accepted, fresh.durable) != (self.mark.accepted, self.mark.durable)
    }

    fn place(&self, at: u64) -> Place {
        let after = || self.segments.front().map_or(self.next_id, |first| first.id);
        let segment = self.segments.iter().rev().find(|segment| segment.base <= at);
        segment.map_or_else(
            || Place { segment: after(), bytes: 0 },
            |segment| Place { segment: segment.id, bytes: (at - segment.base).min(segment.len) },
        )
    }

    fn fresh_mark(&self) -> Mark {
        let accepted = match self.segments.front() {
            Some(_) => self.place(self.accepted),
            None => Place { segment: self.next_id - 1, bytes: u64::MAX },
        };
        // A place that the disk has not is not claimed.
        let durable =
            if self.barrier > self.accepted { self.mark.durable } else { self.place(self.durable) };
        Mark { number: self.mark.number + 1, accepted, durable }
    }

    fn save_mark(&mut self, io: &mut dyn Io, now_us: u64, now_or_never: bool) {
        let Some(handle) = self.mark_file.filter(|_| !self.mark_flight) else { return };
        if !now_or_never && now_us < self.mark_us {
            return;
        }
        if !self.is_mark_stale() {
            return;
        }
        let fresh = self.fresh_mark();
        self.mark = fresh;
        self.mark_us = now_us + MARK_EVERY_US;
        self.mark_flight = true;
        let (at, bytes) = fresh.encode();
        io.write(handle, bytes, Some(at), self.op(MARK_TAG));
    }

    /// When it wants to be polled though nothing happens.
    pub(super) fn wake_at_us(&self) -> Option<u64> {
        let more = !self.filling.is_empty() || self.returned.is_some();
        let write = (more && self.flight.is_none()).then_some(self.trouble.again_us);
        let sync = self.dirty_us.filter(|_| self.sync.is_none());
        let sync = sync.map(|at| at.saturating_add(self.limits.sync_every_us));
        let mark = (!self.mark_flight && self.is_mark_stale()).then_some(self.mark_us);
        let disk = write.into_iter().chain(sync).map(|at| at.max(self.trouble.again_us));
        disk.chain(mark).min()
    }

    /// What keeps it from taking more, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        if let Some(why) = &self.trouble.why {
            return Some(why.clone());
        }
        let limit = self.limits.max_bytes;
        (self.room(WRITE_BYTES.min(limit as usize / 8)) == Room::No)
            .then(|| format!("spill: max_size ({}) is full", format_bytes(limit)))
    }
}
