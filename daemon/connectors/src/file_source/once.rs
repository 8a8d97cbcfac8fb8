//! `mode = "read"`: every file that matches, one after the other, to its end.
//!
//! Twins on other shards take every n-th file of the sorted list. Bounds: one
//! file is open (and one that is being closed); [`BUFFERS`] buffers of
//! [`BUFFER_BYTES`] are read ahead; one partial frame is carried.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use ringmain_codec::Framer;
use ringmain_config::plan::{FileSource, SourcePlan};
use ringmain_runtime::io::{EventKind, Group};
use ringmain_slab::{SharedSchema, Slab};

use super::found::{self, Opened};
use super::position::{self, Mark};
use super::resume_at;
use crate::backoff::Backoff;
use crate::decode::{Decoding, Origin};
use crate::reader::{Front, Lane, Reader, TAGS};
use crate::{ConnectorError, Cx, Health, Placement, Pull, Source};

/// As fast as 256 KiB, and half the memory; 64 KiB is no faster.
pub(super) const BUFFER_BYTES: u32 = 128 << 10;
pub(super) const BUFFERS: u16 = 4;

pub(crate) struct Once {
    plan: FileSource,
    decoding: Decoding,
    place: Placement,
    group: Option<Group>,
    left: VecDeque<PathBuf>,
    current: Option<Current>,
    /// The file before, while its last events are on their way.
    closing: Option<Reader>,
    done: Vec<Mark>,
    restored: Vec<Mark>,
    retry: Backoff,
    retry_at_us: Option<u64>,
    trouble: Option<String>,
    lane: u32,
    stopped: bool,
}

struct Current {
    mark: Mark,
    reader: Reader,
    framer: Framer,
    ended: bool,
}

/// What a step came to.
enum Step {
    Again,
    Full,
    Wait,
    Ended,
}

impl Once {
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
            left: VecDeque::new(),
            current: None,
            closing: None,
            done: Vec::new(),
            restored: Vec::new(),
            retry: Backoff::local(u64::from(place.shard)),
            retry_at_us: None,
            trouble: None,
            lane: 0,
            stopped: false,
        }
    }

    fn step(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Step {
        if self.current.is_none() {
            return self.next(cx);
        }
        let Some(current) = &mut self.current else { return Step::Ended };
        if current.ended {
            return self.end_file(slab, cx);
        }
        if !self.stopped {
            current.reader.ask(cx.io);
            if current.reader.position() >= current.reader.size() {
                current.reader.probe(cx.io);
            }
        }
        let busy = current.reader.is_busy();
        match current.reader.front(cx.io) {
            Front::Bytes(lease, from) => {
                let name = || current.mark.path.display().to_string();
                let origin = Origin { name: &name, refusals: cx.refusals };
                let bytes = &cx.io.bytes(lease)[from..];
                let ts = cx.now.wall_us;
                let fed = self.decoding.feed(&mut current.framer, bytes, slab, ts, origin);
                current.reader.consume(fed.consumed, cx.io);
                if fed.full { Step::Full } else { Step::Again }
            }
            Front::End => {
                current.ended = true;
                Step::Again
            }
            Front::Failed(error) => {
                let why = format!("{}: {error}", current.mark.path.display());
                self.wait(&why, cx.now.mono_us)
            }
            Front::Wait if self.stopped && !busy => Step::Ended,
            Front::Wait => Step::Wait,
        }
    }

    /// Opens the next file.
    fn next(&mut self, cx: &mut Cx<'_>) -> Step {
        if self.closing.as_ref().is_some_and(|reader| !reader.is_quiet()) {
            return Step::Wait;
        }
        self.closing = None;
        let (Some(path), false) = (self.left.front().cloned(), self.stopped) else {
            return Step::Ended;
        };
        match found::open(&path).and_then(|file| self.start(path.clone(), file, cx)) {
            Ok(current) => {
                self.current = Some(current);
                self.retry.reset();
                self.trouble = None;
            }
            // It was there when the list was made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.trouble = Some(format!("{}: {error}; left out", path.display()));
            }
            Err(error) => {
                return self.wait(&format!("{}: {error}", path.display()), cx.now.mono_us);
            }
        }
        self.left.pop_front();
        Step::Again
    }

    fn start(&mut self, path: PathBuf, file: Opened, cx: &mut Cx<'_>) -> io::Result<Current> {
        let offset = resume_at(&self.restored, &path, &file);
        let framer = self.decoding.resume(offset, || file.head());
        let mark = Mark { id: file.stat.id, print: file.print, offset, path };
        self.restored.retain(|known| known.path != mark.path);
        let group = self.group.expect("open made the group before anything is polled");
        self.lane = (self.lane + 1) % 2;
        let lane = Lane {
            group,
            buffer_bytes: BUFFER_BYTES,
            ahead: usize::from(BUFFERS),
            owner: cx.owner,
            tags: self.lane * TAGS,
        };
        let handle = cx.io.adopt(file.fd)?;
        let reader = Reader::new(handle, lane, offset, file.stat.size);
        Ok(Current { mark, reader, framer, ended: false })
    }

    /// The last line need not end with a line feed.
    fn end_file(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Step {
        let Some(mut current) = self.current.take() else { return Step::Ended };
        let name = || current.mark.path.display().to_string();
        let origin = Origin { name: &name, refusals: cx.refusals };
        let fed = self.decoding.finish(&mut current.framer, slab, cx.now.wall_us, origin);
        if fed.full {
            self.current = Some(current);
            return Step::Full;
        }
        current.mark.offset = current.framer.offset();
        self.done.push(current.mark);
        current.reader.close(cx.io);
        self.closing = Some(current.reader);
        Step::Again
    }

    fn wait(&mut self, why: &str, now_us: u64) -> Step {
        let wait_us = self.retry.wait_us();
        self.retry_at_us = Some(now_us + wait_us);
        self.trouble = Some(format!("{why}; trying again in {} ms", wait_us / 1_000));
        Step::Wait
    }

    fn check_readable(&self) -> Result<(), ConnectorError> {
        for path in &self.left {
            rustix::fs::access(path, rustix::fs::Access::READ_OK)
                .map_err(|error| super::io_error(path, &error.into()))?;
        }
        Ok(())
    }
}

impl Source for Once {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        let found = found::find_each(&self.plan.paths)?;
        let own = (0_u64..).zip(found).filter(|(at, _)| self.place.owns(*at));
        self.left = own.map(|(_, path)| path).collect();
        self.check_readable()?;
        self.restored.retain(|mark| self.left.contains(&mark.path));
        let group = cx.io.group(BUFFERS, BUFFER_BYTES);
        self.group = Some(group.map_err(|error| super::no_memory(&error))?);
        Ok(())
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        let current = self.current.as_mut().map(|current| &mut current.reader);
        let mut readers = current.into_iter().chain(&mut self.closing);
        if let Some(reader) = readers.find(|reader| reader.owns(tag)) {
            *cx.bytes += reader.on_event(tag, event, cx.io);
        } else if let EventKind::Received { lease } = event {
            cx.io.release(lease);
        }
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        if self.retry_at_us.is_some_and(|at| cx.now.mono_us < at) && !self.stopped {
            return Pull::Idle;
        }
        self.retry_at_us = None;
        loop {
            match self.step(slab, cx) {
                Step::Again => {}
                Step::Full => return Pull::More,
                Step::Wait => return Pull::Idle,
                Step::Ended => return self.end(cx),
            }
        }
    }

    fn wake_at_us(&self) -> Option<u64> {
        self.retry_at_us
    }

    fn position(&self) -> Option<Vec<u8>> {
        let current = self.current.as_ref().map(|current| {
            let offset = current.framer.offset();
            Mark { offset, ..current.mark.clone() }
        });
        Some(position::encode(self.done.iter().chain(&current).chain(&self.restored)))
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

impl Once {
    /// Gives back what the machine lent.
    fn end(&mut self, cx: &mut Cx<'_>) -> Pull {
        if let Some(current) = &mut self.current {
            current.reader.close(cx.io);
        }
        if let Some(group) = self.group.take() {
            cx.io.drop_group(group);
        }
        Pull::Ended
    }
}
