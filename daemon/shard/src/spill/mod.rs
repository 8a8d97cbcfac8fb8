//! `when_full = "spill"`: messages that wait on disk for their sink.
//!
//! Owns what lies between a sink's queues and the sink: segments of frames on
//! disk ([`log`], [`folder`], [`format`](mod@format)), the way back from there
//! ([`reader`], [`remap`]), copies of what the sink has in hand ([`shadow`]),
//! and how far all of it has been accepted ([`place`]). The outlet decides
//! what goes where (`crate::outlet::spilling`).
//!
//! ```text
//! queue -> sink                    while it has room and nothing is stored
//!   |        `- shadow -> log      what it has and does not accept
//!   `-> log -> reader -> sink      what it has no room for, and all after it
//! ```
//!
//! Invariants:
//! - The log is in the order of the queue. What is stored goes out before what
//!   comes later, unless `live_first` says otherwise.
//! - A row counts as delivered when the sink has accepted it, or when it and
//!   everything before it in the log is on stable storage.
//! - A crash leaves everything that is not accepted; what the sink accepted
//!   after the last mark (200 ms) comes again.
//! - Segments go when everything in them is accepted.
//! - Nothing here blocks but what [`folder`] says.

mod folder;
mod format;
mod log;
mod place;
mod rate;
mod reader;
mod remap;
mod shadow;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ringmain_base::Now;
use ringmain_config::SpillPlan;
use ringmain_runtime::io::{EventKind, Io};
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab};

use folder::Folder;
pub(crate) use log::Room;
use log::{Limits, Log, READ_TAG};
use rate::Rate;
use reader::Reader;
use shadow::Shadow;

/// Operations with this tag and above are of the spill, not of the sink.
pub(crate) const TAGS: u32 = 0xf000_0000;

/// Copies of what the sink has, in buffers of the sink: a row is larger than
/// what is made of it.
const SHADOWS: u64 = 2;

/// Memory that one spilling sink takes on one shard.
pub(crate) fn memory_bytes(buffer_bytes: u64, slab_bytes: usize) -> u64 {
    let slab = slab_bytes as u64;
    let write = log::WRITE_BYTES as u64 + slab;
    let read = u64::from(reader::READ_BYTES);
    buffer_bytes.saturating_mul(SHADOWS) + slab // shadow, with the unit that crosses its bound
        + 3 * write // filling, under way, spare
        + 2 * read + slab // a piece; the inbox with a frame
        + 3 * slab // on its way to the sink; scattered rows; rows of another schema
}

/// A folder with messages of a shard beyond `shards`: nobody would deliver
/// them.
pub(crate) fn left_behind(sink: &Path, shards: u16) -> Option<PathBuf> {
    let folders = std::fs::read_dir(sink).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut beyond = folders.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let shard = name.and_then(|name| name.strip_prefix("shard-")?.parse::<u16>().ok());
        shard.is_some_and(|shard| shard >= shards)
    });
    beyond.find(|path| folder::has_segments(path))
}

/// What a spill is made from.
pub(crate) struct SpillParts {
    pub plan: SpillPlan,
    pub dir: PathBuf,
    /// Flow, sink, shard.
    pub owner: String,
    pub schema: SharedSchema,
    pub buffer_bytes: u64,
    pub slab_bytes: usize,
    pub budget: Budget,
}

/// A unit that the sink has, and that is in the log as well.
#[derive(Clone, Copy, Debug)]
struct Cover {
    unit: u64,
    start: u64,
    end: u64,
}

/// What was found at start.
pub(crate) struct Found {
    /// Bytes of messages that wait.
    pub waiting_bytes: u64,
    /// Bytes of a torn frame, and the file.
    pub torn: Option<(PathBuf, u64)>,
}

/// The messages of one sink on one shard that wait on disk.
pub(crate) struct Spill {
    pub plan: SpillPlan,
    log: Log,
    reader: Reader,
    rate: Rate,
    /// Stored rows on their way to the sink.
    out: Slab,
    /// The first of them that it has not taken.
    out_from: usize,
    /// Where the frame of the first row in it begins.
    out_first: u64,
    gather: Slab,
    shadow: Shadow,
    /// By unit, and by place.
    covers: VecDeque<Cover>,
    /// Parts of the log that are covers, ahead of the reader.
    skips: VecDeque<Range<u64>>,
    /// Units of stored rows that the sink has: the unit, and where the frame
    /// of its first row begins.
    replays: VecDeque<(u64, u64)>,
    /// The end of the last frame that is no cover.
    stored_end: u64,
    /// The end of what earlier runs left.
    recovered_end: u64,
}

impl Spill {
    pub(crate) fn new(parts: SpillParts) -> Self {
        let SpillParts { plan, dir, owner, schema, buffer_bytes, slab_bytes, budget } = parts;
        let limits = Limits {
            max_bytes: plan.max_bytes,
            segment_bytes: plan.segment_bytes,
            sync_every_us: plan.sync_every_us,
        };
        let shadow = usize::try_from(buffer_bytes.saturating_mul(SHADOWS)).unwrap_or(usize::MAX);
        Self {
            rate: Rate::new(plan.resend_rate),
            plan,
            log: Log::new(Folder { dir, owner }, schema.clone(), limits),
            reader: Reader::new(schema, budget.clone()),
            out: Slab::new(slab_bytes, &budget),
            out_from: 0,
            out_first: 0,
            gather: Slab::new(slab_bytes, &budget),
            shadow: Shadow::new(shadow),
            covers: VecDeque::new(),
            skips: VecDeque::new(),
            replays: VecDeque::new(),
            stored_end: 0,
            recovered_end: 0,
        }
    }

    /// Finds what is there. The error is for people.
    pub(crate) fn open(&mut self, io: &mut dyn Io, owner: u32) -> Result<Found, String> {
        let found = self.log.open(io, owner)?;
        let reader = self.reader.open(io, owner, found.accepted);
        reader.map_err(|error| format!("no memory for reading: {error}"))?;
        self.stored_end = self.log.end;
        self.recovered_end = self.log.end;
        Ok(Found { waiting_bytes: self.log.end - found.accepted, torn: found.torn })
    }

    pub(crate) fn on_event(&mut self, tag: u32, event: EventKind, io: &mut dyn Io, now: Now) {
        if tag == READ_TAG {
            self.reader.on_event(event, io);
        } else {
            self.log.on_event(tag, event, io, now);
        }
    }

    /// Writes and syncs what is due; all of it when `now_or_never`.
    pub(crate) fn poll(&mut self, io: &mut dyn Io, now: Now, now_or_never: bool) {
        self.log.poll(io, now, now_or_never);
    }

    /// Something is stored that the sink has not been given.
    pub(crate) fn has_stored(&self) -> bool {
        self.reader.at() < self.stored_end || self.reader.is_in_frame() || self.has_out()
    }

    fn has_out(&self) -> bool {
        self.out_from < self.out.len()
    }

    /// Bytes that are stored and not read.
    pub(crate) fn backlog_bytes(&self) -> u64 {
        self.stored_end.saturating_sub(self.reader.at())
    }

    /// Bytes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.log.disk_bytes()
    }

    /// Whether the sink may be given another unit: there is memory for its
    /// copy.
    pub(crate) fn may_shadow(&self) -> bool {
        self.shadow.has_room()
    }

    /// Keeps a copy of rows that the sink was given as `unit`.
    pub(crate) fn keep(&mut self, unit: u64, slab: &Slab, rows: Range<usize>) {
        let gather = &mut self.gather;
        // A row without a copy is still the sink's.
        self.shadow.keep(unit, |out| format::append(out, slab, rows, gather, &mut |_| {}));
    }

    pub(crate) fn has_copies(&self) -> bool {
        !self.shadow.is_empty()
    }

    /// Gives the log the copies of what the sink has; true when all are there.
    pub(crate) fn cover(&mut self) -> bool {
        while let Some(copy) = self.shadow.front() {
            if self.log.room(copy.frame.len()) != Room::Yes {
                return false;
            }
            let start = self.log.end;
            let end = self.log.append(|out| {
                out.extend_from_slice(&copy.frame);
                copy.slots
            });
            self.covers.push_back(Cover { unit: copy.unit, start, end });
            match self.skips.back_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => self.skips.push_back(start..end),
            }
            self.shadow.drop_front();
        }
        true
    }

    /// Whether the log takes these rows.
    pub(crate) fn room(&self, slab: &Slab) -> Room {
        self.log.room(slab.used())
    }

    /// Stores rows; returns the place that must be safe for them to be.
    pub(crate) fn store(
        &mut self,
        slab: &Slab,
        rows: Range<usize>,
        lost: &mut dyn FnMut(RowRef<'_>),
    ) -> u64 {
        let gather = &mut self.gather;
        let end = self.log.append(|out| format::append(out, slab, rows, gather, lost));
        self.stored_end = end;
        end
    }

    /// Everything before it is on stable storage or accepted.
    pub(crate) fn safe(&self) -> u64 {
        self.log.safe()
    }

    /// Whether the unit, which the sink has, is safe nevertheless.
    pub(crate) fn is_covered(&self, unit: u64) -> bool {
        let at = self.covers.partition_point(|cover| cover.unit < unit);
        let cover = self.covers.get(at).filter(|cover| cover.unit == unit);
        cover.is_some_and(|cover| cover.end <= self.log.safe())
    }

    /// Stored rows for the sink, from the first that it has not taken on.
    pub(crate) fn load(&mut self, io: &mut dyn Io, now: Now) -> Option<(&Slab, usize)> {
        if !self.has_out() {
            self.out.clear();
            self.out_from = 0;
            self.skip_covers(io);
            let until = self.skips.front().map_or(self.stored_end, |skip| skip.start);
            let most = self.rate.allows(now.mono_us);
            if most == 0 || !(self.reader.is_in_frame() || self.reader.at() < until) {
                return None;
            }
            self.out_first = self.reader.at();
            let rows = self.reader.fill(&mut self.log, until, most, &mut self.out, io);
            self.rate.took(rows);
        }
        self.has_out().then_some((&self.out, self.out_from))
    }

    /// The rows at hand were left by an earlier run.
    pub(crate) fn is_from_earlier(&self) -> bool {
        self.out_first < self.recovered_end
    }

    /// The sink took so many of the rows at hand; true when that was all.
    pub(crate) fn took(&mut self, rows: usize) -> bool {
        self.out_from += rows;
        !self.has_out()
    }

    /// All rows at hand were given to the sink as `unit`.
    pub(crate) fn replayed(&mut self, unit: u64) {
        self.replays.push_back((unit, self.out_first));
    }

    fn skip_covers(&mut self, io: &mut dyn Io) {
        while !self.reader.is_in_frame()
            && let Some(skip) = self.skips.front().cloned()
            && skip.start <= self.reader.at()
        {
            self.skips.pop_front();
            self.reader.skip_to(skip.end.max(self.reader.at()), io);
        }
    }

    /// The sink has accepted all units up to this one.
    pub(crate) fn accepted(&mut self, unit: u64, io: &mut dyn Io) {
        self.shadow.accepted(unit);
        while self.covers.front().is_some_and(|cover| cover.unit <= unit) {
            self.covers.pop_front();
        }
        while self.replays.front().is_some_and(|(replay, _)| *replay <= unit) {
            self.replays.pop_front();
        }
        if !self.has_stored() {
            self.skip_covers(io);
        }
        let read = if self.has_out() { self.out_first } else { self.reader.at() };
        let covered = self.covers.front().map(|cover| cover.start);
        let replayed = self.replays.front().map(|(_, start)| *start);
        let upto = covered.into_iter().chain(replayed).fold(read, u64::min);
        self.log.accept(upto, io);
    }

    /// Everything that was stored is safe, and that is written down.
    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_idle() && !self.reader.is_reading()
    }

    /// When it wants a turn though nothing happens.
    pub(crate) fn wake_at_us(&self) -> Option<u64> {
        let waits = self.plan.resend_rate.is_some() && self.has_stored() && !self.has_out();
        let rate = (waits && !self.reader.is_reading()).then(|| self.rate.again_us());
        self.log.wake_at_us().into_iter().chain(rate).min()
    }

    /// What keeps messages from being stored or sent again, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.reader.broken().map(str::to_owned).or_else(|| self.log.trouble())
    }
}
