//! The sink that writes files: one, or one for each value of the parts of its
//! path ([`crate::template`]).
//!
//! Owns: opening and repairing ([`opening`]), what is written and synced
//! ([`target`]), the names of closed files ([`rotation`]).
//!
//! A write that fails (a full disk, a failing device) is done again with
//! growing waits; nothing more is taken meanwhile than the buffers hold, so
//! the source stops and nothing is lost. Bounds: [`FILES_MAX`] open files,
//! least recently used first out; `buffer` bytes over all of them;
//! [`RETIRING_MAX`] files that are being closed.
//!
//! Several shards may append to one file; then each write is one append of
//! whole frames, and rotation is refused, because nobody could say when a file
//! is closed. `{shard}` in the path gives each its own.

mod opening;
mod rotation;
mod target;

use std::collections::HashMap;
use std::io;
use std::path::{Path as FsPath, PathBuf};

use ringmain_base::Reason;
use ringmain_codec::Framing;
use ringmain_config::plan::{FileSink as FilePlan, Fsync, Rotation, SinkPlan};
use ringmain_runtime::io::{EventKind, OpId};
use ringmain_slab::{SharedSchema, Slab};

use self::opening::{Opened, Opening};
use self::rotation::Closed;
use self::target::{Outcome, Start, Syncing, TAGS, Target};
use crate::backoff::Backoff;
use crate::encode::Encoding;
use crate::outbuf::{CHUNK_BYTES_MAX, Room};
use crate::template::{NoPath, Path};
use crate::{ConnectorError, Cx, Health, Placement, Sink};

/// Files that rows go to at the same time.
const FILES_MAX: usize = 64;
/// Files that are only waiting for their last bytes.
const RETIRING_MAX: usize = 16;
/// A file that no row came for is closed, if its path can change.
const UNUSED_US: u64 = 30_000_000;

pub(crate) struct FileSink {
    template: Path,
    rotate: Rotation,
    syncing: Syncing,
    opening: Opening,
    encoding: Encoding,
    room: Room,
    targets: Vec<Option<Target>>,
    by_path: HashMap<String, usize>,
    /// The path of the last row, and its target.
    last: Option<(String, usize)>,
    key: String,
    retry: Backoff,
    retry_at_us: Option<u64>,
    trouble: Option<String>,
    finishing: bool,
    /// A file is being closed because somebody asked for it.
    aside: bool,
}

/// Why a row was not taken.
enum Hold {
    /// Later.
    Wait,
    /// Never; it was refused.
    Refused,
}

impl FileSink {
    pub(crate) fn new(
        plan: &SinkPlan,
        file: &FilePlan,
        schema: &SharedSchema,
        place: &Placement,
    ) -> Result<Self, ConnectorError> {
        let template = Path::new(&file.path, schema, place.shard);
        let shared = place.shards > 1 && !template.has_shard();
        if shared && file.rotate != Rotation::default() {
            let message = "several shards write to this file, so none knows when it is closed; \
                           put {shard} into path";
            return Err(ConnectorError::setup("rotate", message));
        }
        let encoding = Encoding::new(plan, schema);
        let opening = Opening {
            mode: file.mode,
            shared,
            lines: encoding.framing() == Framing::Newline,
            header: encoding.header(),
            claims: place.claims.clone(),
        };
        let syncing = match file.fsync {
            Fsync::Never => Syncing::Never,
            Fsync::Rotate => Syncing::AtClose,
            Fsync::Interval(us) => Syncing::Every(us),
            Fsync::Always => Syncing::Always,
        };
        Ok(Self {
            template,
            rotate: file.rotate.clone(),
            syncing,
            opening,
            encoding,
            room: Room::new(plan.buffer_bytes, CHUNK_BYTES_MAX),
            targets: Vec::new(),
            by_path: HashMap::new(),
            last: None,
            key: String::new(),
            retry: Backoff::local(u64::from(place.shard)),
            retry_at_us: None,
            trouble: None,
            finishing: false,
            aside: false,
        })
    }

    fn target(&mut self, at: usize) -> &mut Target {
        self.targets[at].as_mut().expect("indices in by_path and last are of open targets")
    }

    /// Rows that all go to one file, without a look at their number of bytes.
    fn push_all(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let Some((_, target)) = &self.last else { return 0 };
        let target = self.targets[*target].as_mut().expect("the last target is open");
        let mut at = from;
        while at < slab.len() && self.room.is_open() {
            let chunk = self.room.chunk_bytes();
            let room = &mut self.room;
            let out = target.filling(|| room.take());
            let before = out.len();
            let limit = chunk.saturating_sub(before).max(1);
            at += self.encoding.rows(slab, at, out, limit, cx.refusals);
            let added = out.len() - before;
            self.room.add(added);
            target.used_us = cx.now.mono_us;
            target.seal_if_long(chunk);
            target.submit(cx.io, cx.now.mono_us, false);
        }
        at - from
    }

    /// Rows that are looked at one by one.
    fn push_each(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let mut at = from;
        while at < slab.len() && self.room.is_open() {
            match self.push_row(slab, at, cx) {
                Ok(()) | Err(Hold::Refused) => at += 1,
                Err(Hold::Wait) => break,
            }
        }
        at - from
    }

    fn push_row(&mut self, slab: &Slab, at: usize, cx: &mut Cx<'_>) -> Result<(), Hold> {
        let row = slab.row(at);
        let target_at = self.route(row, cx)?;
        let chunk = self.room.chunk_bytes();
        let small = !self.template.is_constant();
        let target = self.targets[target_at].as_mut().expect("the route leads to an open target");
        let room = &mut self.room;
        let out = target.filling(|| if small { room.take_small() } else { room.take() });
        let before = out.len();
        if !self.encoding.row(row, out, cx.refusals) {
            return Err(Hold::Refused);
        }
        let added = out.len() - before;
        let too_large = self.rotate.size_bytes.is_some_and(|size| target.bytes() > size);
        if too_large && target.bytes() - added as u64 > self.opening.header.len() as u64 {
            // The row begins the next file; it is encoded again there.
            target.filling(|| unreachable!("it was just filled")).truncate(before);
            self.rotate(target_at, cx)?;
            return self.push_row(slab, at, cx);
        }
        self.room.add(added);
        target.used_us = cx.now.mono_us;
        target.seal_if_long(chunk);
        target.submit(cx.io, cx.now.mono_us, false);
        Ok(())
    }

    /// The target of a row, opened if need be.
    fn route(&mut self, row: ringmain_slab::RowRef<'_>, cx: &mut Cx<'_>) -> Result<usize, Hold> {
        if self.template.is_constant() {
            if let Some((_, at)) = &self.last {
                return Ok(*at);
            }
            self.key = self.template.constant();
        } else if let Err(no_path) = self.template.fill(row, &mut self.key) {
            cx.refusals.row(NoPath::REASON, &no_path.detail(), row);
            return Err(Hold::Refused);
        }
        if let Some((path, at)) = &self.last
            && *path == self.key
        {
            return Ok(*at);
        }
        let at = match self.by_path.get(&self.key) {
            Some(at) => *at,
            None if self.must_wait() => return Err(Hold::Wait),
            None => match self.open_next(cx) {
                Ok(at) => at,
                Err(error) if is_about_the_path(&error) => {
                    let detail = format!("path: {}: {error}", self.key);
                    cx.refusals.row(Reason::Rejected, &detail, row);
                    return Err(Hold::Refused);
                }
                Err(error) => {
                    let what = format!("{}: {error}", self.key);
                    self.trouble(&what, cx.now.mono_us);
                    return Err(Hold::Wait);
                }
            },
        };
        self.last = Some((self.key.clone(), at));
        Ok(at)
    }

    /// Whether the file that `key` names cannot be opened yet: it is still
    /// being closed, or too many are, or opening has just failed.
    fn must_wait(&self) -> bool {
        let retiring = || self.targets.iter().flatten().filter(|target| target.retiring);
        self.retry_at_us.is_some()
            || retiring().count() >= RETIRING_MAX
            || retiring().any(|target| target.path.as_os_str() == self.key.as_str())
    }

    /// Opens the file that `key` names.
    fn open_next(&mut self, cx: &mut Cx<'_>) -> io::Result<usize> {
        if self.by_path.len() >= FILES_MAX {
            self.retire_oldest(cx);
        }
        let path = PathBuf::from(&self.key);
        let opened = self.opening.open(&path, cx.now.wall_us, cx.refusals)?;
        let rotates = self.rotate != Rotation::default();
        let closed = if rotates { Closed::find(&path)? } else { Closed::default() };
        let at = self.install(path, opened, closed, cx)?;
        self.by_path.insert(self.key.clone(), at);
        Ok(at)
    }

    fn install(
        &mut self,
        path: PathBuf,
        opened: Opened,
        closed: Closed,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        let regular = opened.file.metadata()?.is_file();
        let handle = cx.io.adopt(opened.file.into())?;
        let at = self.targets.iter().position(Option::is_none).unwrap_or(self.targets.len());
        if at == self.targets.len() {
            self.targets.push(None);
        }
        let mut target = Target::new(Start {
            path,
            handle,
            op: OpId { owner: cx.owner, tag: at as u32 * TAGS },
            // A device or a pipe has no offsets.
            shared: self.opening.shared || !regular,
            syncing: if regular { self.syncing } else { Syncing::Never },
            size: opened.size,
            born_us: opened.born_us,
            closed,
        });
        target.used_us = cx.now.mono_us;
        self.targets[at] = Some(target);
        Ok(at)
    }

    /// Gives the file its final name and begins a new one.
    fn rotate(&mut self, at: usize, cx: &mut Cx<'_>) -> Result<(), Hold> {
        self.rotate_keeping(self.rotate.keep, at, cx)
    }

    fn rotate_keeping(
        &mut self,
        keep: Option<u32>,
        at: usize,
        cx: &mut Cx<'_>,
    ) -> Result<(), Hold> {
        let retiring = self.targets.iter().flatten().filter(|target| target.retiring).count();
        if retiring >= RETIRING_MAX || self.retry_at_us.is_some() {
            return Err(Hold::Wait);
        }
        let target = self.target(at);
        let path = target.path.clone();
        let retired = target.closed.retire(&path, keep).map(|to| target.path = to);
        let new = retired.and_then(|()| self.opening.renew(&path, cx.now.wall_us));
        let closed = std::mem::take(&mut self.target(at).closed);
        let installed = new.and_then(|opened| self.install(path.clone(), opened, closed, cx));
        match installed {
            Ok(new_at) => {
                self.retire(at, cx);
                let key = path.to_string_lossy().into_owned();
                self.last = Some((key.clone(), new_at));
                self.by_path.insert(key, new_at);
                Ok(())
            }
            Err(error) => {
                // The next attempt opens the file by its name, whichever of
                // the steps has been done.
                self.retire(at, cx);
                self.trouble(&format!("{}: {error}", path.display()), cx.now.mono_us);
                Err(Hold::Wait)
            }
        }
    }

    /// No more rows for this target.
    fn retire(&mut self, at: usize, cx: &mut Cx<'_>) {
        self.by_path.retain(|_, known| *known != at);
        self.last = self.last.take().filter(|(_, known)| *known != at);
        let target = self.target(at);
        target.retiring = true;
        target.seal();
        target.submit(cx.io, cx.now.mono_us, true);
    }

    fn retire_oldest(&mut self, cx: &mut Cx<'_>) {
        let open = self.by_path.values().copied();
        if let Some(at) = open.min_by_key(|at| self.targets[*at].as_ref().map(|t| t.used_us)) {
            self.retire(at, cx);
        }
    }

    fn trouble(&mut self, what: &str, now_us: u64) {
        if self.retry_at_us.is_some() {
            return;
        }
        let wait_us = self.retry.wait_us();
        self.retry_at_us = Some(now_us + wait_us);
        self.trouble = Some(format!("{what}; trying again in {} ms", wait_us / 1_000));
    }

    /// Rotates by age, closes what is not used.
    fn look_after(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        for at in 0..self.targets.len() {
            let Some(target) = &self.targets[at] else { continue };
            if target.retiring {
                continue;
            }
            let age = now.wall_us.saturating_sub(target.born_us);
            let every = self.rotate.every_us.and_then(|us| i64::try_from(us).ok());
            let content = target.bytes() > self.opening.header.len() as u64;
            if content && every.is_some_and(|every| age >= every) {
                // When it cannot be done now, the next turn tries again.
                let _ = self.rotate(at, cx);
            } else if self.finishing
                || (!self.template.is_constant() && now.mono_us > target.used_us + UNUSED_US)
            {
                self.retire(at, cx);
            }
        }
    }

    fn drive(&mut self, cx: &mut Cx<'_>) {
        let now_us = cx.now.mono_us;
        if self.retry_at_us.is_some_and(|at| now_us < at) {
            return;
        }
        self.retry_at_us = None;
        for slot in &mut self.targets {
            let Some(target) = slot else { continue };
            target.retry();
            target.submit(cx.io, now_us, true);
            target.sync(cx.io, false, now_us);
            if target.retiring && target.close(cx.io, now_us) {
                if let Some(buf) = target.take_filling() {
                    self.room.give_back(buf.bytes);
                }
                *slot = None;
            }
        }
    }
}

impl Sink for FileSink {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        if self.template.is_constant() {
            self.key = self.template.constant();
            let at = self.open_next(cx).map_err(|error| {
                ConnectorError::setup("path", format!("cannot write to '{}': {error}", self.key))
            })?;
            self.last = Some((self.key.clone(), at));
            return Ok(());
        }
        let folder = self.template.folder();
        std::fs::create_dir_all(&folder).and_then(|()| may_write(&folder)).map_err(|error| {
            let folder = folder.display();
            ConnectorError::setup("path", format!("cannot write to folder '{folder}': {error}"))
        })
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        let slot = self.targets.get_mut((tag / TAGS) as usize).and_then(Option::as_mut);
        let Some(target) = slot else { return };
        match target.on_event(tag, event, &mut self.room, cx.now.mono_us) {
            Outcome::Good(bytes) => {
                *cx.bytes += bytes as u64;
                let failing = self.targets.iter().flatten().any(Target::has_failed);
                if !failing && self.retry_at_us.is_none() {
                    self.retry.reset();
                    self.trouble = None;
                }
            }
            Outcome::Failed(error) => {
                let what = format!("{}: {error}", target.path.display());
                self.trouble(&what, cx.now.mono_us);
            }
        }
    }

    fn push(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let free = self.rotate.size_bytes.is_none() && self.template.is_constant();
        if free && self.last.is_some() {
            self.push_all(slab, from, cx)
        } else {
            self.push_each(slab, from, cx)
        }
    }

    fn slab_end(&mut self) {
        self.room.slab_end();
    }

    fn finished(&self) -> u64 {
        self.room.finished(self.targets.iter().flatten().filter_map(Target::oldest).min())
    }

    fn poll(&mut self, cx: &mut Cx<'_>) {
        self.look_after(cx);
        self.drive(cx);
    }

    fn wake_at_us(&self) -> Option<u64> {
        if let Some(at) = self.retry_at_us {
            return Some(at);
        }
        let targets = || self.targets.iter().flatten();
        if targets().any(|target| target.retiring && target.is_idle()) {
            return Some(0);
        }
        let submits = targets().filter_map(Target::submit_at_us);
        submits.chain(targets().filter_map(Target::sync_at_us)).min()
    }

    fn flush(&mut self, last: bool, cx: &mut Cx<'_>) {
        self.finishing |= last;
        self.poll(cx);
    }

    fn set_aside(&mut self, cx: &mut Cx<'_>) -> bool {
        if !self.aside {
            let Some((_, at)) = self.last else { return false };
            let content = self.opening.header.len() as u64;
            if self.target(at).bytes() > content {
                let path = self.target(at).path.clone();
                let Ok(closed) = Closed::find(&path) else { return false };
                self.target(at).closed = closed;
                // Nothing that is asked for by hand goes because of it.
                if self.rotate_keeping(None, at, cx).is_err() {
                    return false;
                }
            }
            self.aside = true;
        }
        self.aside = self.targets.iter().flatten().any(|target| target.retiring);
        !self.aside
    }

    fn is_idle(&self) -> bool {
        self.targets.iter().flatten().all(|target| target.is_idle() && !self.finishing)
    }

    fn health(&self) -> Health {
        self.trouble.clone().map_or(Health::Good, Health::Retrying)
    }
}

/// The name itself cannot be, whenever it is tried.
fn is_about_the_path(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, NotADirectory};
    matches!(error.kind(), InvalidFilename | InvalidInput | IsADirectory | NotADirectory)
}

fn may_write(folder: &FsPath) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { FsPath::new(".") } else { folder };
    let rights = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::access(folder, rights)?)
}
