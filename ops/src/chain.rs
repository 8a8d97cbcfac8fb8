//! The operators of a flow on one shard, fused: a slab runs through all of
//! them before the next one is read, so its rows stay in the cache.
//!
//! Owns the operators, their places in the graph, and the slabs that branches
//! need. What leaves the chain does so at an *exit*, numbered by the shard,
//! which knows what is behind it (a sink's queue, another shard, the way back
//! of a cycle).
//!
//! Invariants:
//! - The graph of a chain has no cycle; a cycle of the flow leaves through an
//!   exit and comes back as an entry.
//! - The last reader of a batch gets the rows themselves, the others copies,
//!   made before anyone edits.

use std::sync::Arc;

use ringmain_base::{Now, Reason};
use ringmain_metrics::Cells;
use ringmain_slab::{Budget, RowRef, Slab};

use crate::{Code, CodeVersion, Context, Operator, Refuse};

/// Who reads an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The operator of that number.
    Operator(usize),
    /// The exit of that number.
    Exit(usize),
}

/// What is outside the chain.
pub trait Outside {
    /// Takes the rows of a slab, and leaves an empty slab behind: the same one
    /// or another.
    fn deliver(&mut self, exit: usize, slab: &mut Slab);

    /// The component that stands behind an exit, for counting what cannot be
    /// delivered.
    fn component_behind(&self, exit: usize) -> usize;

    /// Takes note of a row that `component` refused. The chain has counted it.
    fn refuse(&mut self, component: usize, row: RowRef<'_>, reason: Reason, detail: &str);

    /// Takes note of a failure of `component` that belongs to no message. The
    /// chain has counted it.
    fn failed(&mut self, component: usize, detail: &str) {
        let _ = (component, detail);
    }

    /// Rows leave `component`; called when [`Chain::watch`] was.
    fn passed(&mut self, component: usize, slab: &Slab) {
        let _ = (component, slab);
    }

    /// An operator takes no more batches: none may come in until its code has
    /// been replaced, see [`Chain::is_blocked`].
    fn block(&mut self) {}
}

/// What is wrong with an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Messages pass, but it does not do all that it should.
    Failing(String),
    /// It takes nothing.
    Failed(String),
}

/// An operator and its place.
pub struct Node {
    /// The operator.
    pub operator: Box<dyn Operator>,
    /// Its number among the flow's components.
    pub component: usize,
    /// Readers of the default port, then of each port of
    /// [`Operator::ports`].
    pub outputs: Vec<Vec<Target>>,
}

/// Why an operator is called.
#[derive(Clone, Copy)]
enum Call {
    Batch,
    Timer,
    End,
}

struct Place {
    node: Node,
    /// One slab per named port; taken out while the operator's outputs run.
    ports: Vec<Slab>,
}

/// The operators of a flow on one shard.
pub struct Chain {
    places: Vec<Place>,
    cells: Arc<[Arc<Cells>]>,
    /// Slabs for the copies of branches: as many as the graph is deep.
    spares: Vec<Slab>,
    /// Operators that may still hold something back when the flow ends, the
    /// next one last.
    ending: Option<Vec<usize>>,
    watched: bool,
}

impl Chain {
    /// Puts operators together. `cells` are the shard's cells by component.
    ///
    /// # Panics
    /// When a target does not exist.
    #[must_use]
    pub fn new(
        nodes: Vec<Node>,
        cells: Arc<[Arc<Cells>]>,
        slab_bytes: usize,
        budget: &Budget,
    ) -> Self {
        let exists = |t: &Target| !matches!(t, Target::Operator(at) if *at >= nodes.len());
        assert!(nodes.iter().flat_map(|n| n.outputs.iter().flatten()).all(exists));
        let spares = (0..=nodes.len()).map(|_| Slab::new(slab_bytes, budget)).collect();
        let place = |node: Node| {
            let ports = node.operator.ports().len();
            assert_eq!(node.outputs.len(), ports + 1, "readers for each port");
            Place { node, ports: (0..ports).map(|_| Slab::new(slab_bytes, budget)).collect() }
        };
        let places = nodes.into_iter().map(place).collect();
        Self { places, cells, spares, ending: None, watched: false }
    }

    /// Whether [`Outside::passed`] is told what leaves each operator.
    pub fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// Runs the rows of `slab` through all that `targets` lead to. The slab is
    /// empty afterwards, and perhaps another one.
    pub fn run(
        &mut self,
        targets: &[Target],
        slab: &mut Slab,
        now: Now,
        outside: &mut dyn Outside,
    ) {
        let Some((last, others)) = targets.split_last() else {
            slab.clear();
            return;
        };
        if slab.is_empty() {
            slab.clear();
            return;
        }
        for target in others {
            let mut copy = self.spares.pop().expect("as many spares as the graph is deep");
            self.branch(*target, slab, &mut copy, now, outside);
            self.spares.push(copy);
        }
        self.step(*last, slab, now, outside);
    }

    /// Runs the rows through operators one after the other, and leaves what
    /// comes out of the last one's default port in the slab: for operators
    /// without other ports.
    pub fn run_through(
        &mut self,
        operators: &[usize],
        slab: &mut Slab,
        now: Now,
        outside: &mut dyn Outside,
    ) {
        for at in operators {
            self.process(*at, slab, now, outside, Call::Batch);
        }
    }

    /// Lets every operator whose time has come emit rows.
    pub fn on_timers(&mut self, slab: &mut Slab, now: Now, outside: &mut dyn Outside) {
        for at in 0..self.places.len() {
            let due = self.places[at].node.operator.timer_at_us();
            if due.is_some_and(|due| due <= now.mono_us) {
                self.call(at, slab, now, outside, Call::Timer);
            }
        }
    }

    /// Lets operators give out what they hold back, each before those that
    /// read it: one slab per call. True when none has any more.
    pub fn on_end(&mut self, slab: &mut Slab, now: Now, outside: &mut dyn Outside) -> bool {
        if self.ending.is_none() {
            self.ending = Some(self.in_order());
        }
        let next = self.ending.as_ref().and_then(|order| order.last()).copied();
        let Some(at) = next else { return true };
        let more = self.call(at, slab, now, outside, Call::End);
        if let Some(order) = self.ending.as_mut().filter(|_| !more) {
            order.pop();
        }
        false
    }

    /// Lets operator `at` give out what it holds back, as if the flow ended: one
    /// slab per call. True as long as it may have more.
    pub fn on_leave(
        &mut self,
        at: usize,
        slab: &mut Slab,
        now: Now,
        outside: &mut dyn Outside,
    ) -> bool {
        self.call(at, slab, now, outside, Call::End)
    }

    /// The operators, for another chain.
    #[must_use]
    pub fn into_operators(self) -> Vec<Box<dyn Operator>> {
        self.places.into_iter().map(|place| place.node.operator).collect()
    }

    /// Operators, from the last: none behind one that it reads.
    #[must_use]
    pub fn in_order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.places.len());
        let mut seen = vec![false; self.places.len()];
        for at in 0..self.places.len() {
            self.readers_first(at, &mut seen, &mut order);
        }
        order
    }

    fn readers_first(&self, at: usize, seen: &mut [bool], order: &mut Vec<usize>) {
        if std::mem::replace(&mut seen[at], true) {
            return;
        }
        for target in self.places[at].node.outputs.iter().flatten() {
            if let Target::Operator(reader) = target {
                self.readers_first(*reader, seen, order);
            }
        }
        order.push(at);
    }

    /// Replaces the code of operator `at`; see [`Operator::reload`].
    ///
    /// # Errors
    /// Why not; the operator goes on as it was.
    pub fn reload(&mut self, at: usize, code: &Code) -> Result<(), String> {
        self.places[at].node.operator.reload(code)
    }

    /// The version of one operator's code.
    #[must_use]
    pub fn code_version(&self, at: usize) -> Option<CodeVersion> {
        self.places[at].node.operator.code_version()
    }

    /// Versions of the operators' code, by operator.
    pub fn code_versions(&self) -> impl Iterator<Item = (usize, CodeVersion)> {
        let versions = self.places.iter().map(|place| place.node.operator.code_version());
        versions.enumerate().filter_map(|(at, version)| Some((at, version?)))
    }

    /// Whether an operator takes no more batches, so that nothing may come in.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.places.iter().any(|place| place.node.operator.blocks())
    }

    /// Operator `at`.
    pub fn operator(&mut self, at: usize) -> &mut dyn Operator {
        &mut *self.places[at].node.operator
    }

    /// Whether any operator keeps state.
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.places.iter().any(|place| place.node.operator.state_format().is_some())
    }

    /// What is wrong with each operator, by component; nothing is `None`.
    pub fn troubles(&self) -> impl Iterator<Item = (usize, Option<Trouble>)> {
        self.places.iter().map(|place| {
            let operator = &place.node.operator;
            let failing = || operator.failing().map(Trouble::Failing);
            (place.node.component, operator.trouble().map(Trouble::Failed).or_else(failing))
        })
    }

    /// When the next timer is due, on the monotonic clock in microseconds.
    #[must_use]
    pub fn timer_at_us(&self) -> Option<u64> {
        self.places.iter().filter_map(|place| place.node.operator.timer_at_us()).min()
    }

    /// Readers of the default output of operator `at`.
    #[must_use]
    pub fn default_readers(&self, at: usize) -> &[Target] {
        &self.places[at].node.outputs[0]
    }

    fn branch(
        &mut self,
        target: Target,
        slab: &Slab,
        copy: &mut Slab,
        now: Now,
        outside: &mut dyn Outside,
    ) {
        if copy.push_all(slab).is_err() {
            self.refuse_rest(target, slab, copy.len(), outside);
        }
        self.step(target, copy, now, outside);
    }

    /// Rows that a branch has no memory for are refused by the branch's first
    /// component, not lost.
    fn refuse_rest(&self, target: Target, slab: &Slab, from: usize, outside: &mut dyn Outside) {
        let component = match target {
            Target::Operator(at) => self.places[at].node.component,
            Target::Exit(exit) => outside.component_behind(exit),
        };
        let cells = &self.cells[component];
        for row in slab.rows().skip(from) {
            cells.rows_in.add(1);
            cells.refuse(Reason::Memory);
            outside.refuse(component, row, Reason::Memory, "no memory for a copy of the message");
        }
    }

    fn step(&mut self, target: Target, slab: &mut Slab, now: Now, outside: &mut dyn Outside) {
        match target {
            Target::Exit(exit) => outside.deliver(exit, slab),
            Target::Operator(at) => {
                self.call(at, slab, now, outside, Call::Batch);
            }
        }
    }

    fn call(
        &mut self,
        at: usize,
        slab: &mut Slab,
        now: Now,
        outside: &mut dyn Outside,
        call: Call,
    ) -> bool {
        let more = self.process(at, slab, now, outside, call);
        self.outputs(at, slab, now, outside);
        more
    }

    /// One operator, and the counts of what it did.
    fn process(
        &mut self,
        at: usize,
        slab: &mut Slab,
        now: Now,
        outside: &mut dyn Outside,
        call: Call,
    ) -> bool {
        let mut more = false;
        let place = &mut self.places[at];
        let component = place.node.component;
        let cells = &self.cells[component];
        let rows_in = slab.len() as u64;
        let mut refuse = RefuseAs { outside: &mut *outside, component, cells, dead: 0 };
        let mut cx = Context { now, refuse: &mut refuse, ports: &mut place.ports };
        match call {
            Call::Batch => place.node.operator.process(slab, &mut cx),
            Call::Timer => place.node.operator.on_timer(slab, &mut cx),
            Call::End => more = place.node.operator.on_end(slab, &mut cx),
        }
        let dead = refuse.dead;
        if let Some(tally) = place.node.operator.tally() {
            cells.keys.set(tally.keys);
            cells.evicted.set(tally.evicted);
            cells.expired.set(tally.expired);
            cells.late.set(tally.late);
            cells.held.set(tally.held);
        }
        if place.node.operator.blocks() {
            outside.block();
        }
        let rows_out = (slab.len() + place.ports.iter().map(Slab::len).sum::<usize>()) as u64;
        // What an operator makes up itself counts as come in, so that the
        // counts balance.
        let rows_in = rows_in.max(rows_out + dead);
        cells.rows_in.add(rows_in);
        cells.rows_out.add(rows_out);
        cells.dropped.add(rows_in - rows_out - dead);
        if self.watched {
            std::iter::once(&*slab).chain(&place.ports).for_each(|s| outside.passed(component, s));
        }
        more
    }

    fn outputs(&mut self, at: usize, slab: &mut Slab, now: Now, outside: &mut dyn Outside) {
        // The readers' lists and the port slabs are taken out while they run:
        // a run never comes back to this operator, the graph has no cycle.
        let mut outputs = std::mem::take(&mut self.places[at].node.outputs);
        let mut ports = std::mem::take(&mut self.places[at].ports);
        for (readers, port) in outputs[1..].iter_mut().zip(&mut ports) {
            self.run(readers, port, now, outside);
        }
        self.run(&outputs[0], slab, now, outside);
        self.places[at].node.outputs = outputs;
        self.places[at].ports = ports;
    }
}

struct RefuseAs<'a> {
    outside: &'a mut dyn Outside,
    component: usize,
    cells: &'a Cells,
    dead: u64,
}

impl Refuse for RefuseAs<'_> {
    fn refuse(&mut self, row: RowRef<'_>, reason: Reason, detail: &str) {
        self.dead += 1;
        self.cells.refuse(reason);
        self.outside.refuse(self.component, row, reason, detail);
    }

    fn failed(&mut self, detail: &str) {
        self.cells.errors.add(1);
        self.outside.failed(self.component, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmain_slab::{Scalar, Scratch};

    /// Keeps rows back until the end, then gives out one per call.
    #[derive(Default)]
    struct Hoard(i64);

    impl Operator for Hoard {
        fn process(&mut self, slab: &mut Slab, _: &mut Context<'_>) {
            self.0 += slab.len() as i64;
            slab.clear();
        }

        fn on_end(&mut self, slab: &mut Slab, _: &mut Context<'_>) -> bool {
            if self.0 > 0 {
                self.0 -= 1;
                push(slab, self.0);
            }
            self.0 > 0
        }
    }

    fn push(slab: &mut Slab, value: i64) {
        let mut scratch = Scratch::default();
        let mut row = slab.build(1, 1, &mut scratch);
        row.set(0, Scalar::Int(value));
        row.finish(0).unwrap();
    }

    #[derive(Default)]
    struct Count(usize);

    impl Outside for Count {
        fn deliver(&mut self, _: usize, slab: &mut Slab) {
            self.0 += slab.len();
            slab.clear();
        }

        fn component_behind(&self, _: usize) -> usize {
            0
        }

        fn refuse(&mut self, _: usize, _: RowRef<'_>, _: Reason, _: &str) {}
    }

    #[test]
    fn what_operators_hold_back_leaves_at_the_end_whatever_their_order() {
        let budget = Budget::new(0);
        let cells: Arc<[Arc<Cells>]> = (0..2).map(|_| Arc::default()).collect();
        // The second in the list is the first in the chain.
        let node = |component, target| Node {
            operator: Box::new(Hoard::default()),
            component,
            outputs: vec![vec![target]],
        };
        let nodes = vec![node(0, Target::Exit(0)), node(1, Target::Operator(0))];
        let mut chain = Chain::new(nodes, cells, 4096, &budget);
        let (mut slab, mut out) = (Slab::new(4096, &budget), Count::default());
        let now = Now::default();
        for value in 0..5 {
            push(&mut slab, value);
        }
        chain.run(&[Target::Operator(1)], &mut slab, now, &mut out);
        assert_eq!(out.0, 0);
        let calls = (0..100).take_while(|_| !chain.on_end(&mut slab, now, &mut out)).count();
        assert_eq!((out.0, calls), (5, 10));
    }
}
