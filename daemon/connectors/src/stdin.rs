//! Standard input: a pipe or a terminal is received from, a file that was
//! redirected is read ahead.
//!
//! Only the first of several twins reads; the others end at once. Bounds:
//! those of [`crate::streams`], or [`BUFFERS`] buffers of a file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ringmain_codec::Framer;
use ringmain_config::plan::SourcePlan;
use ringmain_runtime::io::{EventKind, Group, Peer};
use ringmain_slab::{SharedSchema, Slab};
use rustix::fs::{FileType, fstat, seek};

use crate::decode::{Decoding, Origin};
use crate::reader::{Front, Lane, Reader};
use crate::streams::Streams;
use crate::{ConnectorError, Cx, Health, Placement, Pull, Source};

pub(crate) const BUFFERS: u16 = 4;
pub(crate) const BUFFER_BYTES: u32 = 128 << 10;
/// In its place on the command line.
const NAME: &str = "stdin";

pub(crate) struct Stdin {
    input: Input,
    trouble: Option<String>,
    stopped: bool,
}

enum Input {
    /// Not open yet.
    Closed(Box<Decoding>),
    Stream(Box<Streams>),
    File(Box<Redirected>),
    /// There is nothing more, or another shard reads.
    Ended,
}

struct Redirected {
    decoding: Decoding,
    framer: Framer,
    reader: Reader,
    group: Group,
    ended: bool,
}

impl Stdin {
    pub(crate) fn new(plan: &SourcePlan, schema: &SharedSchema, place: &Placement) -> Self {
        let input = if place.shard == 0 {
            Input::Closed(Box::new(Decoding::new(plan, schema)))
        } else {
            Input::Ended
        };
        Self { input, trouble: None, stopped: false }
    }

    /// Reads from `fd` in place of the standard input.
    fn start(&mut self, fd: OwnedFd, cx: &mut Cx<'_>) -> io::Result<()> {
        let Input::Closed(decoding) = std::mem::replace(&mut self.input, Input::Ended) else {
            return Ok(());
        };
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let mut streams = Streams::new(*decoding, 0);
            streams.open("type", cx.io).map_err(|error| io::Error::other(error.message))?;
            let handle = cx.io.adopt(fd)?;
            streams.add(handle, Peer::Local, cx);
            self.input = Input::Stream(Box::new(streams));
            return Ok(());
        }
        let at = seek(&fd, rustix::fs::SeekFrom::Current(0))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let group = cx.io.group(BUFFERS, BUFFER_BYTES)?;
        let lane = Lane {
            group,
            buffer_bytes: BUFFER_BYTES,
            ahead: usize::from(BUFFERS),
            owner: cx.owner,
            tags: 0,
        };
        let reader = Reader::new(cx.io.adopt(fd)?, lane, at, size);
        let framer = decoding.stream();
        let decoding = *decoding;
        let redirected = Redirected { decoding, framer, reader, group, ended: false };
        self.input = Input::File(Box::new(redirected));
        Ok(())
    }
}

impl Redirected {
    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>, stopped: bool) -> io::Result<Pull> {
        let name = || NAME.to_owned();
        loop {
            let ts = cx.now.wall_us;
            if self.ended {
                let origin = Origin { name: &name, refusals: cx.refusals };
                let fed = self.decoding.finish(&mut self.framer, slab, ts, origin);
                return Ok(if fed.full { Pull::More } else { Pull::Ended });
            }
            if !stopped {
                self.reader.ask(cx.io);
                if self.reader.position() >= self.reader.size() {
                    self.reader.probe(cx.io);
                }
            }
            let busy = self.reader.is_busy();
            match self.reader.front(cx.io) {
                Front::Bytes(lease, from) => {
                    let bytes = &cx.io.bytes(lease)[from..];
                    let origin = Origin { name: &name, refusals: cx.refusals };
                    let fed = self.decoding.feed(&mut self.framer, bytes, slab, ts, origin);
                    self.reader.consume(fed.consumed, cx.io);
                    if fed.full {
                        return Ok(Pull::More);
                    }
                }
                Front::End => self.ended = true,
                Front::Failed(error) => return Err(error),
                Front::Wait if stopped && !busy => return Ok(Pull::Ended),
                Front::Wait => return Ok(Pull::Idle),
            }
        }
    }
}

impl Source for Stdin {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        let fd = io::stdin().as_fd().try_clone_to_owned();
        fd.and_then(|fd| self.start(fd, cx)).map_err(|error| {
            ConnectorError::setup("type", format!("cannot read standard input: {error}"))
        })
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        match &mut self.input {
            Input::Stream(streams) => streams.on_event(tag, event, cx),
            Input::File(file) => *cx.bytes += file.reader.on_event(tag, event, cx.io),
            Input::Closed(_) | Input::Ended => {
                if let EventKind::Received { lease } = event {
                    cx.io.release(lease);
                }
            }
        }
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        match &mut self.input {
            Input::Closed(_) => Pull::Idle,
            Input::Ended => Pull::Ended,
            Input::Stream(streams) => match streams.poll(slab, cx) {
                Pull::Idle if streams.len() == 0 => {
                    streams.close(cx);
                    self.input = Input::Ended;
                    Pull::Ended
                }
                pull => pull,
            },
            Input::File(file) => match file.poll(slab, cx, self.stopped) {
                Ok(Pull::Ended) => {
                    file.reader.close(cx.io);
                    cx.io.drop_group(file.group);
                    self.input = Input::Ended;
                    Pull::Ended
                }
                Ok(pull) => pull,
                Err(error) => {
                    self.trouble = Some(format!("standard input: {error}"));
                    file.ended = true;
                    Pull::More
                }
            },
        }
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.stopped = true;
        if let Input::Stream(streams) = &mut self.input {
            streams.stop(cx);
        }
    }

    fn health(&self) -> Health {
        self.trouble.clone().map_or(Health::Good, Health::Failed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use ringmain_base::Now;
    use ringmain_config::Spanned;
    use ringmain_config::plan::SourceKind;
    use ringmain_runtime::{Driver, Io};
    use ringmain_slab::Budget;

    use super::*;
    use crate::testing::Bench;

    fn rows_of(fd: OwnedFd) -> usize {
        let name = Spanned::new("in".to_owned(), Default::default());
        let plan = SourcePlan::new(name, SourceKind::Stdin);
        let mut source = Stdin::new(&plan, &SharedSchema::new(), &Placement::alone());
        let mut bench = Bench::new();
        let mut slab = Slab::new(8 << 10, &Budget::new(0));
        source.start(fd, &mut bench.cx(Now::default())).unwrap();
        let mut rows = 0;
        loop {
            slab.clear();
            let pull = source.poll(&mut slab, &mut bench.cx(Now::default()));
            rows += slab.len();
            match pull {
                Pull::Ended => break,
                Pull::More => {}
                Pull::Idle => {
                    bench.io.wait(Some(1_000)).unwrap();
                    let mut events = Vec::new();
                    bench.io.poll(&mut events, 64);
                    for event in events {
                        source.on_event(event.op.tag, event.kind, &mut bench.cx(Now::default()));
                    }
                }
            }
        }
        assert_eq!(bench.refused, []);
        rows
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            for n in 0..20_000 {
                writeln!(writer, "{{\"n\":{n}}}").unwrap();
            }
            write!(writer, "{{\"n\":-1}}").unwrap();
        });
        assert_eq!(rows_of(reader.into()), 20_001);
        thread.join().unwrap();
    }

    #[test]
    fn a_redirected_file_is_read_from_where_it_stands() {
        let mut file = tempfile::tempfile().unwrap();
        write!(file, "{}", "{\"n\":1}\n".repeat(60_000)).unwrap();
        file.seek(SeekFrom::Start(8 * 10)).unwrap();
        assert_eq!(rows_of(file.into()), 59_990);
    }
}
