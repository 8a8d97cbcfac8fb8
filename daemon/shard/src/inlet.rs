//! Where batches come into a shard's chain: its own sources, queues from the
//! exchanges of other shards, and the ways back of cycles.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringmain_base::{Now, Reason};
use ringmain_connectors::{Cx, Pull, Refusals, Source};
use ringmain_metrics::Cells;
use ringmain_ops::chain::Target;
use ringmain_ring::Downstream;
use ringmain_runtime::io::Io;
use ringmain_slab::{RowRef, Slab};

use crate::dead_letter::DeadLetters;
use crate::exchange::Exchange;
use crate::scoped::{Holdings, ScopedIo};

/// How often it is timed how long a source takes to give out a batch, in
/// microseconds.
const TIME_EVERY_US: u64 = 20_000;

/// How often the position of a source is taken, in microseconds.
const POSITION_EVERY_US: u64 = 200_000;

/// The last position of a source of which everything before has been accepted,
/// in the source's own format. Written by the shard, stored by the controller.
#[derive(Clone, Debug, Default)]
pub struct PositionSlot(Arc<Mutex<Option<Vec<u8>>>>);

impl PositionSlot {
    /// Takes the position, if there is a new one.
    #[must_use]
    pub fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, position: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }
}

/// Positions of one source on their way to being acknowledged. One at a time:
/// the next is taken when the last has been accepted, so nothing piles up.
pub(crate) struct Positions {
    slot: PositionSlot,
    waiting: Option<(u64, Vec<u8>)>,
    stored: u64,
    next_us: u64,
}

impl Positions {
    pub(crate) fn new(slot: PositionSlot) -> Self {
        Self { slot, waiting: None, stored: 0, next_us: 0 }
    }

    /// The source has given out batch `number`, and all before.
    fn offer(&mut self, number: u64, source: &dyn Source, now: Now, last: bool) {
        let due = last || now.mono_us >= self.next_us;
        if self.waiting.is_none() && number > self.stored && due {
            self.waiting = source.position().map(|position| (number, position));
            self.next_us = now.mono_us + POSITION_EVERY_US;
        }
    }

    /// Everything up to `accepted` has been accepted.
    fn accept(&mut self, accepted: u64) {
        if let Some((number, position)) = self.waiting.take_if(|(number, _)| *number <= accepted) {
            self.stored = number;
            self.slot.put(position);
        }
    }
}

/// How far a source has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It may give more.
    Running,
    /// It has given everything; some of it may still be here.
    Ended,
    /// Everything has left, and whoever must know has been told.
    Drained,
}

/// A source on this shard.
pub(crate) struct SourceInlet {
    pub source: Box<dyn Source>,
    pub component: usize,
    pub owner: u32,
    pub id: u16,
    /// The operators before the exchange.
    pub front: Vec<usize>,
    pub targets: Vec<Target>,
    pub needs: Vec<usize>,
    pub exchange: Option<Exchange>,
    pub positions: Option<Positions>,
    /// Where its positions go, in a flow that keeps no state.
    pub slot: Option<PositionSlot>,
    /// What it has open.
    pub holdings: Holdings,
    pub stage: Stage,
    /// Number of the last batch.
    pub number: u64,
    /// The batch under way. Holds rows between turns only while they wait for
    /// room on the way to another shard.
    pub work: Slab,
    pub stuck: bool,
    /// Rows that wait have passed the front of the version before, only.
    pub refront: bool,
    /// The last batch of which the source was told that it is accepted;
    /// `None` for a source that does not ask.
    pub told: Option<u64>,
    /// When a pull is timed again, on the monotonic clock.
    pub timed_us: u64,
}

impl SourceInlet {
    /// Fills the working slab. Returns what the source said and how many rows
    /// came.
    pub(crate) fn pull(
        &mut self,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        cells: &Cells,
        now: Now,
    ) -> (Pull, usize) {
        debug_assert!(self.work.is_empty());
        let refused = cells.dead_total();
        let since = (now.mono_us >= self.timed_us).then(Instant::now);
        let pull = self.with(io, dead, cells, now, |source, work, cx| source.poll(work, cx));
        let rows = self.work.len();
        if let Some(since) = since.filter(|_| rows > 0) {
            self.timed_us = now.mono_us + TIME_EVERY_US;
            time(cells, since.elapsed());
        }
        // What was refused is accepted when its dead letter is stored, which
        // the number of this batch tells, too.
        let is_batch = rows > 0 || cells.dead_total() != refused;
        self.number += u64::from(is_batch);
        if self.told.is_some() {
            self.with(io, dead, cells, now, |source, _, cx| source.polled(is_batch, cx));
        }
        if rows > 0 {
            cells.rows_in.add(rows as u64);
            cells.rows_out.add(rows as u64);
        }
        if pull == Pull::Ended && self.stage == Stage::Running {
            self.stage = Stage::Ended;
        }
        (pull, rows)
    }

    /// Calls the source with everything it may use.
    pub(crate) fn with<R>(
        &mut self,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        cells: &Cells,
        now: Now,
        call: impl FnOnce(&mut dyn Source, &mut Slab, &mut Cx<'_>) -> R,
    ) -> R {
        let mut refusals = SourceRefusals { cells, dead, component: self.component, now };
        let mut bytes = 0;
        let io = &mut ScopedIo { io, holdings: &mut self.holdings };
        let mut cx = Cx { io, now, owner: self.owner, refusals: &mut refusals, bytes: &mut bytes };
        let result = call(&mut *self.source, &mut self.work, &mut cx);
        if bytes > 0 {
            cells.bytes_in.add(bytes);
        }
        result
    }

    /// Takes and passes on positions; `accepted` is the last batch of which
    /// everything was accepted.
    pub(crate) fn account(&mut self, accepted: u64, now: Now) {
        let last = self.stage != Stage::Running;
        if let Some(positions) = &mut self.positions {
            positions.accept(accepted);
            if !self.stuck {
                positions.offer(self.number, &*self.source, now, last);
                positions.accept(accepted);
            }
        }
    }

    /// Its last position has been passed on, if it has positions, and it knows
    /// that everything was accepted, if it asks.
    pub(crate) fn is_settled(&self) -> bool {
        if self.told.is_some_and(|told| told != self.number) || !self.source.is_idle() {
            return false;
        }
        self.positions.as_ref().is_none_or(|p| p.stored == self.number)
            || self.source.position().is_none()
    }

    /// The highest batch that may count as accepted as far as this inlet
    /// knows: rows that wait here are not.
    pub(crate) fn upto(&self) -> u64 {
        self.number - u64::from(self.stuck)
    }
}

/// A queue from the exchange of another shard. What comes in is treated like a
/// source of its own, and its position goes back as the ack.
pub(crate) struct RemoteInlet {
    /// The source on the other shard.
    pub source: usize,
    pub downstream: Downstream<Slab>,
    pub id: u16,
    pub targets: Vec<Target>,
    pub needs: Vec<usize>,
    pub ended: bool,
    /// A barrier has come; what is behind it waits until all have.
    pub barred: bool,
    /// The source's front, and what is behind it: for rows that have passed the
    /// front of an earlier version. What passes twice is what passes.
    pub whole: Vec<Target>,
    /// What comes now was sent by an earlier version.
    pub behind: bool,
    /// What comes now was sent by a later version; it waits for it here.
    pub ahead: bool,
}

/// The way back of a cycle: a source without acks.
pub(crate) struct LoopInlet {
    pub downstream: Downstream<Slab>,
    /// The exit at the other end.
    pub exit: usize,
    pub id: u16,
    pub targets: Vec<Target>,
    pub needs: Vec<usize>,
}

/// Smooths over the last dozen.
fn time(cells: &Cells, took: Duration) {
    let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
    let before_ns = cells.pull_ns.get();
    let mean_ns = if before_ns == 0 { took_ns } else { before_ns - before_ns / 8 + took_ns / 8 };
    cells.pull_ns.set(mean_ns.max(1));
}

struct SourceRefusals<'a> {
    cells: &'a Cells,
    dead: &'a mut DeadLetters,
    component: usize,
    now: Now,
}

impl Refusals for SourceRefusals<'_> {
    fn bytes(&mut self, reason: Reason, detail: &str, origin: &str, offset: u64, bytes: &[u8]) {
        self.cells.rows_in.add(1);
        self.cells.refuse(reason);
        self.dead.bytes(self.component, bytes, (origin, offset), reason, detail, self.now);
    }

    fn row(&mut self, reason: Reason, detail: &str, row: RowRef<'_>) {
        self.cells.rows_in.add(1);
        self.cells.refuse(reason);
        self.dead.row(self.component, row, reason, detail, self.now);
    }
}
