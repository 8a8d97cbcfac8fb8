//! A sink on a shard, with the queues that lead to it.
//!
//! Credit goes back when a slab's rows are in the sink's buffers, the ack when
//! the sink says that they are accepted: two numbers, two moments. Rows count
//! as gone out at the second, so that a run that was cut off does not claim
//! what the other side never took.

use std::collections::VecDeque;
use std::sync::Arc;

use ringmain_base::{Now, Reason};
use ringmain_connectors::{Cx, Health, Refusals, Sink};
use ringmain_metrics::Cells;
use ringmain_ring::{Downstream, Item, Marker};
use ringmain_runtime::io::{EventKind, Io};
use ringmain_slab::{RowRef, Slab};

use crate::dead_letter::DeadLetters;
use crate::exits::Shed;
use crate::scoped::{Holdings, ScopedIo};
use crate::spill::{self, Spill};

mod estate;
mod spilling;

use spilling::Spilling;

/// Slabs taken per turn, so that a turn stays bounded.
const SLABS_PER_TURN: usize = 16;

struct Input {
    downstream: Downstream<Slab>,
    shed: Shed,
    drained: bool,
    /// Slabs of this input that are finished.
    finished: u64,
    /// What comes by an input of a lower rank comes first.
    rank: u32,
    /// It was another sink's.
    inherited: bool,
}

struct Current {
    input: usize,
    slab: Slab,
    from: usize,
    /// Where the rows begin that the sink took and no unit has yet.
    unit_from: usize,
}

/// What became of a slab that was taken out of a queue, in the order of the
/// sink's slab ends.
enum Pending {
    /// The sink's next finished slab is this input's, and has so many rows
    /// that it did not refuse.
    Pushed { input: usize, rows: u64 },
    /// Discarded to make room: finished as soon as all before it are.
    Shed(usize),
}

/// A sink and its queues.
pub(crate) struct Outlet {
    sink: Box<dyn Sink>,
    pub component: usize,
    pub owner: u32,
    inputs: Vec<Input>,
    next: usize,
    current: Option<Current>,
    pending: VecDeque<Pending>,
    /// Finished slabs of the sink that have been accounted for.
    finished: u64,
    flushed: bool,
    refused: Refused,
    cells: Arc<[Arc<Cells>]>,
    /// Of a sink that spills.
    spilling: Option<Box<Spilling>>,
    /// The flow is told to end: what is stored may stay where it is.
    stopping: bool,
    /// What it has open.
    holdings: Holdings,
    /// It is not part of the flow any more.
    pub leaves: bool,
    /// It has left, and its place is still taken.
    pub left: bool,
    /// Owners' numbers of sinks of the version before that come to their end
    /// first.
    pub after: Vec<u32>,
    /// It cannot be opened before they have.
    pub late: bool,
    /// It goes on with what the one before it does not get rid of.
    pub inherits: bool,
    leave: estate::Leave,
}

/// Rows of the sink that it refused and that are still to be taken off the
/// numbers of those that go out.
#[derive(Default)]
struct Refused {
    /// Of the slab at hand.
    now: u64,
    /// Of slabs that it had taken.
    late: u64,
}

impl Outlet {
    pub(crate) fn new(
        sink: Box<dyn Sink>,
        component: usize,
        owner: u32,
        inputs: Vec<(Downstream<Slab>, Shed)>,
        cells: Arc<[Arc<Cells>]>,
        spill: Option<Spill>,
    ) -> Self {
        let input = |(downstream, shed)| Input {
            downstream,
            shed,
            drained: false,
            finished: 0,
            rank: 0,
            inherited: false,
        };
        Self {
            sink,
            component,
            owner,
            inputs: inputs.into_iter().map(input).collect(),
            next: 0,
            current: None,
            pending: VecDeque::new(),
            finished: 0,
            flushed: false,
            refused: Refused::default(),
            cells,
            spilling: spill.map(|spill| Box::new(Spilling::new(spill))),
            stopping: false,
            holdings: Holdings::default(),
            leaves: false,
            left: false,
            after: Vec::new(),
            late: false,
            inherits: false,
            leave: estate::Leave::default(),
        }
    }

    /// It is another component of its shard from now on.
    pub(crate) fn renumber(&mut self, component: usize, cells: &Arc<[Arc<Cells>]>) {
        self.component = component;
        self.cells = cells.clone();
    }

    /// Closes what it has open.
    pub(crate) fn close(&mut self, io: &mut dyn Io) {
        self.holdings.close(io);
    }

    /// Messages that it was given and nobody has accepted. They are taken off
    /// its queues and counted as dropped.
    pub(crate) fn discard(&mut self) -> u64 {
        let current = self.current.take();
        let partly = current.as_ref().map_or(0, |current| current.from as u64);
        let given = self.pending.drain(..).map(|pending| pending.rows()).sum::<u64>() + partly;
        let mut queued = current.map_or(0, |current| current.slab.len() as u64) - partly;
        for input in &mut self.inputs {
            while let Some(item) = input.downstream.recv() {
                if let Item::Slab { slab, .. } = item {
                    queued += slab.len() as u64;
                }
            }
        }
        let cells = &self.cells[self.component];
        cells.rows_in.add(queued);
        cells.dropped_full.add(given + queued);
        // Nobody is behind these queues any more.
        self.inputs.clear();
        given + queued
    }

    fn scoped<R>(&mut self, io: &mut dyn Io, call: impl FnOnce(&mut Self, &mut dyn Io) -> R) -> R {
        let mut holdings = std::mem::take(&mut self.holdings);
        let result = call(self, &mut ScopedIo { io, holdings: &mut holdings });
        self.holdings = holdings;
        result
    }

    pub(crate) fn open(
        &mut self,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
    ) -> Result<(), ringmain_connectors::ConnectorError> {
        self.scoped(io, |outlet, io| {
            outlet.open_spill(io, dead, now)?;
            outlet.with(io, dead, now, |sink, cx| sink.open(cx))
        })
    }

    pub(crate) fn on_event(
        &mut self,
        tag: u32,
        event: EventKind,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
    ) {
        self.holdings.note(&event);
        self.scoped(io, |outlet, io| match &mut outlet.spilling {
            Some(spilling) if tag >= spill::TAGS => spilling.spill.on_event(tag, event, io, now),
            _ => outlet.with(io, dead, now, |sink, cx| sink.on_event(tag, event, cx)),
        });
    }

    /// The flow is told to end.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Has the sink go on in another file. To be called until it is true: then
    /// the one before is closed.
    pub(crate) fn set_aside(&mut self, io: &mut dyn Io, dead: &mut DeadLetters, now: Now) -> bool {
        if !self.after.is_empty() {
            return false;
        }
        self.scoped(io, |outlet, io| outlet.with(io, dead, now, |sink, cx| sink.set_aside(cx)))
    }

    /// One bounded step; returns how much was done.
    pub(crate) fn turn(&mut self, io: &mut dyn Io, dead: &mut DeadLetters, now: Now) -> usize {
        if !self.after.is_empty() || self.left || self.leave.is_retiring() {
            return 0;
        }
        self.scoped(io, |outlet, io| outlet.step(io, dead, now))
    }

    fn step(&mut self, io: &mut dyn Io, dead: &mut DeadLetters, now: Now) -> usize {
        self.with(io, dead, now, |sink, cx| sink.poll(cx));
        if let Some(mut spilling) = self.spilling.take() {
            let work = self.turn_spilling(&mut spilling, io, dead, now);
            self.spilling = Some(spilling);
            return work;
        }
        self.shed_where_asked();
        let mut work = 0;
        for _ in 0..SLABS_PER_TURN {
            if self.current.is_none() {
                self.current = self.receive();
            }
            let Some(mut current) = self.current.take() else { break };
            let before = current.from;
            self.push(&mut current, io, dead, now);
            // A sink whose buffers are full has done nothing: counting it as
            // work would keep the shard from parking.
            work += usize::from(current.from > before);
            if current.from < current.slab.len() {
                self.current = Some(current);
                break;
            }
            let input = current.input;
            let refused = std::mem::take(&mut self.refused.now);
            let rows = (current.slab.len() as u64).saturating_sub(refused);
            current.slab.clear();
            self.inputs[input].downstream.give_back(current.slab);
            self.sink.slab_end();
            self.pending.push_back(Pending::Pushed { input, rows });
        }
        work + self.account() + self.drain(io, dead, now)
    }

    /// All queues have announced their end, and everything is accepted.
    pub(crate) fn is_done(&self) -> bool {
        match &self.spilling {
            Some(spilling) => self.is_done_spilling(spilling),
            None => self.flushed && self.sink.is_idle() && self.pending.is_empty(),
        }
    }

    /// When it wants a turn though nothing happens.
    pub(crate) fn wake_at_us(&self) -> Option<u64> {
        if !self.after.is_empty() || self.left {
            return None;
        }
        if let Some(at_us) = self.leave.looks_at_us() {
            return self.sink.wake_at_us().map_or(Some(at_us), |own| Some(own.min(at_us)));
        }
        let spilling = self.spilling.as_ref().and_then(|s| s.wake_at_us(self.current.is_some()));
        self.sink.wake_at_us().into_iter().chain(spilling).min()
    }

    pub(crate) fn health(&self) -> Health {
        let health = self.sink.health();
        match &self.spilling {
            Some(spilling) => spilling.health(health),
            None => health,
        }
    }

    /// Queues in which something waits.
    pub(crate) fn waiting(&self) -> usize {
        self.inputs.iter().filter(|input| !input.downstream.is_empty()).count()
    }

    fn receive(&mut self) -> Option<Current> {
        let rank = self.rank_at_hand();
        for _ in 0..self.inputs.len() {
            let at = self.next % self.inputs.len();
            self.next = at + 1;
            let input = &mut self.inputs[at];
            if input.rank > rank {
                continue;
            }
            match input.downstream.recv() {
                Some(Item::Slab { slab, .. }) => {
                    return Some(Current { input: at, slab, from: 0, unit_from: 0 });
                }
                Some(Item::Marker(Marker::Drain)) => input.drained = true,
                // Other markers order control against data elsewhere; a sink
                // has nothing to do at them.
                Some(Item::Marker(_)) | None => {}
            }
        }
        None
    }

    /// Has the sink take rows from where it left off.
    fn push(&mut self, current: &mut Current, io: &mut dyn Io, dead: &mut DeadLetters, now: Now) {
        let from = current.from;
        let slab = &current.slab;
        let took = self.with(io, dead, now, |sink, cx| sink.push(slab, from, cx));
        self.cells[self.component].rows_in.add(took as u64);
        current.from += took;
    }

    fn shed_where_asked(&mut self) {
        for (at, input) in self.inputs.iter_mut().enumerate() {
            if !input.shed.take_shed() {
                continue;
            }
            match input.downstream.recv() {
                Some(Item::Slab { mut slab, .. }) => {
                    let cells = &self.cells[self.component];
                    cells.rows_in.add(slab.len() as u64);
                    cells.dropped_full.add(slab.len() as u64);
                    slab.clear();
                    input.downstream.give_back(slab);
                    self.pending.push_back(Pending::Shed(at));
                }
                Some(Item::Marker(Marker::Drain)) => input.drained = true,
                Some(Item::Marker(_)) | None => {}
            }
        }
    }

    /// Passes what the sink has finished on to the queues it came from.
    fn account(&mut self) -> usize {
        let total = self.sink.finished();
        let mut work = 0;
        while let Some(front) = self.pending.front() {
            let input = match front {
                Pending::Pushed { .. } if self.finished == total => break,
                Pending::Pushed { input, rows } => {
                    self.finished += 1;
                    let late = self.refused.late.min(*rows);
                    self.refused.late -= late;
                    self.cells[self.component].rows_out.add(*rows - late);
                    *input
                }
                Pending::Shed(input) => *input,
            };
            self.pending.pop_front();
            self.inputs[input].finished += 1;
            work += 1;
        }
        if work > 0 {
            for input in &mut self.inputs {
                input.downstream.ack(input.finished);
            }
            self.drop_empty_estate();
        }
        work
    }

    fn drain(&mut self, io: &mut dyn Io, dead: &mut DeadLetters, now: Now) -> usize {
        let ended = self.current.is_none()
            && self.inputs.iter().all(|input| input.drained && input.downstream.is_empty());
        if self.flushed || !ended {
            return 0;
        }
        self.flushed = true;
        self.with(io, dead, now, |sink, cx| sink.flush(true, cx));
        1
    }

    fn with<R>(
        &mut self,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
        call: impl FnOnce(&mut dyn Sink, &mut Cx<'_>) -> R,
    ) -> R {
        let cells = &self.cells[self.component];
        let refused = &mut self.refused;
        let mut refusals = SinkRefusals { cells, dead, refused, component: self.component, now };
        let mut bytes = 0;
        let mut cx = Cx { io, now, owner: self.owner, refusals: &mut refusals, bytes: &mut bytes };
        let result = call(&mut *self.sink, &mut cx);
        if bytes > 0 {
            cells.bytes_out.add(bytes);
        }
        result
    }
}

struct SinkRefusals<'a> {
    cells: &'a Cells,
    dead: &'a mut DeadLetters,
    refused: &'a mut Refused,
    component: usize,
    now: Now,
}

impl Refusals for SinkRefusals<'_> {
    fn bytes(&mut self, reason: Reason, detail: &str, origin: &str, offset: u64, bytes: &[u8]) {
        if reason == Reason::Truncated {
            // A torn frame was found where the sink writes: it is none of the
            // rows that the sink was given.
            self.cells.rows_in.add(1);
        } else {
            self.refused.late += 1;
        }
        self.cells.refuse(reason);
        self.dead.bytes(self.component, bytes, (origin, offset), reason, detail, self.now);
    }

    fn row(&mut self, reason: Reason, detail: &str, row: RowRef<'_>) {
        self.refused.now += 1;
        self.cells.refuse(reason);
        self.dead.row(self.component, row, reason, detail, self.now);
    }
}
