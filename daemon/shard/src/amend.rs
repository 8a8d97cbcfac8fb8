//! A new version of a flow takes the place of one that runs, on one shard.
//!
//! First it stands by ([`stage`]): what is new of it is built and opened while
//! the old one runs, so that what cannot be opened disturbs nothing. Then, when
//! every shard says that it stands, it takes over between two turns
//! ([`FlowShard::take_over`]). Between turns nothing is inside the chain: all
//! that is in flight waits in queues, at sources, and in sinks. So what is kept
//! is moved as it is: a source with its connections and the numbers of its
//! batches, a sink with its queues and all that it has not accepted, an
//! operator with its state. Nothing is drained, and a dead sink holds nothing
//! up.
//!
//! Invariants:
//! - A batch is numbered by its inlet, and a kept inlet keeps its number: what
//!   is under way on a kept queue is accepted for the source that it came from.
//! - A sink that leaves is given what was meant for it, and its successor
//!   begins when it has come to its end: order holds, nothing is sent twice.
//! - Every row passes an operator of one version or of the other. One that
//!   comes over a lane and was sent by the version before passes the filters of
//!   its front again; a shard that has not been taken over yet leaves what a
//!   later version sent where it is.
//! - A checkpoint that was under way is void; what was accepted of it stays so.
//!
//! Deliberately absent: going back. What can fail has been done before.

use std::sync::Arc;

use ringmain_base::Now;
use ringmain_base::limits::SLOTS_MAX;
use ringmain_metrics::Cells;
use ringmain_ops::Operator;
use ringmain_ops::chain::{Chain, Node};
use ringmain_runtime::io::{EventKind, Io};

use crate::assembly::{
    Assembly, LAST_RESORT_BYTES, Owners, checkpoints, dead_letters, entry_needs, exit_list, intake,
    keys, origins, taps, way_back,
};
use crate::checkpoint::Checkpoints;
use crate::control::{FlowControl, Phase};
use crate::dead_letter::DeadLetters;
use crate::exits::Exit;
use crate::flow::{FlowShard, Owner};
use crate::inlet::{Positions, RemoteInlet, SourceInlet, Stage};
use crate::keep::{Follows, Former, Keep};
use crate::operators;
use crate::outlet::Outlet;
use crate::wiring::{Amends, FlowParts};

/// Numbers of inlets are not given out again.
const INLETS_MAX: u16 = 10_000;

/// How long what operators hold back may wait for room when they leave.
const LET_GO_US: u64 = 2_000_000;

/// Why a version does not stand by.
pub(crate) enum Refusal {
    /// Something cannot be built or opened.
    Failed(String),
    /// It has to be started anew.
    Unfit(String),
}

/// A version that stands by.
pub(crate) struct Staged {
    pub control: Arc<FlowControl>,
    parts: FlowParts,
    keep: Arc<Keep>,
    /// Names of all components, and behind them of sinks that leave.
    names: Vec<String>,
    operators: Vec<Option<Box<dyn Operator>>>,
    sources: Vec<SourceInlet>,
    remotes: Vec<RemoteInlet>,
    outlets: Vec<Outlet>,
    dead_outlet: Option<Outlet>,
    exits: Vec<Option<Exit>>,
    inlets: u16,
    stateful: bool,
    /// Takes what its connectors refuse meanwhile.
    dead: DeadLetters,
    cells: Arc<[Arc<Cells>]>,
    parting: bool,
    parted: bool,
    /// Operators that leave and may still give something out, the next one
    /// last; and until when they may.
    letting: Option<(Vec<usize>, u64)>,
}

/// Builds and opens what is new.
pub(crate) fn stage(
    flow: &mut FlowShard,
    mut parts: FlowParts,
    amends: Amends,
    owners: &mut Owners<'_>,
    io: &mut dyn Io,
    now: Now,
) -> Result<Staged, Refusal> {
    let Amends { keep, leaving, .. } = amends;
    if flow.stopping || flow.operators_ended || flow.exits_drained || flow.done {
        return Err(Refusal::Unfit("it was coming to its end".into()));
    }
    if flow.inlets > INLETS_MAX {
        return Err(Refusal::Unfit("its sources have changed too often".into()));
    }
    let operators = compile(flow, &parts, &keep)?;
    let old_chain = &mut flow.chain;
    let keeps_state = |(new, former): (&Option<Box<dyn Operator>>, &Former)| match former.kept() {
        Some(was) => old_chain.operator(was).state_format().is_some(),
        None => new.as_ref().is_some_and(|new| new.state_format().is_some()),
    };
    let stateful = operators.iter().zip(&keep.operators).any(keeps_state);
    let in_checkpoints = stateful && parts.checkpoints.is_some();
    if in_checkpoints {
        parts.control.note_stateful();
    }
    let keys = keys(&parts);
    let mut assembly = Assembly { owners, inlets: flow.inlets };
    let sources = assembly.sources(&mut parts, keys, stateful, in_checkpoints);
    let sources = sources.map_err(Refusal::Failed)?;
    let remotes = assembly.remotes(&mut parts);
    let mut outlets = Vec::new();
    for (at, part) in std::mem::take(&mut parts.outlets).into_iter().enumerate() {
        let late = keep.follows[part.sink].late;
        let outlet = assembly.outlet(&parts, part, Owner::StagedOutlet(at));
        let mut outlet = outlet.map_err(Refusal::Failed)?;
        outlet.late = late;
        outlets.push(outlet);
    }
    let mut dead_outlet = None;
    if let Some(part) = parts.letters_sink.take() {
        let outlet = assembly.outlet(&parts, part, Owner::StagedDead);
        let mut outlet = outlet.map_err(Refusal::Failed)?;
        outlet.late = keep.follows[parts.plan.sinks.len()].late;
        dead_outlet = Some(outlet);
    }
    let inlets = assembly.inlets;
    for (at, inlet) in sources.iter().enumerate() {
        owners.table[inlet.owner as usize].1 = Owner::StagedSource(at);
    }
    let names: Vec<_> = parts.control.components.iter().cloned().chain(leaving).collect();
    let mut dead = dead_letters(&parts, None, LAST_RESORT_BYTES);
    dead.rename(names.clone());
    let mut staged = Staged {
        control: parts.control.clone(),
        cells: parts.cells.clone(),
        exits: exit_list(&mut parts),
        parts,
        keep,
        names,
        operators,
        sources,
        remotes,
        outlets,
        dead_outlet,
        inlets,
        stateful,
        dead,
        parting: false,
        parted: false,
        letting: None,
    };
    match staged.open(io, now) {
        Ok(()) => Ok(staged),
        Err(error) => {
            staged.close(io);
            Err(Refusal::Failed(error))
        }
    }
}

/// The operators that are not kept. One that can take over the state of its
/// namesake is asked whether it would, as far as that can be known.
fn compile(
    flow: &mut FlowShard,
    parts: &FlowParts,
    keep: &Keep,
) -> Result<Vec<Option<Box<dyn Operator>>>, Refusal> {
    let setting = operators::Setting::of(&parts.plan);
    let mut made = Vec::new();
    for (at, (plan, former)) in parts.plan.operators.iter().zip(&keep.operators).enumerate() {
        if former.kept().is_some() {
            made.push(None);
            continue;
        }
        let cells = &parts.cells[parts.graph.operator(at)];
        let build = |setting: &operators::Setting| {
            operators::compile(plan, setting, &parts.schema).map_err(|error| {
                match parts.schema.snapshot().version() >= SLOTS_MAX {
                    true => Refusal::Unfit("its versions have had too many fields".into()),
                    false => Refusal::Failed(format!("{}: {}", plan.name, error.message)),
                }
            })
        };
        if let Former::Changed(was) = former {
            let mut trial = build(&setting)?;
            let tried = try_state(flow.chain.operator(*was), &mut *trial, parts);
            tried.map_err(|why| Refusal::Failed(format!("{}: {why}", plan.name)))?;
        }
        made.push(Some(build(&setting.counting(cells.named()))?));
    }
    Ok(made)
}

fn own_partitions(parts: &FlowParts) -> Vec<u16> {
    let count = parts.plan.partition.as_ref().map_or(0, |partition| partition.count);
    Checkpoints::partitions_of(count, parts.place.shard, usize::from(parts.place.shards))
}

fn same_format(old: &dyn Operator, new: &dyn Operator) -> bool {
    old.state_format().is_some() && old.state_format() == new.state_format()
}

/// With the state of one partition.
fn try_state(
    old: &mut dyn Operator,
    new: &mut dyn Operator,
    parts: &FlowParts,
) -> Result<(), String> {
    if !same_format(old, new) {
        return Ok(());
    }
    for partition in own_partitions(parts) {
        let mut bytes = Vec::new();
        old.save(partition, &mut bytes)?;
        if !bytes.is_empty() {
            let restored = new.restore(partition, &bytes);
            return restored.map_err(|why| {
                format!(
                    "the new version cannot go on with the state of the old one: {why}; give the \
                     operator another name to begin without state"
                )
            });
        }
    }
    Ok(())
}

impl Staged {
    fn open(&mut self, io: &mut dyn Io, now: Now) -> Result<(), String> {
        let names = &self.names;
        let at = |component: usize, error| format!("{}: {error}", names[component]);
        let outlets = self.outlets.iter_mut().chain(&mut self.dead_outlet);
        for outlet in outlets.filter(|outlet| !outlet.late) {
            outlet.open(io, &mut self.dead, now).map_err(|e| at(outlet.component, e))?;
        }
        for inlet in &mut self.sources {
            let cells = &self.cells[inlet.component];
            let result = inlet.with(io, &mut self.dead, cells, now, |s, _, cx| s.open(cx));
            result.map_err(|e| at(inlet.component, e))?;
        }
        Ok(())
    }

    /// Closes what it has open; owners' numbers of connectors that are gone.
    pub(crate) fn close(&mut self, io: &mut dyn Io) -> Vec<u32> {
        self.sources.iter_mut().for_each(|inlet| inlet.holdings.close(io));
        let outlets = self.outlets.iter_mut().chain(&mut self.dead_outlet);
        let mut owners: Vec<_> = self.sources.iter().map(|inlet| inlet.owner).collect();
        outlets.for_each(|outlet| {
            outlet.close(io);
            owners.push(outlet.owner);
        });
        owners
    }

    pub(crate) fn on_event(
        &mut self,
        owner: Owner,
        tag: u32,
        event: EventKind,
        io: &mut dyn Io,
        now: Now,
    ) {
        match owner {
            Owner::StagedSource(at) => {
                let inlet = &mut self.sources[at];
                inlet.holdings.note(&event);
                let cells = &self.cells[inlet.component];
                let dead = &mut self.dead;
                inlet.with(io, dead, cells, now, |s, _, cx| s.on_event(tag, event, cx));
            }
            Owner::StagedOutlet(at) => {
                self.outlets[at].on_event(tag, event, io, &mut self.dead, now);
            }
            Owner::StagedDead => {
                if let Some(outlet) = &mut self.dead_outlet {
                    outlet.on_event(tag, event, io, &mut self.dead, now);
                }
            }
            _ => {}
        }
    }
}

impl FlowShard {
    /// Has sources that leave come to their end, when that is wanted; says so
    /// when they have.
    pub(crate) fn part(&mut self, staged: &mut Staged, io: &mut dyn Io, now: Now) {
        if !staged.control.is_parting() || staged.parted {
            return;
        }
        let leaving = &staged.keep.leaving_sources;
        if !staged.parting {
            staged.parting = true;
            let sources = self.sources.iter_mut().filter(|s| leaving.contains(&s.component));
            for inlet in sources {
                let cells = &self.cells[inlet.component];
                inlet.with(io, &mut self.exits.dead, cells, now, |s, _, cx| s.stop(cx));
            }
        }
        let mut sources = self.sources.iter().filter(|s| leaving.contains(&s.component));
        let ended = sources.all(|s| s.stage == Stage::Drained && s.is_settled());
        let mut remotes = self.remotes.iter().filter(|r| leaving.contains(&r.source));
        let acked = |r: &RemoteInlet| r.downstream.acked() == r.downstream.received();
        if ended && remotes.all(|r| r.ended && acked(r)) {
            staged.parted = true;
            staged.control.note_parted();
        }
    }

    /// Has operators that leave give out what they hold back, and dead letters
    /// leave that have gathered; nothing comes in meanwhile. True when there is
    /// no more.
    pub(crate) fn let_go(&mut self, staged: &mut Staged, now: Now) -> bool {
        self.paused = true;
        let (order, until_us) = staged.letting.get_or_insert_with(|| {
            let mut order = self.chain.in_order();
            order.retain(|at| {
                let mut namesakes = staged.keep.operators.iter().enumerate();
                !namesakes.any(|(new, former)| match former {
                    Former::Kept(was) => was == at,
                    Former::Changed(was) if was == at => {
                        let new = staged.operators[new].as_deref();
                        new.is_some_and(|new| same_format(self.chain.operator(*at), new))
                    }
                    _ => false,
                })
            });
            (order, now.mono_us + LET_GO_US)
        });
        while let Some(at) = order.last() {
            if !self.exits.admit(&self.timer_needs, now) {
                return now.mono_us > *until_us;
            }
            self.emitted += 1;
            self.exits.begin(self.timers, self.emitted, now);
            let more = self.chain.on_leave(*at, &mut self.spare, now, &mut self.exits);
            self.exits.end();
            if !more {
                order.pop();
            }
        }
        // Sent by every turn, when there is room.
        let sent = keeps_letters(&staged.keep) || self.exits.dead.is_flushed();
        sent || now.mono_us > *until_us
    }

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
        self.take_outlets(&keep, &old_graph, staged.outlets, left);
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
            outlet.after = owners(&keep.follows[outlet.component - self.first_sink(keep)]);
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
            outlet.leaves = true;
            outlet.stop();
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

    /// Lets go of what is left of the version before, when it has come to its
    /// end; successors begin then.
    pub(crate) fn settle_versions(&mut self, io: &mut dyn Io, now: Now) -> usize {
        let hurry = self.control.is_in_a_hurry();
        self.exits.part();
        let mut moved = 0;
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.leaves && !outlet.left) {
            let done = outlet.is_done();
            if !done && hurry {
                self.control.note_discarded(outlet.discard());
            }
            if done || hurry {
                outlet.close(io);
                outlet.left = true;
                self.gone.push(outlet.owner);
                moved += 1;
            }
        }
        let gone = &self.gone;
        // They stand behind all others, and go together: numbers stay.
        if self.outlets.iter().all(|outlet| outlet.leaves == outlet.left) {
            self.outlets.retain(|outlet| !outlet.left);
        }
        if hurry {
            self.exits.leaving.clear();
        }
        for outlet in self.outlets.iter_mut().chain(&mut self.dead_outlet) {
            outlet.after.retain(|owner| !gone.contains(owner));
            if outlet.late && outlet.after.is_empty() {
                outlet.late = false;
                moved += 1;
                if let Err(error) = outlet.open(io, &mut self.exits.dead, now) {
                    let name = &self.control.components[outlet.component];
                    self.control.note_error(format!("{name}: {error}"));
                    // It takes nothing; what is meant for it waits.
                    outlet.after.push(outlet.owner);
                }
            }
        }
        let left = self.outlets.iter().any(|outlet| outlet.leaves);
        if !left && self.exits.leaving.is_empty() && self.control.phase() >= Phase::Run {
            self.settling = false;
            self.control.note_settled();
        }
        moved
    }
}

fn keeps_letters(keep: &Keep) -> bool {
    keep.letters.and_then(Former::kept).is_some()
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
