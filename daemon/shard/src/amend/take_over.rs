//! The change itself, between two turns: what is kept is moved, what is new is
//! put in its place.

use ringmain_base::Now;
use ringmain_ops::Operator;
use ringmain_ops::chain::{Chain, Node};
use ringmain_runtime::io::Io;

use super::{Staged, keeps_letters, own_partitions, same_format};
use crate::assembly::{Owners, checkpoints, entry_needs, intake, origins, taps, way_back};
use crate::exits::Exit;
use crate::flow::{FlowShard, Owner};
use crate::inlet::{Positions, RemoteInlet, SourceInlet};
use crate::keep::{Follows, Former, Keep};
use crate::outlet::Outlet;
use crate::wiring::FlowParts;

impl FlowShard {
    /// The version that stood by is the flow from now on.
    pub(crate) fn take_over(
        &mut self,
        staged: Staged,
        owners: &mut Owners<'_>,
        io: &mut dyn Io,
        now: Now,
    ) {
        let Staged { control, mut parts, keep, names, operators, sources, remotes, .. } = staged;
        let old = std::mem::replace(&mut self.control, control);
        self.intake.cut(&old);
        self.floor = self.control.floor();
        let old_graph = self.intake.graph.clone();
        // The chain, the inlets before it, the exits behind it.
        self.take_operators(&parts, &keep, operators);
        let stateful = staged.stateful;
        let marks = self.take_sources(&parts, &keep, sources, stateful, io, now);
        self.take_remotes(&parts, &keep, remotes);
        let loops = std::mem::take(&mut self.loops).into_iter().enumerate();
        self.loops =
            loops.map(|(at, inlet)| way_back(&parts, at, inlet.downstream, inlet.id)).collect();
        self.take_exits(&parts, &keep, staged.exits);
        self.cells = parts.cells.clone();
        let left = self.take_letters(&mut parts, &keep, staged.dead_outlet);
        self.take_outlets(&keep, &old_graph, staged.outlets, left, now);
        self.exits.dead.rename(names.clone());
        self.last_resort.rename(names);
        self.exits.cells = parts.cells.clone();
        self.exits.origins = origins(&self.sources, &self.remotes);
        self.exits.taps = taps(&parts);
        self.exits.blocked = self.chain.is_blocked();
        let (inlet, number) = (self.intake.inlet, self.intake.number);
        self.intake = crate::replay::Intake { number, ..intake(&parts, inlet) };
        self.take_checkpoints(&mut parts, &marks, stateful);
        self.timer_needs = parts.graph.timer_needs();
        self.sinks = parts.plan.sinks.len();
        self.scripts_seen = 0;
        self.checkpoint_wanted = false;
        self.inlets = staged.inlets;
        (self.held, self.paused, self.settling) = (false, false, true);
        self.legacy = false;
        for (operator, code) in self.chain.code_versions() {
            self.control.note_code(operator, code, now.wall_us);
        }
        self.number_owners(owners);
        old.note_ended();
        old.note_removed();
    }

    fn take_operators(
        &mut self,
        parts: &FlowParts,
        keep: &Keep,
        mut fresh: Vec<Option<Box<dyn Operator>>>,
    ) {
        let empty = Chain::new(Vec::new(), parts.cells.clone(), 0, &parts.budget);
        let old = std::mem::replace(&mut self.chain, empty).into_operators();
        let mut old: Vec<_> = old.into_iter().map(Some).collect();
        let mut nodes = Vec::new();
        for (at, former) in keep.operators.iter().enumerate() {
            let kept = former.kept().and_then(|was| old[was].take());
            let mut operator = kept.or_else(|| fresh[at].take()).expect("it is kept or was built");
            if let Former::Changed(was) = former
                && let Some(before) = &mut old[*was]
            {
                let name = &parts.plan.operators[at].name;
                hand_over(&mut **before, &mut *operator, parts, name.as_str());
            }
            let outputs = parts.graph.operators[at].clone();
            nodes.push(Node { operator, component: parts.graph.operator(at), outputs });
        }
        self.chain = Chain::new(nodes, parts.cells.clone(), parts.slab_bytes, &parts.budget);
    }

    /// By source on this shard, what it was before.
    fn take_sources(
        &mut self,
        parts: &FlowParts,
        keep: &Keep,
        fresh: Vec<SourceInlet>,
        stateful: bool,
        io: &mut dyn Io,
        now: Now,
    ) -> Vec<Option<usize>> {
        let in_checkpoints = stateful && parts.checkpoints.is_some();
        let mut fresh: Vec<_> = fresh.into_iter().map(Some).collect();
        let mut old: Vec<_> = std::mem::take(&mut self.sources).into_iter().map(Some).collect();
        let mut marks = Vec::new();
        for (component, former) in keep.sources.iter().enumerate() {
            let Some(was) = former.kept() else {
                let of =
                    |s: &Option<SourceInlet>| s.as_ref().is_some_and(|s| s.component == component);
                if let Some(inlet) = fresh.iter_mut().find(|s| of(s)).and_then(Option::take) {
                    self.sources.push(inlet);
                    marks.push(None);
                }
                continue;
            };
            let of = |s: &Option<SourceInlet>| s.as_ref().is_some_and(|s| s.component == was);
            let Some(at) = old.iter().position(of) else { continue };
            let Some(mut inlet) = old[at].take() else { continue };
            inlet.component = component;
            inlet.front = parts.graph.fronts[component].clone();
            inlet.targets = parts.graph.entry(component).to_vec();
            inlet.needs = entry_needs(parts, &inlet.targets);
            inlet.refront = inlet.stuck;
            if let Some(exchange) = &mut inlet.exchange {
                exchange.set_stateful(stateful);
                exchange.version(inlet.id, self.control.version, now);
            }
            let positions = inlet.positions.take();
            let slot = inlet.slot.clone();
            inlet.positions =
                positions.or_else(|| slot.map(Positions::new)).filter(|_| !in_checkpoints);
            self.sources.push(inlet);
            marks.push(Some(at));
        }
        for mut inlet in old.into_iter().flatten() {
            inlet.holdings.close(io);
            self.gone.push(inlet.owner);
        }
        marks
    }

    fn take_remotes(&mut self, parts: &FlowParts, keep: &Keep, fresh: Vec<RemoteInlet>) {
        for mut inlet in std::mem::take(&mut self.remotes) {
            let now = keep.sources.iter().position(|former| *former == Former::Kept(inlet.source));
            // Of a source that has left; what it sent has been waited for.
            let Some(source) = now else { continue };
            inlet.source = source;
            inlet.targets = parts.graph.entry(source).to_vec();
            inlet.whole.clone_from(&parts.graph.sources[source]);
            inlet.needs = entry_needs(parts, &inlet.targets);
            inlet.barred = false;
            inlet.behind = !std::mem::take(&mut inlet.ahead);
            self.remotes.push(inlet);
        }
        self.remotes.extend(fresh);
    }

    fn take_exits(&mut self, parts: &FlowParts, keep: &Keep, mut fresh: Vec<Option<Exit>>) {
        let mut old: Vec<_> = std::mem::take(&mut self.exits.exits).into_iter().map(Some).collect();
        let old_loops = old.len() - parts.graph.loops.len();
        let mut exits = Vec::new();
        for (at, exit) in fresh.iter_mut().enumerate() {
            let was = match keep.sinks.get(at) {
                Some(former) => former.kept(),
                None => Some(old_loops + at - keep.sinks.len()),
            };
            let kept = was.and_then(|was| old[was].take());
            let mut exit = kept.or_else(|| exit.take()).expect("it is kept or was wired");
            exit.component = parts.graph.behind(at);
            exits.push(exit);
        }
        self.exits.exits = exits;
        self.exits.leaving.extend(old.into_iter().flatten());
    }

    /// The dead letters' sink of the version before, if it leaves this shard.
    fn take_letters(
        &mut self,
        parts: &mut FlowParts,
        keep: &Keep,
        fresh: Option<Outlet>,
    ) -> Option<Outlet> {
        let component = parts.graph.sink(parts.plan.sinks.len());
        if keeps_letters(keep) {
            if let Some(outlet) = &mut self.dead_outlet {
                outlet.renumber(component, &parts.cells);
            }
            return None;
        }
        if let Some(upstream) = self.exits.dead.redirect(parts.letters.take()) {
            let (when_full, shed) = (ringmain_config::WhenFull::Block, Default::default());
            self.exits.leaving.push(Exit { upstream, when_full, shed, component, drained: false });
        }
        std::mem::replace(&mut self.dead_outlet, fresh)
    }

    fn take_outlets(
        &mut self,
        keep: &Keep,
        old_graph: &crate::graph::Graph,
        fresh: Vec<Outlet>,
        letters: Option<Outlet>,
        now: Now,
    ) {
        let count = self.control.components.len();
        let cells = self.cells.clone();
        let last = keep.leaving_sinks.last().copied().unwrap_or(0);
        let mut left: Vec<_> = letters.map(|outlet| (last, outlet)).into_iter().collect();
        for mut outlet in std::mem::take(&mut self.outlets) {
            let was = outlet.component - old_graph.sink(0);
            match keep.sinks.iter().position(|former| *former == Former::Kept(was)) {
                Some(at) => {
                    outlet.renumber(self.first_sink(keep) + at, &cells);
                    self.outlets.push(outlet);
                }
                None => left.push((was, outlet)),
            }
        }
        let owners = |follows: &Follows| {
            let before = left.iter().filter(|(was, _)| follows.before.contains(was));
            before.map(|(_, outlet): &(usize, Outlet)| outlet.owner).collect()
        };
        for mut outlet in fresh {
            let follows = &keep.follows[outlet.component - self.first_sink(keep)];
            outlet.after = owners(follows);
            outlet.inherits = follows.inherits;
            self.outlets.push(outlet);
        }
        if let (Some(outlet), Some(follows)) =
            (&mut self.dead_outlet, keep.follows.get(keep.sinks.len()))
        {
            outlet.after = owners(follows);
        }
        self.outlets.sort_by_key(|outlet| outlet.component);
        for (was, mut outlet) in left {
            let at = keep.leaving_sinks.iter().position(|at| *at == was).unwrap_or(0);
            outlet.renumber(count + at, &cells);
            outlet.leave(now);
            self.outlets.push(outlet);
        }
    }

    fn first_sink(&self, keep: &Keep) -> usize {
        keep.sources.len() + keep.operators.len()
    }

    fn take_checkpoints(&mut self, parts: &mut FlowParts, marks: &[Option<usize>], stateful: bool) {
        let fresh = checkpoints(parts, stateful);
        let names = parts.plan.operators.iter().map(|o| o.name.value.clone()).collect();
        self.checkpoints = match (self.checkpoints.take(), fresh) {
            (_, None) => None,
            (Some(mut kept), Some(_)) => {
                kept.go_on(names, marks, self.floor);
                Some(kept)
            }
            (None, Some(mut fresh)) => {
                fresh.go_on(names, marks, self.floor);
                Some(fresh)
            }
        };
    }

    /// Events find their way by where connectors stand now.
    fn number_owners(&self, owners: &mut Owners<'_>) {
        for (at, inlet) in self.sources.iter().enumerate() {
            owners.table[inlet.owner as usize].1 = Owner::Source(at);
        }
        for (at, outlet) in self.outlets.iter().enumerate() {
            owners.table[outlet.owner as usize].1 = Owner::Outlet(at);
        }
        if let Some(outlet) = &self.dead_outlet {
            owners.table[outlet.owner as usize].1 = Owner::DeadOutlet;
        }
    }
}

/// Moves the state of a shard's partitions to the operator that is in its
/// place now.
fn hand_over(old: &mut dyn Operator, new: &mut dyn Operator, parts: &FlowParts, name: &str) {
    if !same_format(old, new) {
        return;
    }
    for partition in own_partitions(parts) {
        let mut bytes = Vec::new();
        let moved = old.save(partition, &mut bytes).and_then(|()| match bytes.is_empty() {
            true => Ok(()),
            false => new.restore(partition, &bytes),
        });
        if let Err(why) = moved {
            let flow = &parts.plan.name;
            tracing::error!("{flow}.{name}: partition {partition} goes on without state: {why}");
        }
    }
}
