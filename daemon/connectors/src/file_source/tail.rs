//! `mode = "tail"`: files are followed for as long as they grow.
//!
//! Every `poll` the globs are looked up: new files are opened, renamed ones
//! are known again by their inode. In between, at least four times a second,
//! open files are looked at for growth.
//!
//! - Renamed (rotation): the old file is read to its end, the new one from its
//!   beginning; both are open meanwhile.
//! - Truncated, or written again from the beginning (`copytruncate`): reading
//!   starts over. What was written and cut off between two looks is lost, and
//!   nobody can know. With `copytruncate` the globs must not match the copies,
//!   which are new files with old lines.
//! - Gone: what is left is read; when nothing has come for [`GONE_US`], a last
//!   line without its end is given out and the file is closed.
//! - A line without its end waits for its rest.
//!
//! Twins on other shards divide the files by inode, so that a renamed file
//! stays where it was. Bounds: [`FILES_MAX`] open files, [`BUFFERS`] buffers of
//! [`BUFFER_BYTES`] over all of them, one partial line each.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use ringmain_base::Reason;
use ringmain_codec::{Framer, Framing};
use ringmain_config::plan::{FileSource, FileStart, SourcePlan};
use ringmain_runtime::io::{EventKind, Group};
use ringmain_slab::{SharedSchema, Slab};

use super::found::{self, Opened};
use super::identity::{FileId, PRINT_BYTES, Print, Stat};
use super::position::{self, Mark};
use super::resume_at;
use crate::decode::{Decoding, Origin};
use crate::reader::{Front, Lane, Reader, TAGS};
use crate::{ConnectorError, Cx, Health, Placement, Pull, Source};

const FILES_MAX: usize = 1_024;
pub(super) const BUFFERS: u16 = 16;
pub(super) const BUFFER_BYTES: u32 = 128 << 10;
const AHEAD: usize = 2;
/// Longest time between two looks at open files.
const LOOK_US: u64 = 250_000;
/// A file without a name is closed when nothing came for so long: whoever had
/// it open may still write.
const GONE_US: u64 = 5_000_000;

pub(crate) struct Tail {
    plan: FileSource,
    decoding: Decoding,
    place: Placement,
    group: Option<Group>,
    files: Vec<Option<Followed>>,
    /// Where the next poll begins, so that no file starves the others.
    turn: usize,
    restored: Vec<Mark>,
    first_look: bool,
    look_at_us: u64,
    find_at_us: u64,
    trouble: Option<String>,
    stopped: bool,
}

struct Followed {
    path: PathBuf,
    id: FileId,
    print: Print,
    reader: Reader,
    framer: Framer,
    stat: Stat,
    /// Since when no name leads to it, and nothing came.
    gone_us: Option<u64>,
    /// It is read no further; its last line may still be owed.
    last: bool,
    closed: bool,
}

impl Tail {
    pub(crate) fn new(
        plan: &SourcePlan,
        file: &FileSource,
        schema: &SharedSchema,
        place: &Placement,
    ) -> Self {
        Self {
            plan: file.clone(),
            decoding: Decoding::new(plan, schema),
            place: place.clone(),
            group: None,
            files: Vec::new(),
            turn: 0,
            restored: Vec::new(),
            first_look: true,
            look_at_us: 0,
            find_at_us: 0,
            trouble: None,
            stopped: false,
        }
    }

    fn look(&mut self, cx: &mut Cx<'_>) {
        let now_us = cx.now.mono_us;
        if now_us >= self.find_at_us {
            self.find_at_us = now_us + self.plan.poll_us;
            self.find(cx);
        }
        self.look_at_us = now_us + LOOK_US.min(self.plan.poll_us);
        for at in 0..self.files.len() {
            self.look_at(at, cx);
        }
    }

    /// Looks the globs up.
    fn find(&mut self, cx: &mut Cx<'_>) {
        self.trouble = None;
        let found = match found::find(&self.plan.paths) {
            Ok(found) => found,
            Err(error) => {
                self.trouble = Some(error.to_string());
                return;
            }
        };
        if found.is_empty() && self.files.is_empty() {
            self.trouble = Some(format!("no file matches '{}' yet", self.plan.paths[0].value));
        }
        let mut named = HashSet::new();
        for path in found {
            match self.meet(&path, cx) {
                Ok(id) => {
                    named.insert(id);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.trouble = Some(format!("{}: {error}", path.display())),
            }
        }
        self.first_look = false;
        for file in self.files.iter_mut().flatten() {
            let gone = !named.contains(&file.id);
            file.gone_us = if gone { file.gone_us.or(Some(cx.now.mono_us)) } else { None };
        }
    }

    /// A name that matches.
    fn meet(&mut self, path: &Path, cx: &mut Cx<'_>) -> io::Result<FileId> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        let known = self.files.iter_mut().flatten().find(|file| file.id == id && !file.last);
        if let Some(file) = known {
            if file.path != path {
                file.path = path.to_owned();
            }
            return Ok(id);
        }
        if !self.place.owns(id.spread()) {
            return Ok(id);
        }
        let free = self.files.iter().position(Option::is_none).unwrap_or(self.files.len());
        if free >= FILES_MAX {
            let message = format!("more than {FILES_MAX} files match; it waits");
            return Err(io::Error::other(message));
        }
        let file = self.follow(path, found::open(path)?, free, cx)?;
        if free == self.files.len() {
            self.files.push(None);
        }
        self.files[free] = Some(file);
        Ok(id)
    }

    fn follow(
        &mut self,
        path: &Path,
        file: Opened,
        slot: usize,
        cx: &mut Cx<'_>,
    ) -> io::Result<Followed> {
        let mut offset = resume_at(&self.restored, path, &file);
        let known = self.restored.iter().any(|mark| mark.id == file.stat.id);
        if self.first_look && !known && self.plan.start == FileStart::End {
            offset = self.last_frame(&file)?;
        }
        self.restored.retain(|mark| mark.id != file.stat.id);
        let framer = self.decoding.resume(offset, || file.head());
        let lane = Lane {
            group: self.group.expect("open made the group before anything is looked for"),
            buffer_bytes: BUFFER_BYTES,
            ahead: AHEAD,
            owner: cx.owner,
            tags: slot as u32 * TAGS,
        };
        let (stat, print) = (file.stat, file.print);
        let handle = cx.io.adopt(file.fd)?;
        Ok(Followed {
            path: path.to_owned(),
            id: stat.id,
            print,
            reader: Reader::new(handle, lane, offset, stat.size),
            framer,
            stat,
            gone_us: None,
            last: false,
            closed: false,
        })
    }

    /// Where the last line begins that is not whole yet, or the end.
    fn last_frame(&self, file: &Opened) -> io::Result<u64> {
        if self.decoding.framing() != Framing::Newline {
            return Ok(file.stat.size);
        }
        let back = u64::from(self.decoding.frame_bytes());
        let end = crate::lines::last_line_end(&file.fd, file.stat.size, back)?;
        Ok(end.unwrap_or(file.stat.size))
    }

    /// Looks whether an open file has grown, or begins again.
    fn look_at(&mut self, at: usize, cx: &mut Cx<'_>) {
        let Some(file) = self.files[at].as_mut().filter(|file| !file.last) else { return };
        let Some(fd) = cx.io.descriptor(file.reader.handle()) else { return };
        let looked = Stat::of(fd).and_then(|stat| {
            let touched = stat != file.stat;
            let again =
                touched && (stat.size < file.reader.position() || !file.print.matches(fd)?);
            let print = if again || (touched && !file.print.is_full()) {
                Print::take(fd, PRINT_BYTES)?
            } else {
                file.print
            };
            Ok((stat, again, print))
        });
        match looked {
            Ok((stat, again, print)) => {
                if again {
                    file.start_over(&mut self.decoding, cx);
                }
                if stat.size != file.stat.size {
                    file.gone_us = file.gone_us.map(|_| cx.now.mono_us);
                }
                file.stat = stat;
                file.print = print;
                file.reader.set_size(stat.size);
                file.reader.ask(cx.io);
                let still = !file.reader.is_busy() && file.reader.position() >= stat.size;
                let gone = file.gone_us.is_some_and(|since| cx.now.mono_us > since + GONE_US);
                file.last = still && gone;
            }
            Err(error) => self.trouble = Some(format!("{}: {error}", file.path.display())),
        }
    }

    /// Decodes what a file has. True when the slab is full.
    fn decode(&mut self, at: usize, slab: &mut Slab, cx: &mut Cx<'_>) -> bool {
        let Some(file) = &mut self.files[at] else { return false };
        loop {
            let Followed { path, framer, reader, .. } = &mut *file;
            let name = || path.display().to_string();
            let ts = cx.now.wall_us;
            match reader.front(cx.io) {
                Front::Bytes(lease, from) => {
                    let bytes = &cx.io.bytes(lease)[from..];
                    let origin = Origin { name: &name, refusals: cx.refusals };
                    let fed = self.decoding.feed(framer, bytes, slab, ts, origin);
                    reader.consume(fed.consumed, cx.io);
                    if fed.full {
                        return true;
                    }
                    if !self.stopped {
                        reader.ask(cx.io);
                    }
                }
                Front::Failed(error) => {
                    self.trouble = Some(format!("{}: {error}", path.display()));
                    return false;
                }
                // Reading behind the end: the file is shorter than it was.
                Front::End => reader.set_size(reader.position()),
                Front::Wait => break,
            }
        }
        if !file.last {
            return false;
        }
        if !file.closed {
            let Followed { path, framer, .. } = &mut *file;
            let name = || path.display().to_string();
            let origin = Origin { name: &name, refusals: cx.refusals };
            if self.decoding.finish(framer, slab, cx.now.wall_us, origin).full {
                return true;
            }
            file.closed = true;
            file.reader.close(cx.io);
        }
        if file.reader.is_quiet() {
            self.files[at] = None;
        }
        false
    }

    fn end(&mut self, cx: &mut Cx<'_>) -> Pull {
        if self.files.iter().flatten().any(|file| file.reader.is_busy()) {
            return Pull::Idle;
        }
        for file in self.files.iter_mut().flatten() {
            file.reader.close(cx.io);
        }
        if let Some(group) = self.group.take() {
            cx.io.drop_group(group);
        }
        Pull::Ended
    }
}

impl Followed {
    /// The file has another beginning.
    fn start_over(&mut self, decoding: &mut Decoding, cx: &mut Cx<'_>) {
        let bytes = self.framer.carry_bytes();
        if bytes > 0 {
            let detail = format!("the file was truncated after {bytes} B of a line");
            let name = self.path.display().to_string();
            cx.refusals.bytes(Reason::Truncated, &detail, &name, self.framer.offset(), &[]);
        }
        self.framer = decoding.stream();
        self.reader.go(0, cx.io);
    }
}

impl Source for Tail {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        let group = cx.io.group(BUFFERS, BUFFER_BYTES);
        self.group = Some(group.map_err(|error| super::no_memory(&error))?);
        // A glob that cannot be looked up never can.
        found::find(&self.plan.paths)?;
        self.look(cx);
        Ok(())
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        let file = self.files.get_mut((tag / TAGS) as usize).and_then(Option::as_mut);
        if let Some(file) = file {
            *cx.bytes += file.reader.on_event(tag, event, cx.io);
        } else if let EventKind::Received { lease } = event {
            cx.io.release(lease);
        }
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        if cx.now.mono_us >= self.look_at_us && !self.stopped {
            self.look(cx);
        }
        for _ in 0..self.files.len() {
            self.turn = (self.turn + 1) % self.files.len();
            if self.decode(self.turn, slab, cx) {
                return Pull::More;
            }
        }
        if self.stopped { self.end(cx) } else { Pull::Idle }
    }

    fn wake_at_us(&self) -> Option<u64> {
        (!self.stopped).then_some(self.look_at_us)
    }

    fn position(&self) -> Option<Vec<u8>> {
        let marks: Vec<_> = self.files.iter().flatten().map(Followed::mark).collect();
        Some(position::encode(marks.iter().chain(&self.restored)))
    }

    fn restore(&mut self, position: &[u8]) -> Result<(), ConnectorError> {
        position::merge(&mut self.restored, position::decode(position)?);
        Ok(())
    }

    fn stop(&mut self, _: &mut Cx<'_>) {
        self.stopped = true;
    }

    fn health(&self) -> Health {
        self.trouble.clone().map_or(Health::Good, Health::Retrying)
    }
}

impl Followed {
    fn mark(&self) -> Mark {
        let offset = self.framer.offset();
        Mark { id: self.id, print: self.print, offset, path: self.path.clone() }
    }
}
