//! A shard without a shard: drives connectors over a real driver, io_uring
//! where it is to be had. `RINGMAIN_TEST_IO=poll` takes the other one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringmain_base::{Clock, Now, Reason, SystemClock};
use ringmain_codec::{EncodeOptions, Encoder, Framing};
use ringmain_config::Spanned;
use ringmain_config::plan::{
    EncodePlan, FramePlan, SinkKind, SinkPlan, SourceKind, SourcePlan, WhenFull,
};
use ringmain_connectors::{
    Claims, ConnectorError, Cx, Health, Placement, Pull, Refusals, Sink, Source,
};
use ringmain_runtime::io::{Event, EventKind, Group, Handle, Io, Lease, OpId};
use ringmain_runtime::{Driver, PollIo, UringIo, Waker};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab};

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub reason: Reason,
    pub detail: String,
    pub origin: String,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

#[derive(Default)]
pub struct Letters(pub Vec<Letter>);

impl Refusals for Letters {
    fn bytes(&mut self, reason: Reason, detail: &str, origin: &str, offset: u64, bytes: &[u8]) {
        let (detail, origin) = (detail.to_owned(), origin.to_owned());
        self.0.push(Letter { reason, detail, origin, offset, bytes: bytes.to_vec() });
    }

    fn row(&mut self, reason: Reason, detail: &str, row: RowRef<'_>) {
        let bytes = format!("{row:?}").into_bytes();
        let letter =
            Letter { reason, detail: detail.to_owned(), origin: String::new(), offset: 0, bytes };
        self.0.push(letter);
    }
}

enum Node {
    Source(Box<dyn Source>),
    Sink(Box<dyn Sink>),
}

pub struct Rig {
    pub io: Faulty,
    pub schema: SharedSchema,
    pub letters: Letters,
    pub bytes: u64,
    pub claims: Claims,
    clock: SystemClock,
    skew_us: u64,
    nodes: Vec<Option<Node>>,
    slab: Slab,
    encoder: Encoder,
}

pub fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Default::default())
}

pub fn source_plan(kind: SourceKind) -> SourcePlan {
    SourcePlan::new(spanned("source".to_owned()), kind)
}

pub fn sink_plan(kind: SinkKind) -> SinkPlan {
    SinkPlan {
        name: spanned("sink".to_owned()),
        inputs: Vec::new(),
        encode: EncodePlan::Json,
        frame: FramePlan::Newline,
        when_full: spanned(WhenFull::Block),
        spill: None,
        buffer_bytes: 1 << 20,
        kind,
    }
}

impl Rig {
    pub fn new() -> Self {
        Self::with_slab(16 << 10)
    }

    pub fn with_slab(slab_bytes: usize) -> Self {
        let schema = SharedSchema::new();
        Self {
            io: Faulty::new(),
            encoder: Encoder::new(EncodeOptions::Json, schema.clone()),
            schema,
            letters: Letters::default(),
            bytes: 0,
            claims: Claims::default(),
            clock: SystemClock::new(),
            skew_us: 0,
            nodes: Vec::new(),
            slab: Slab::new(slab_bytes, &Budget::new(64 << 20)),
        }
    }

    pub fn now(&self) -> Now {
        let now = self.clock.now();
        let skew = i64::try_from(self.skew_us).unwrap();
        Now { mono_us: now.mono_us + self.skew_us, wall_us: now.wall_us + skew }
    }

    /// Lets time pass without waiting for it.
    pub fn skip(&mut self, us: u64) {
        self.skew_us += us;
    }

    pub fn build_source(&self, plan: &SourcePlan, shard: u16, shards: u16) -> Box<dyn Source> {
        let place = Placement::new(shard, shards, &self.claims);
        ringmain_connectors::source(plan, &self.schema, &place).unwrap()
    }

    pub fn add_source(&mut self, mut source: Box<dyn Source>) -> Result<usize, ConnectorError> {
        let owner = self.nodes.len();
        self.with(owner, |cx| source.open(cx))?;
        self.nodes.push(Some(Node::Source(source)));
        Ok(owner)
    }

    pub fn source(&mut self, plan: &SourcePlan) -> usize {
        let source = self.build_source(plan, 0, 1);
        self.add_source(source).unwrap()
    }

    pub fn add_sink(&mut self, mut sink: Box<dyn Sink>) -> Result<usize, ConnectorError> {
        let owner = self.nodes.len();
        self.with(owner, |cx| sink.open(cx))?;
        self.nodes.push(Some(Node::Sink(sink)));
        Ok(owner)
    }

    pub fn try_sink(&mut self, plan: &SinkPlan) -> Result<usize, ConnectorError> {
        let place = Placement::new(0, 1, &self.claims);
        let sink = ringmain_connectors::sink(plan, &self.schema, &place)?;
        self.add_sink(sink)
    }

    pub fn sink(&mut self, plan: &SinkPlan) -> usize {
        self.try_sink(plan).unwrap()
    }

    pub fn with<R>(&mut self, owner: usize, call: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        let now = self.now();
        self.io.begin_turn(now.mono_us);
        call(&mut Cx {
            io: &mut self.io,
            now,
            owner: owner as u32,
            refusals: &mut self.letters,
            bytes: &mut self.bytes,
        })
    }

    /// Hands out what has happened; sleeps a little when nothing has.
    pub fn turn(&mut self) {
        let mut events = Vec::new();
        let now = self.now();
        self.io.begin_turn(now.mono_us);
        self.io.poll(&mut events, 256);
        if events.is_empty() && self.io.in_flight() > 0 {
            self.io.wait(Some(1_000)).unwrap();
            self.io.poll(&mut events, 256);
        }
        for Event { op, kind } in events {
            let owner = op.owner as usize;
            let Some(mut node) = self.nodes[owner].take() else {
                if let EventKind::Received { lease } | EventKind::Datagrams { lease, .. } = kind {
                    self.io.release(lease);
                }
                continue;
            };
            self.with(owner, |cx| match &mut node {
                Node::Source(source) => source.on_event(op.tag, kind, cx),
                Node::Sink(sink) => sink.on_event(op.tag, kind, cx),
            });
            self.nodes[owner] = Some(node);
        }
    }

    /// Operations that have not ended.
    pub fn io_in_flight(&self) -> usize {
        self.io.in_flight()
    }

    /// Waits until no operation is left.
    pub fn quiet(&mut self) {
        self.until("nothing in flight", |rig| rig.io_in_flight() == 0);
    }

    /// Turns until `done` says so.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
            self.turn();
        }
    }

    /// One poll of a source; its rows as JSON.
    pub fn pull(&mut self, owner: usize) -> (Pull, Vec<String>) {
        let Some(Node::Source(mut source)) = self.nodes[owner].take() else { panic!("no source") };
        let mut slab = std::mem::replace(&mut self.slab, Slab::new(1024, &Budget::new(0)));
        slab.clear();
        let pull = self.with(owner, |cx| source.poll(&mut slab, cx));
        let mut rows = Vec::new();
        for row in slab.rows() {
            let mut out = Vec::new();
            self.encoder.encode(row, &mut out).unwrap();
            rows.push(String::from_utf8(out).unwrap());
        }
        self.slab = slab;
        self.nodes[owner] = Some(Node::Source(source));
        (pull, rows)
    }

    /// One poll of a source, and how many rows it made.
    pub fn pull_count(&mut self, owner: usize) -> (Pull, usize) {
        let Some(Node::Source(mut source)) = self.nodes[owner].take() else { panic!("no source") };
        let mut slab = std::mem::replace(&mut self.slab, Slab::new(1024, &Budget::new(0)));
        slab.clear();
        let pull = self.with(owner, |cx| source.poll(&mut slab, cx));
        let rows = slab.len();
        self.slab = slab;
        self.nodes[owner] = Some(Node::Source(source));
        (pull, rows)
    }

    /// Pulls until the source ends.
    pub fn drain(&mut self, owner: usize) -> Vec<String> {
        let mut rows = Vec::new();
        self.until("the end of a source", |rig| {
            let (pull, more) = rig.pull(owner);
            rows.extend(more);
            pull == Pull::Ended
        });
        rows
    }

    /// Pulls until there are `count` rows.
    pub fn take(&mut self, owner: usize, count: usize) -> Vec<String> {
        let mut rows = Vec::new();
        self.until(&format!("{count} rows"), |rig| {
            rows.extend(rig.pull(owner).1);
            rows.len() >= count
        });
        rows
    }

    /// Pulls until there are `count` rows, while a sink goes on.
    pub fn until_rows(&mut self, source: usize, sink: usize, count: usize) -> Vec<String> {
        let mut rows = Vec::new();
        self.until(&format!("{count} rows"), |rig| {
            rig.poll_sink(sink);
            rows.extend(rig.pull(source).1);
            rows.len() >= count
        });
        rows
    }

    /// Pulls for some turns, and expects nothing.
    pub fn nothing_more(&mut self, owner: usize) {
        for _ in 0..5 {
            self.turn();
            assert_eq!(self.pull(owner).1, [] as [String; 0]);
        }
    }

    pub fn position(&self, owner: usize) -> Vec<u8> {
        match &self.nodes[owner] {
            Some(Node::Source(source)) => source.position().unwrap(),
            _ => panic!("no source"),
        }
    }

    pub fn health(&self, owner: usize) -> Health {
        match &self.nodes[owner] {
            Some(Node::Source(source)) => source.health(),
            Some(Node::Sink(sink)) => sink.health(),
            None => panic!("no node"),
        }
    }

    pub fn stop(&mut self, owner: usize) {
        let Some(Node::Source(mut source)) = self.nodes[owner].take() else { panic!("no source") };
        self.with(owner, |cx| source.stop(cx));
        self.nodes[owner] = Some(Node::Source(source));
    }

    fn with_sink<R>(
        &mut self,
        owner: usize,
        call: impl FnOnce(&mut dyn Sink, &mut Cx<'_>) -> R,
    ) -> R {
        let Some(Node::Sink(mut sink)) = self.nodes[owner].take() else { panic!("no sink") };
        let result = self.with(owner, |cx| call(&mut *sink, cx));
        self.nodes[owner] = Some(Node::Sink(sink));
        result
    }

    pub fn push(&mut self, owner: usize, slab: &Slab, from: usize) -> usize {
        self.with_sink(owner, |sink, cx| sink.push(slab, from, cx))
    }

    pub fn slab_end(&mut self, owner: usize) {
        self.with_sink(owner, |sink, _| sink.slab_end());
    }

    pub fn poll_sink(&mut self, owner: usize) {
        self.with_sink(owner, |sink, cx| sink.poll(cx));
    }

    pub fn finished(&mut self, owner: usize) -> u64 {
        self.with_sink(owner, |sink, _| sink.finished())
    }

    pub fn is_idle(&mut self, owner: usize) -> bool {
        self.with_sink(owner, |sink, _| sink.is_idle())
    }

    /// Pushes all of a slab, with as many turns as it takes.
    pub fn push_all(&mut self, owner: usize, slab: &Slab) {
        let mut from = 0;
        self.until("room in a sink", |rig| {
            rig.poll_sink(owner);
            from += rig.push(owner, slab, from);
            from == slab.len()
        });
        self.slab_end(owner);
    }

    /// Everything out and closed.
    pub fn finish(&mut self, owner: usize) {
        self.with_sink(owner, |sink, cx| sink.flush(true, cx));
        self.until("the end of a sink", |rig| {
            rig.poll_sink(owner);
            rig.is_idle(owner)
        });
    }

    /// A slab of rows `{"n": ...}`, numbered from `first`, with a text of
    /// `pad` bytes when that is not 0.
    pub fn numbers(&self, first: i64, count: usize, pad: usize) -> Slab {
        let slot = self.schema.intern("n").unwrap();
        let text = self.schema.intern("pad").unwrap();
        let mut slab = Slab::new(count * (pad + 160) + 4_096, &Budget::new(0));
        let mut scratch = Scratch::default();
        for number in (first..).take(count) {
            let mut row = slab.build(text + 1, text + 1, &mut scratch);
            row.set_int(slot, number);
            if pad > 0 {
                row.set(text, Scalar::Str(&"x".repeat(pad)));
            }
            row.finish(0).unwrap();
        }
        slab
    }

    /// The lines that [`Rig::numbers`] becomes.
    pub fn lines(&self, slab: &Slab) -> String {
        let mut encoder = Encoder::new(EncodeOptions::Json, self.schema.clone());
        let mut out = Vec::new();
        encoder.encode_slab(slab, 0, &mut out, usize::MAX, Framing::Newline, &mut |at, error| {
            panic!("row {at}: {error}")
        });
        String::from_utf8(out).unwrap()
    }
}

/// Numbered lines `{"n":N}`.
pub fn number_lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// The numbers of rows `{"n":N}`.
pub fn numbers_of(rows: &[String]) -> Vec<u64> {
    let number = |row: &String| row.strip_prefix("{\"n\":")?.strip_suffix('}')?.parse().ok();
    rows.iter().map(|row| number(row).unwrap_or_else(|| panic!("{row}"))).collect()
}

/// A driver whose writes can be made to fail half way.
pub struct Faulty {
    inner: Box<dyn Driver>,
    /// The error of writes, while it is set.
    pub fault: Rc<Cell<Option<i32>>>,
    cut: RefCell<HashMap<OpId, (Vec<u8>, i32)>>,
}

impl Faulty {
    fn new() -> Self {
        let poll = std::env::var_os("RINGMAIN_TEST_IO").is_some_and(|name| name == "poll");
        let uring = if poll { None } else { UringIo::new(Waker::new().unwrap()).ok() };
        let inner: Box<dyn Driver> = match uring {
            Some(uring) => Box::new(uring),
            None => Box::new(PollIo::new(Waker::new().unwrap())),
        };
        Self { inner, fault: Rc::new(Cell::new(None)), cut: RefCell::default() }
    }
}

impl Driver for Faulty {
    fn begin_turn(&mut self, mono_us: u64) {
        self.inner.begin_turn(mono_us);
    }

    fn wait(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        self.inner.wait(timeout_us)
    }

    fn name(&self) -> &'static str {
        "faulty"
    }
}

impl Io for Faulty {
    fn group(&mut self, count: u16, bytes: u32) -> io::Result<Group> {
        self.inner.group(count, bytes)
    }
    fn drop_group(&mut self, group: Group) {
        self.inner.drop_group(group);
    }
    fn bytes(&self, lease: &Lease) -> &[u8] {
        self.inner.bytes(lease)
    }
    fn release(&mut self, lease: Lease) {
        self.inner.release(lease);
    }
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Handle> {
        self.inner.adopt(fd)
    }
    fn descriptor(&self, handle: Handle) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor(handle)
    }
    fn patient(&mut self, handle: Handle) {
        self.inner.patient(handle);
    }
    fn close(&mut self, handle: Handle) {
        self.inner.close(handle);
    }
    fn accept(&mut self, listener: Handle, op: OpId) {
        self.inner.accept(listener, op);
    }
    fn connect(&mut self, addr: SocketAddr, op: OpId) {
        self.inner.connect(addr, op);
    }
    fn connect_unix(&mut self, path: &Path, op: OpId) {
        self.inner.connect_unix(path, op);
    }
    fn receive(&mut self, handle: Handle, group: Group, op: OpId) {
        self.inner.receive(handle, group, op);
    }
    fn receive_datagrams(&mut self, handle: Handle, group: Group, op: OpId) {
        self.inner.receive_datagrams(handle, group, op);
    }
    fn read(&mut self, handle: Handle, group: Group, offset: u64, op: OpId) {
        self.inner.read(handle, group, offset, op);
    }
    fn write(&mut self, handle: Handle, mut buf: Vec<u8>, offset: Option<u64>, op: OpId) {
        if let Some(error) = self.fault.get() {
            let rest = buf.split_off(buf.len() / 2);
            self.cut.borrow_mut().insert(op, (rest, error));
        }
        self.inner.write(handle, buf, offset, op);
    }
    fn send_datagrams(&mut self, handle: Handle, buf: Vec<u8>, ends: Vec<u32>, op: OpId) {
        self.inner.send_datagrams(handle, buf, ends, op);
    }
    fn sync(&mut self, handle: Handle, op: OpId) {
        self.inner.sync(handle, op);
    }
    fn timer(&mut self, after_us: u64, op: OpId) {
        self.inner.timer(after_us, op);
    }
    fn cancel(&mut self, op: OpId) {
        self.inner.cancel(op);
    }
    fn poll(&mut self, events: &mut Vec<Event>, max: usize) {
        let before = events.len();
        self.inner.poll(events, max);
        for event in &mut events[before..] {
            let EventKind::Written { buf, result, .. } = &mut event.kind else { continue };
            if let Some((rest, error)) = self.cut.borrow_mut().remove(&event.op) {
                buf.extend(rest);
                *result = Err(io::Error::from_raw_os_error(error));
            }
        }
    }
    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}
