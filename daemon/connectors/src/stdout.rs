//! The sink that writes to standard output.
//!
//! A full disk behind a redirection is tried again; a reader that went away
//! (`| head`) is not: then the sink has failed, and says so. Bounds: those of
//! [`crate::outflow`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ringmain_config::plan::SinkPlan;
use ringmain_runtime::io::{EventKind, Handle};
use ringmain_slab::{SharedSchema, Slab};

use crate::backoff::Backoff;
use crate::encode::Encoding;
use crate::outflow::Outflow;
use crate::{ConnectorError, Cx, Health, Sink};

pub(crate) struct Stdout {
    out: Outflow,
    handle: Option<Handle>,
    retry: Backoff,
    retry_at_us: Option<u64>,
    health: Health,
    finishing: bool,
}

impl Stdout {
    pub(crate) fn new(plan: &SinkPlan, schema: &SharedSchema) -> Self {
        Self {
            out: Outflow::new(Encoding::new(plan, schema), plan.buffer_bytes, 0),
            handle: None,
            retry: Backoff::local(0),
            retry_at_us: None,
            health: Health::Good,
            finishing: false,
        }
    }

    /// Writes to `fd` in place of the standard output.
    fn start(&mut self, fd: OwnedFd, cx: &mut Cx<'_>) -> io::Result<()> {
        self.handle = Some(cx.io.adopt(fd)?);
        self.out.restart(true);
        Ok(())
    }

    fn failed(&mut self, error: &io::Error, now_us: u64) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.health = Health::Failed("standard output: its reader went away".to_owned());
            self.retry_at_us = Some(u64::MAX);
        } else if self.retry_at_us.is_none() {
            let wait_us = self.retry.wait_us();
            self.retry_at_us = Some(now_us + wait_us);
            let again = wait_us / 1_000;
            let text = format!("standard output: {error}; trying again in {again} ms");
            self.health = Health::Retrying(text);
        }
    }
}

impl Sink for Stdout {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        let fd = io::stdout().as_fd().try_clone_to_owned();
        fd.and_then(|fd| self.start(fd, cx)).map_err(|error| {
            ConnectorError::setup("type", format!("cannot write to standard output: {error}"))
        })
    }

    fn on_event(&mut self, _: u32, event: EventKind, cx: &mut Cx<'_>) {
        let EventKind::Written { buf, written, result } = event else { return };
        let (bytes, result) = self.out.written(buf, written, result, true);
        *cx.bytes += bytes as u64;
        match result {
            Ok(()) if self.retry_at_us.is_none() => {
                self.retry.reset();
                self.health = Health::Good;
            }
            Ok(()) => {}
            Err(error) => self.failed(&error, cx.now.mono_us),
        }
    }

    fn push(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let took = self.out.push(slab, from, cx.refusals);
        if let (Some(handle), None) = (self.handle, self.retry_at_us) {
            self.out.submit(handle, cx.owner, false, cx.io);
        }
        took
    }

    fn slab_end(&mut self) {
        self.out.slab_end();
    }

    fn finished(&self) -> u64 {
        self.out.finished()
    }

    fn poll(&mut self, cx: &mut Cx<'_>) {
        let Some(handle) = self.handle else { return };
        if let Some(at) = self.retry_at_us {
            if cx.now.mono_us < at || self.out.is_writing() {
                return;
            }
            self.retry_at_us = None;
            self.out.restart(false);
        }
        self.out.submit(handle, cx.owner, true, cx.io);
        if self.finishing && self.out.is_empty() {
            cx.io.close(handle);
            self.handle = None;
        }
    }

    fn wake_at_us(&self) -> Option<u64> {
        match self.retry_at_us {
            Some(u64::MAX) => None,
            Some(at) => Some(at),
            None => (!self.out.is_writing() && self.out.has_more()).then_some(0),
        }
    }

    fn flush(&mut self, last: bool, cx: &mut Cx<'_>) {
        self.finishing |= last;
        self.poll(cx);
    }

    fn is_idle(&self) -> bool {
        self.out.is_empty()
    }

    fn health(&self) -> Health {
        self.health.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use ringmain_base::Now;
    use ringmain_config::Spanned;
    use ringmain_config::plan::{EncodePlan, FramePlan, SinkKind, WhenFull};
    use ringmain_runtime::{Driver, Io};
    use ringmain_slab::{Budget, Scratch};

    use super::*;
    use crate::testing::Bench;

    const ROWS: usize = 1_000;

    struct Run {
        sink: Stdout,
        bench: Bench,
        slab: Slab,
    }

    fn run(fd: OwnedFd) -> Run {
        let plan = SinkPlan {
            name: Spanned::new("out".to_owned(), Default::default()),
            inputs: Vec::new(),
            encode: EncodePlan::Json,
            frame: FramePlan::Newline,
            when_full: Spanned::new(WhenFull::Block, Default::default()),
            spill: None,
            buffer_bytes: 128 << 10,
            kind: SinkKind::Stdout,
        };
        let schema = SharedSchema::new();
        schema.intern("n").unwrap();
        let mut slab = Slab::new(64 << 10, &Budget::new(0));
        let mut scratch = Scratch::default();
        for n in 0..ROWS {
            let mut row = slab.build(1, 1, &mut scratch);
            row.set_int(0, n as i64);
            row.finish(0).unwrap();
        }
        let mut sink = Stdout::new(&plan, &schema);
        let mut bench = Bench::new();
        sink.start(fd, &mut bench.cx(Now::default())).unwrap();
        Run { sink, bench, slab }
    }

    impl Run {
        fn turn(&mut self) {
            self.sink.poll(&mut self.bench.cx(Now::default()));
            let mut events = Vec::new();
            self.bench.io.wait(Some(1_000)).unwrap();
            self.bench.io.poll(&mut events, 64);
            for event in events {
                let cx = &mut self.bench.cx(Now::default());
                self.sink.on_event(event.op.tag, event.kind, cx);
            }
        }
    }

    #[test]
    fn a_slow_reader_gets_every_line_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut run = run(writer.into());
        let (mut from, mut slabs) = (0, 0);
        // Nobody reads: the sink takes what its buffers hold, and no more.
        for _ in 0..50 {
            from += run.sink.push(&run.slab, from, &mut run.bench.cx(Now::default()));
            if from == ROWS {
                run.sink.slab_end();
                (from, slabs) = (0, slabs + 1);
            }
            run.turn();
        }
        assert!(run.sink.finished() < slabs);
        assert_eq!(run.sink.push(&run.slab, from, &mut run.bench.cx(Now::default())), 0);
        let thread = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text.lines().count()
        });
        run.sink.flush(true, &mut run.bench.cx(Now::default()));
        while !run.sink.is_idle() || run.sink.handle.is_some() {
            run.turn();
        }
        assert_eq!(run.sink.finished(), slabs);
        assert_eq!(thread.join().unwrap() as u64, slabs * ROWS as u64 + from as u64);
    }

    #[test]
    fn a_reader_that_went_away_is_a_failure_and_not_tried_again() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut run = run(writer.into());
        run.sink.push(&run.slab, 0, &mut run.bench.cx(Now::default()));
        while run.sink.health() == Health::Good {
            run.turn();
        }
        assert!(matches!(run.sink.health(), Health::Failed(_)));
        assert_eq!((run.sink.wake_at_us(), run.sink.finished()), (None, 0));
    }
}
