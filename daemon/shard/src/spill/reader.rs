//! Stored rows on their way back: pieces of a segment, frames, rows in a slab.
//!
//! Every frame's checksum is checked, then every row ([`Slab::push_checked`]).
//! What is not as it was written stops the reader for good, with the file and
//! the place; nothing of it is delivered.
//!
//! Bounds: one read is under way; the inbox holds one frame and one piece.

use std::io;

use ringmain_runtime::io::{EventKind, Group, Handle, Io, OpId};
use ringmain_slab::{Budget, Malformed, Scratch, SharedSchema, Slab};

use super::folder::{self, Segment};
use super::format::{self, FRAME_HEAD_BYTES, Found};
use super::log::{Log, READ_TAG};
use super::remap::Remap;

/// Read at a time.
pub(super) const READ_BYTES: u32 = 128 << 10;

#[derive(Debug)]
struct Open {
    id: u64,
    /// Where it begins, as [`Segment::base`].
    base: u64,
    head_bytes: u64,
    /// `None` for what is read from memory.
    handle: Option<Handle>,
    remap: Option<Remap>,
    name: String,
}

/// The frame at hand, in the inbox.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// The rest of its rows.
    next: usize,
    end: usize,
    rows: u32,
}

pub(super) struct Reader {
    schema: SharedSchema,
    group: Option<Group>,
    owner: u32,
    open: Option<Open>,
    /// Where the frame at hand, or the next one, begins.
    at: u64,
    inbox: Vec<u8>,
    /// Where `at` is in the inbox.
    start: usize,
    frame: Option<Frame>,
    /// A read is under way, of bytes up to this place; `None` in it: they are
    /// no longer wanted.
    reading: Option<Option<u64>>,
    scratch: Scratch,
    /// Rows of another schema, until they are built again.
    foreign: Option<Slab>,
    budget: Budget,
    broken: Option<String>,
}

impl Reader {
    pub(super) fn new(schema: SharedSchema, budget: Budget) -> Self {
        Self {
            schema,
            group: None,
            owner: 0,
            open: None,
            at: 0,
            inbox: Vec::new(),
            start: 0,
            frame: None,
            reading: None,
            scratch: Scratch::default(),
            foreign: None,
            budget,
            broken: None,
        }
    }

    pub(super) fn open(&mut self, io: &mut dyn Io, owner: u32, at: u64) -> io::Result<()> {
        self.owner = owner;
        self.at = at;
        self.group = Some(io.group(1, READ_BYTES)?);
        Ok(())
    }

    /// Everything before has been given out, but for the frame at hand.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn is_in_frame(&self) -> bool {
        self.frame.is_some()
    }

    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Goes on at `place`, which is not before; between frames.
    pub(super) fn skip_to(&mut self, place: u64, io: &mut dyn Io) {
        debug_assert!(self.frame.is_none() && place >= self.at);
        let here = (self.inbox.len() - self.start) as u64;
        let ahead = place - self.at;
        self.at = place;
        if ahead < here {
            self.start += ahead as usize;
        } else {
            self.leave(io);
        }
    }

    /// Forgets the segment at hand.
    fn leave(&mut self, io: &mut dyn Io) {
        self.inbox.clear();
        self.inbox.shrink_to(2 * READ_BYTES as usize);
        self.start = 0;
        if let Some(reading) = &mut self.reading {
            *reading = None;
        }
        if let Some(handle) = self.open.take().and_then(|open| open.handle) {
            io.close(handle);
        }
    }

    /// Appends stored rows to `out`, `most` of them at most, from one or
    /// several frames, but none from `until` on. Returns how many.
    pub(super) fn fill(
        &mut self,
        log: &mut Log,
        until: u64,
        most: usize,
        out: &mut Slab,
        io: &mut dyn Io,
    ) -> usize {
        let before = out.len();
        while self.broken.is_none() && out.len() - before < most {
            if self.frame.is_none() && (self.at >= until || !self.begin_frame(log, io)) {
                break;
            }
            if !self.take_rows(most - (out.len() - before), out) {
                break;
            }
        }
        out.len() - before
    }

    /// The next frame, when it is there as a whole; has more read if not.
    fn begin_frame(&mut self, log: &mut Log, io: &mut dyn Io) -> bool {
        if !self.enter(log, io) {
            return false;
        }
        let Some(open) = &self.open else { return false };
        let bytes = &self.inbox[self.start..];
        match format::find(bytes, open.id, self.at - open.base) {
            Found::Frame(frame) => {
                let next = self.start + FRAME_HEAD_BYTES;
                self.frame = Some(Frame { next, end: self.start + frame.len, rows: frame.rows });
                true
            }
            Found::More(bytes) => {
                self.read(log, bytes, io);
                false
            }
            Found::Bad => {
                self.damaged("what stands there is not what was written");
                false
            }
        }
    }

    /// Makes sure that the segment with the next frame is open.
    fn enter(&mut self, log: &mut Log, io: &mut dyn Io) -> bool {
        let here = self.inbox.len() - self.start;
        if here > 0 && self.open.is_some() {
            return true;
        }
        let inside = |segment: &&Segment| segment.base <= self.at && self.at < segment.end();
        let Some(segment) = log.segments.iter().find(inside).cloned() else {
            // Not on disk: perhaps it cannot get there.
            if self.at < log.end
                && self.at >= log.written
                && let Some((base, bytes)) = log.take_back()
            {
                self.leave(io);
                let name = "spill: in memory".to_owned();
                let (id, head_bytes) = (0, 0);
                self.open = Some(Open { id, base, head_bytes, handle: None, remap: None, name });
                self.start = (self.at - base) as usize;
                self.inbox = bytes;
                return true;
            }
            return false;
        };
        if self.open.as_ref().is_some_and(|open| open.id == segment.id) {
            return true;
        }
        self.leave(io);
        let opened = folder::open(&segment);
        let opened = opened.and_then(|(file, head)| Ok((io.adopt(file.into())?, head)));
        let name = segment.path.display().to_string();
        match opened {
            Ok((handle, head)) => {
                let (id, base, head_bytes) = (segment.id, segment.base, segment.head_bytes);
                let remap = Remap::new(&head, &self.schema);
                self.open = Some(Open { id, base, head_bytes, handle: Some(handle), remap, name });
                true
            }
            Err(error) => {
                self.broken = Some(format!("spill: {name}: {error}"));
                false
            }
        }
    }

    /// Reads on until the inbox holds so many bytes.
    fn read(&mut self, log: &Log, bytes: usize, io: &mut dyn Io) {
        let (Some(open), Some(group), None) = (&self.open, self.group, self.reading) else {
            return;
        };
        let Some(handle) = open.handle else {
            return self.damaged("it ends in the middle of a frame");
        };
        let Some(segment) = log.segments.iter().find(|segment| segment.id == open.id) else {
            return;
        };
        if self.at + bytes as u64 > segment.end() {
            return self.damaged("it ends in the middle of a frame");
        }
        if self.start > 0 {
            self.inbox.drain(..self.start);
            self.start = 0;
        }
        let have = self.at + self.inbox.len() as u64;
        self.reading = Some(Some(segment.end()));
        let offset = open.head_bytes + (have - open.base);
        io.read(handle, group, offset, OpId { owner: self.owner, tag: READ_TAG });
    }

    pub(super) fn on_event(&mut self, event: EventKind, io: &mut dyn Io) {
        let wanted = self.reading.take().flatten();
        match event {
            EventKind::Received { lease } => {
                if let Some(upto) = wanted {
                    let have = self.at + (self.inbox.len() - self.start) as u64;
                    // What was being written meanwhile is not whole yet.
                    let most = usize::try_from(upto.saturating_sub(have)).unwrap_or(usize::MAX);
                    let bytes = io.bytes(&lease);
                    self.inbox.extend_from_slice(&bytes[..bytes.len().min(most)]);
                }
                io.release(lease);
            }
            EventKind::Eof if wanted.is_some() => self.damaged("it is shorter than it was"),
            EventKind::Failed { error } if wanted.is_some() => {
                let name = self.open.as_ref().map_or("", |open| open.name.as_str());
                self.broken = Some(format!("spill: {name}: {error}"));
            }
            _ => {}
        }
    }

    /// A read is under way.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Copies rows of the frame at hand; false when the slab is full.
    fn take_rows(&mut self, most: usize, out: &mut Slab) -> bool {
        let mut taken = 0;
        while let Some(frame) = &mut self.frame {
            if frame.rows == 0 {
                let len = frame.end - self.start;
                self.start = frame.end;
                self.at += len as u64;
                self.frame = None;
                return true;
            }
            if taken == most {
                return true;
            }
            let Some(image) = format::next_row(&self.inbox[frame.next..frame.end]) else {
                self.damaged("a row is longer than its frame");
                return false;
            };
            let len = image.len();
            let remap = self.open.as_ref().and_then(|open| open.remap.as_ref());
            let pushed = match remap {
                None => push(image, out),
                Some(remap) => {
                    let budget = &self.budget;
                    let standard = out.capacity();
                    let foreign = self.foreign.get_or_insert_with(|| Slab::new(standard, budget));
                    foreign.clear();
                    push(image, foreign).and_then(|()| {
                        let row = foreign.row(0);
                        built(remap, row, out, &mut self.scratch)
                    })
                }
            };
            match pushed {
                Ok(()) => {}
                Err(Malformed::NoRoom) => return false,
                Err(error) => {
                    self.damaged(&error.to_string());
                    return false;
                }
            }
            frame.next += len;
            frame.rows -= 1;
            taken += 1;
        }
        true
    }

    fn damaged(&mut self, why: &str) {
        let (name, at) = match &self.open {
            Some(open) => (open.name.as_str(), open.head_bytes + (self.at - open.base)),
            None => ("", self.at),
        };
        let message = format!(
            "spill: {name} is damaged at byte {at}: {why}; the messages behind it wait: move \
             the file away and start again to go on without it"
        );
        tracing::error!("{message}");
        self.broken = Some(message);
    }
}

/// A slab that is empty grows for a row that needs it.
fn push(image: &[u8], out: &mut Slab) -> Result<(), Malformed> {
    match out.push_checked(image) {
        Err(Malformed::NoRoom) if out.is_empty() => {
            out.reserve(image.len()).map_err(|_| Malformed::NoRoom)?;
            out.push_checked(image)
        }
        result => result,
    }
}

fn built(
    remap: &Remap,
    row: ringmain_slab::RowRef<'_>,
    out: &mut Slab,
    scratch: &mut Scratch,
) -> Result<(), Malformed> {
    let first = remap.row(row, out, scratch);
    first
        .or_else(|full| {
            if !out.is_empty() {
                return Err(full);
            }
            // Slots that this flow has and the old one had not.
            out.reserve(2 * row.image_bound() + (2 << 10))?;
            remap.row(row, out, scratch)
        })
        .map_err(|_| Malformed::NoRoom)
}
