//! What is outside the chain in a test: everything that leaves is written down.

use std::collections::VecDeque;
use std::sync::Arc;

use ringmain_base::{Now, Reason};
use ringmain_connectors::{OfflineSink, Refusals};
use ringmain_metrics::Cells;
use ringmain_ops::chain::Outside;
use ringmain_ring::{Doorbell, Downstream, Item, Span, edge};
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab};

use super::message::Message;
use crate::dead_letter::{self, DeadLetters};

/// Slabs on the way of dead letters: they are taken out after every batch.
const LETTER_SLABS: usize = 2;

/// Failures that are written down.
const FAILURES_MAX: usize = 1000;

/// What stands behind an exit of the chain.
pub(super) enum Behind {
    /// A sink, and where its messages are written down.
    Sink(Box<OfflineSink>, Option<usize>),
    /// The way back of a cycle.
    Loop,
    /// Nothing: the exit was added to see what passes.
    Probe(usize),
}

pub(super) struct Collector {
    /// By exit: what is behind it, and the number of the component.
    pub exits: Vec<(Behind, usize)>,
    /// What was seen, by place.
    pub seen: Vec<Vec<Message>>,
    pub letters: Vec<Message>,
    /// Failures that belong to no message, by component.
    pub failures: Vec<(usize, String)>,
    /// Batches on their way back, with their exits.
    pub back: VecDeque<(usize, Slab)>,
    /// Set when there was no memory for what a test did.
    pub full: bool,
    pub now: Now,
    dead: DeadLetters,
    arrived: Downstream<Slab>,
    letter_schema: SharedSchema,
    schema: SharedSchema,
    cells: Arc<[Arc<Cells>]>,
    slab_bytes: usize,
    budget: Budget,
    batches: u64,
}

impl Collector {
    pub(super) fn new(
        flow: &str,
        components: Vec<String>,
        schema: &SharedSchema,
        cells: Arc<[Arc<Cells>]>,
        slab_bytes: usize,
        budget: &Budget,
    ) -> Self {
        let slabs = (0..LETTER_SLABS).map(|_| Slab::new(slab_bytes, budget)).collect();
        let (upstream, arrived) = edge(slabs, 1, Doorbell::silent(), Doorbell::silent());
        let shared = schema.clone();
        let dead = DeadLetters::new(flow, components, shared, Some(upstream), slab_bytes, budget);
        Self {
            exits: Vec::new(),
            seen: Vec::new(),
            letters: Vec::new(),
            failures: Vec::new(),
            back: VecDeque::new(),
            full: false,
            now: Now::default(),
            dead,
            arrived,
            letter_schema: dead_letter::schema(),
            schema: schema.clone(),
            cells,
            slab_bytes,
            budget: budget.clone(),
            batches: 0,
        }
    }

    /// A batch is through: its dead letters are read.
    pub(super) fn take_letters(&mut self) {
        self.batches += 1;
        self.dead.flush(0, Span { first: self.batches, last: self.batches }, self.now);
        let names = self.letter_schema.snapshot();
        while let Some(item) = self.arrived.recv() {
            let Item::Slab { mut slab, .. } = item else { continue };
            self.letters.extend(slab.rows().map(|row| Message::of(row, &names)));
            slab.clear();
            self.arrived.give_back(slab);
            self.arrived.ack(self.arrived.received());
        }
    }

    fn see(&mut self, place: usize, slab: &Slab) {
        let names = self.schema.snapshot();
        self.seen[place].extend(slab.rows().map(|row| Message::of(row, &names)));
    }

    fn sink(&mut self, exit: usize, slab: &Slab) {
        let names = self.schema.snapshot();
        for row in slab.rows() {
            let (Behind::Sink(sink, place), component) = &mut self.exits[exit] else { return };
            let cells = &self.cells[*component];
            cells.rows_in.add(1);
            let dead = &mut self.dead;
            let mut refusals =
                Refused { dead, cells, component: *component, now: self.now, incoming: false };
            if sink.accepts(row, &mut refusals) {
                cells.rows_out.add(1);
                if let Some(place) = place {
                    self.seen[*place].push(Message::of(row, &names));
                }
            }
        }
    }

    fn loop_back(&mut self, exit: usize, slab: &Slab) {
        let mut copy = Slab::new(self.slab_bytes, &self.budget);
        self.full |= copy.push_all(slab).is_err();
        self.back.push_back((exit, copy));
    }

    /// Takes what a source refuses.
    pub(super) fn refusals(&mut self, component: usize) -> Refused<'_> {
        let (dead, cells) = (&mut self.dead, &self.cells[component]);
        Refused { dead, cells, component, now: self.now, incoming: true }
    }
}

impl Outside for Collector {
    fn deliver(&mut self, exit: usize, slab: &mut Slab) {
        match self.exits[exit].0 {
            Behind::Sink(..) => self.sink(exit, slab),
            Behind::Loop => self.loop_back(exit, slab),
            Behind::Probe(place) => self.see(place, slab),
        }
        slab.clear();
    }

    fn component_behind(&self, exit: usize) -> usize {
        self.exits[exit].1
    }

    fn refuse(&mut self, component: usize, row: RowRef<'_>, reason: Reason, detail: &str) {
        self.dead.row(component, row, reason, detail, self.now);
    }

    fn failed(&mut self, component: usize, detail: &str) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push((component, detail.to_owned()));
        }
    }
}

/// Refusals of a source or a sink.
pub(super) struct Refused<'a> {
    dead: &'a mut DeadLetters,
    cells: &'a Cells,
    component: usize,
    now: Now,
    /// Not yet counted as having come in.
    incoming: bool,
}

impl Refused<'_> {
    fn count(&self, reason: Reason) {
        if self.incoming {
            self.cells.rows_in.add(1);
        }
        self.cells.refuse(reason);
    }
}

impl Refusals for Refused<'_> {
    fn bytes(&mut self, reason: Reason, detail: &str, origin: &str, offset: u64, bytes: &[u8]) {
        self.count(reason);
        self.dead.bytes(self.component, bytes, (origin, offset), reason, detail, self.now);
    }

    fn row(&mut self, reason: Reason, detail: &str, row: RowRef<'_>) {
        self.count(reason);
        self.dead.row(self.component, row, reason, detail, self.now);
    }
}
