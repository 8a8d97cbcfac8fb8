//! Where rows leave a shard's chain: one queue per sink, one per way back of a
//! cycle, and what happens when a queue is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringmain_base::{Now, Reason};
use ringmain_config::WhenFull;
use ringmain_metrics::Cells;
use ringmain_ops::chain::Outside;
use ringmain_ring::{Marker, Span, Upstream};
use ringmain_slab::{RowRef, Slab};

use crate::dead_letter::DeadLetters;
use crate::tap::Taps;

/// What both ends of a queue tell each other beside it.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Set by a producer without credit to ask the consumer to discard its
    /// oldest slab (`drop_oldest`): only the consumer can take something out of
    /// a ring.
    shed: AtomicBool,
    /// The consumer that this queue was made for is gone, and its successor
    /// empties it.
    handed_over: AtomicBool,
}

impl Signals {
    pub(crate) fn ask_to_shed(&self) {
        self.shed.store(true, Ordering::Release);
    }

    /// Whether that was asked, once.
    pub(crate) fn take_shed(&self) -> bool {
        self.shed.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }
}

pub(crate) type Shed = Arc<Signals>;

/// One exit.
pub(crate) struct Exit {
    pub upstream: Upstream<Slab>,
    pub when_full: WhenFull,
    pub shed: Shed,
    /// The component behind it.
    pub component: usize,
    /// The end of the flow has been announced.
    pub drained: bool,
}

impl Exit {
    /// Whether `count` slabs can be delivered now, without dropping anything
    /// that the policy does not allow to be dropped. Drives the meter.
    fn admits(&mut self, count: usize, now: Now) -> bool {
        if count == 0 || self.upstream.credit() >= count {
            return true;
        }
        self.note_starved(now);
        match self.when_full {
            WhenFull::DropNewest => true,
            WhenFull::DropOldest => {
                self.shed.ask_to_shed();
                false
            }
            WhenFull::Block | WhenFull::Spill => false,
        }
    }

    /// Takes all credit and gives it back, so that the meter sees the lack.
    fn note_starved(&mut self, now: Now) {
        let mut taken: [Option<Slab>; 8] = Default::default();
        let mut count = 0;
        while count < taken.len() {
            let Some(slab) = self.upstream.take_empty(now.mono_us) else { break };
            taken[count] = Some(slab);
            count += 1;
        }
        for slab in taken.into_iter().flatten() {
            self.upstream.put_back(slab);
        }
    }
}

/// Everything outside the chain of one flow on one shard.
pub(crate) struct Exits {
    pub exits: Vec<Exit>,
    /// Exits of the version before, to which nothing goes any more.
    pub leaving: Vec<Exit>,
    pub dead: DeadLetters,
    pub cells: Arc<[Arc<Cells>]>,
    /// The batch under way: whose it is, and its number.
    pub inlet: u16,
    /// By inlet: the component of its source, if it has one.
    pub origins: Vec<Option<usize>>,
    pub span: Span,
    pub now: Now,
    /// An operator takes no more batches.
    pub blocked: bool,
    /// Rows that operators have refused since somebody set it to 0.
    pub refused: u64,
    /// Who looks at what passes.
    pub taps: Taps,
}

impl Exits {
    /// Whether a batch may run that delivers `needs[exit]` slabs at most.
    pub(crate) fn admit(&mut self, needs: &[usize], now: Now) -> bool {
        let mut admitted = self.dead.is_ready(now) && !self.blocked;
        // Every exit is asked, so that every meter sees its own lack.
        for (exit, count) in self.exits.iter_mut().zip(needs) {
            admitted &= exit.admits(*count, now);
        }
        admitted
    }

    /// The batch that runs next.
    pub(crate) fn begin(&mut self, inlet: u16, number: u64, now: Now) {
        self.inlet = inlet;
        self.dead.source = self.origins.get(usize::from(inlet)).copied().flatten();
        self.span = Span { first: number, last: number };
        self.now = now;
    }

    /// The batch is through.
    pub(crate) fn end(&mut self) {
        self.dead.source = None;
        self.flush_letters(self.inlet, self.span, self.now);
    }

    /// Sends the dead letters that have gathered, as part of `span` of `inlet`.
    pub(crate) fn flush_letters(&mut self, inlet: u16, span: Span, now: Now) {
        if self.taps.is_open() && self.dead.may_flush(now) {
            self.taps.letters(self.dead.waiting(), now);
        }
        self.dead.flush(inlet, span, now);
    }

    /// Everything of `inlet` up to this number has been accepted.
    pub(crate) fn position(&mut self, inlet: u16, upto: u64) -> u64 {
        let dead = self.dead.position(inlet, upto);
        let exits = self.exits.iter_mut().chain(&mut self.leaving);
        let exits = exits.map(|exit| exit.upstream.position(inlet, upto));
        exits.fold(dead, u64::min)
    }

    /// Ends intervals without credit of exits that nobody asks for any more.
    pub(crate) fn settle(&mut self, now: Now) {
        for exit in &mut self.exits {
            exit.upstream.settle(now.mono_us);
        }
    }

    /// Changes when credit or an ack comes back.
    pub(crate) fn pulse(&self) -> u64 {
        let upstreams = self.exits.iter().chain(&self.leaving).map(|exit| &exit.upstream);
        upstreams.chain(self.dead.upstream_ref()).map(pulse).fold(0, u64::wrapping_add)
    }

    /// Announces the end on exits that leave, and lets go of those behind which
    /// everything is accepted, or nobody is any more.
    pub(crate) fn part(&mut self) {
        self.leaving.retain_mut(|exit| {
            exit.drained = exit.drained || exit.upstream.send_marker(Marker::Drain).is_ok();
            let over = exit.drained && exit.upstream.in_flight() == 0;
            !over && !exit.upstream.is_closed()
        });
    }

    /// Announces the end of the flow on every exit to a sink (`sinks` of
    /// them), and on the dead letters. True when all have been told.
    pub(crate) fn drain(&mut self, sinks: usize) -> bool {
        let mut told = true;
        for exit in &mut self.exits[..sinks] {
            exit.drained = exit.drained || exit.upstream.send_marker(Marker::Drain).is_ok();
            told &= exit.drained;
        }
        told
    }
}

/// Changes when credit or an ack comes back on a queue to which nothing is
/// sent meanwhile.
pub(crate) fn pulse(upstream: &Upstream<Slab>) -> u64 {
    (upstream.credit() as u64).wrapping_sub(upstream.in_flight() as u64)
}

impl Outside for Exits {
    fn deliver(&mut self, exit: usize, slab: &mut Slab) {
        let exit = &mut self.exits[exit];
        if slab.is_empty() {
            slab.clear();
            return;
        }
        match exit.upstream.take_empty(self.now.mono_us) {
            Some(mut empty) => {
                if self.taps.is_open() {
                    self.taps.delivered(exit.component, slab, self.now);
                }
                std::mem::swap(slab, &mut empty);
                exit.upstream.send(empty, self.inlet, self.span);
            }
            None => {
                assert!(
                    exit.when_full.drops(),
                    "an exit that blocks has credit for what it was asked to admit"
                );
                let rows = slab.len() as u64;
                let cells = &self.cells[exit.component];
                cells.rows_in.add(rows);
                cells.dropped_full.add(rows);
                slab.clear();
            }
        }
    }

    fn component_behind(&self, exit: usize) -> usize {
        self.exits[exit].component
    }

    fn refuse(&mut self, component: usize, row: RowRef<'_>, reason: Reason, detail: &str) {
        self.refused += 1;
        self.dead.row(component, row, reason, detail, self.now);
    }

    fn block(&mut self) {
        self.blocked = true;
    }

    fn passed(&mut self, component: usize, slab: &Slab) {
        self.taps.see(component, slab, self.now);
    }
}
