//! From a plan to the parts of a flow on each shard: who is where, and which
//! queues lie between.
//!
//! Runs on the controller's thread; what it makes is `Send` and is put
//! together on the shards ([`crate::assembly`]). A flow without a partition
//! key lives on its home shard altogether. With one, sources that can be
//! divided and the operators are on every shard, joined by an exchange; sinks
//! that cannot be divided are on the home shard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringmain_config::{FlowPlan, WhenFull};
use ringmain_connectors::{Claims, Placement};
use ringmain_metrics::{Cells, Edge, FlowMetrics};
use ringmain_ops::chain::Target;
use ringmain_ring::{Doorbell, Downstream, Meter, Upstream, edge};
use ringmain_slab::{Budget, SharedSchema, Slab};

use crate::checkpoint::{CheckpointSlot, SavedState};
use crate::control::FlowControl;
use crate::exits::Shed;
use crate::graph::{Graph, components, ports, sink_on_each_shard, source_on_each_shard};
use crate::inlet::PositionSlot;
use crate::keep::{Former, Joints, Keep};
use crate::memory::{Slabs, buffer_bytes};

/// Markers that may be under way on an edge.
const MARKERS: usize = 8;

/// What a flow is wired with.
pub struct WireOptions<'a> {
    /// The shards' bells.
    pub bells: &'a [Doorbell],
    /// The shard of everything that is not divided.
    pub home: usize,
    /// Standard size of a slab.
    pub slab_bytes: usize,
    /// How long a partly filled slab may wait.
    pub linger_us: u64,
    /// What slabs may grow by.
    pub budget: &'a Budget,
    /// Positions to resume from: source, shard, bytes.
    pub restore: &'a [(String, usize, Vec<u8>)],
    /// State of operators to go on with.
    pub states: &'a Arc<[SavedState]>,
    /// Whether positions and state are kept.
    pub keep_positions: bool,
    /// Where messages wait that a sink has no room for: the daemon's
    /// `data_dir`.
    pub data_dir: Option<&'a Path>,
    /// What the connectors of one run share.
    pub claims: &'a Claims,
}

/// A position that the controller stores.
#[derive(Clone)]
pub struct PositionKey {
    /// The source's name.
    pub source: String,
    /// The shard that it reads on.
    pub shard: usize,
    /// Where new positions appear.
    pub slot: PositionSlot,
}

/// A wired flow.
pub struct Wired {
    /// One per shard that has a part of the flow.
    pub parts: Vec<FlowParts>,
    /// What it counts.
    pub metrics: FlowMetrics,
    /// How it is told what to do.
    pub control: Arc<FlowControl>,
    /// What is to be stored of it, when it has no state.
    pub positions: Vec<PositionKey>,
    /// What is to be stored of it, when it has: one for each part, by shard.
    pub checkpoints: Vec<(usize, CheckpointSlot)>,
    /// What its next version is joined to.
    pub joints: Joints,
}

/// A flow that runs, of which a new version is wired.
#[derive(Clone, Copy)]
pub struct Amended<'a> {
    /// What of it goes on.
    pub keep: &'a Arc<Keep>,
    /// Where the new is joined to it.
    pub joints: &'a Joints,
    /// How it is told what to do.
    pub control: &'a Arc<FlowControl>,
    /// What it counts.
    pub metrics: &'a FlowMetrics,
}

/// The version that parts belong to is to take the place of another.
pub(crate) struct Amends {
    pub control: Arc<FlowControl>,
    pub keep: Arc<Keep>,
    /// Names of sinks that leave.
    pub leaving: Vec<String>,
}

pub(crate) struct SourceParts {
    pub at: usize,
    /// By target shard; empty without a partition key.
    pub lanes: Vec<Option<Upstream<Slab>>>,
    pub restore: Vec<Vec<u8>>,
    pub slot: Option<PositionSlot>,
}

pub(crate) struct RemoteParts {
    pub source: usize,
    pub downstream: Downstream<Slab>,
}

pub(crate) struct ExitParts {
    pub upstream: Upstream<Slab>,
    pub when_full: WhenFull,
    pub shed: Shed,
}

pub(crate) struct OutletParts {
    pub sink: usize,
    pub inputs: Vec<(Downstream<Slab>, Shed)>,
}

/// A flow's parts on one shard, before they are put together there.
pub struct FlowParts {
    /// The shard that they are for.
    pub shard: usize,
    /// Which of the flow's shards that is.
    pub(crate) place: Placement,
    pub(crate) plan: Arc<FlowPlan>,
    pub(crate) graph: Graph,
    pub(crate) schema: SharedSchema,
    pub(crate) cells: Arc<[Arc<Cells>]>,
    pub(crate) control: Arc<FlowControl>,
    pub(crate) budget: Budget,
    pub(crate) slab_bytes: usize,
    pub(crate) linger_us: u64,
    pub(crate) sources: Vec<SourceParts>,
    pub(crate) remotes: Vec<RemoteParts>,
    pub(crate) loops: Vec<Downstream<Slab>>,
    /// By exit; none for one whose queue is kept.
    pub(crate) exits: Vec<Option<ExitParts>>,
    /// By exit: slabs of its queue.
    pub(crate) slabs: Vec<usize>,
    pub(crate) outlets: Vec<OutletParts>,
    pub(crate) letters: Option<Upstream<Slab>>,
    pub(crate) letters_sink: Option<OutletParts>,
    pub(crate) checkpoints: Option<CheckpointSlot>,
    pub(crate) states: Arc<[SavedState]>,
    pub(crate) spill_dir: Option<PathBuf>,
    /// Set when only some of its parts are new.
    pub(crate) amends: Option<Amends>,
}

/// Memory that a flow takes on so many shards: slabs and connectors' buffers.
#[must_use]
pub fn memory_bytes(plan: &FlowPlan, shards: usize, slab_bytes: usize) -> u64 {
    let shards = if plan.partition.is_some() { shards } else { 1 };
    let slabs = Slabs::of(plan, &Graph::of(plan), shards, slab_bytes).total();
    let slabs = (slabs as u64).saturating_mul(slab_bytes as u64);
    slabs.saturating_add(buffer_bytes(plan, shards, slab_bytes))
}

/// Wires a flow.
#[must_use]
pub fn wire(plan: &Arc<FlowPlan>, options: &WireOptions<'_>) -> Wired {
    Wiring::new(plan, options, None).wire()
}

/// Wires what is new of a flow that runs. `home` is where it was.
#[must_use]
pub fn rewire(plan: &Arc<FlowPlan>, options: &WireOptions<'_>, of: Amended<'_>) -> Wired {
    Wiring::new(plan, options, Some(of)).wire()
}

struct Wiring<'a> {
    plan: &'a Arc<FlowPlan>,
    options: &'a WireOptions<'a>,
    graph: Graph,
    slabs: Slabs,
    /// The shards with a part of the flow.
    shards: Vec<usize>,
    schema: SharedSchema,
    positions: Vec<PositionKey>,
    /// By exit, for the metrics: one per shard.
    exit_meters: Vec<Vec<Arc<Meter>>>,
    /// By source.
    lane_meters: Vec<Vec<Arc<Meter>>>,
    /// By exit: slabs of its queues.
    exit_slabs: Vec<usize>,
    home: usize,
    amended: Option<Amended<'a>>,
}

impl<'a> Wiring<'a> {
    fn new(
        plan: &'a Arc<FlowPlan>,
        options: &'a WireOptions<'a>,
        amended: Option<Amended<'a>>,
    ) -> Self {
        let graph = Graph::of(plan);
        let all = options.bells.len();
        let home = amended.map_or(options.home, |of| of.joints.home);
        let shards = if plan.partition.is_some() { (0..all).collect() } else { vec![home] };
        let slabs = Slabs::of(plan, &graph, shards.len(), options.slab_bytes);
        Self {
            plan,
            options,
            exit_slabs: slabs.exits.clone(),
            slabs,
            shards,
            home,
            amended,
            schema: amended.map_or_else(SharedSchema::new, |of| of.joints.schema.clone()),
            positions: Vec::new(),
            exit_meters: vec![Vec::new(); graph.exits()],
            lane_meters: vec![Vec::new(); plan.sources.len()],
            graph,
        }
    }

    fn wire(mut self) -> Wired {
        let components = components(self.plan);
        let names = components.iter().map(|(name, _)| name.clone()).collect();
        let control = Arc::new(match self.amended {
            Some(of) => FlowControl::after(of.control, names),
            None => FlowControl::new(names),
        });
        let all = self.options.bells.len();
        let mut metrics = FlowMetrics::new(self.plan.name.as_str(), components, all);
        if let Some(of) = self.amended {
            metrics.go_on(of.metrics);
        }
        let mut parts: Vec<_> =
            self.shards.iter().map(|shard| self.empty_parts(*shard, &metrics, &control)).collect();
        self.add_sources(&mut parts);
        self.add_sinks(&mut parts);
        self.add_loops(&mut parts);
        self.add_letters(&mut parts);
        metrics.edges = self.edges();
        let slot = |part: &FlowParts| Some((part.shard, part.checkpoints.clone()?));
        let checkpoints: Vec<_> = parts.iter().filter_map(slot).collect();
        parts.iter_mut().for_each(|part| part.slabs.clone_from(&self.exit_slabs));
        let joints = Joints {
            home: self.home,
            schema: self.schema,
            exits: self.exit_slabs.into_iter().zip(self.exit_meters).collect(),
            lanes: self.lane_meters,
            positions: self.positions.clone(),
            checkpoints: checkpoints.clone(),
        };
        Wired { parts, metrics, control, positions: self.positions, checkpoints, joints }
    }

    /// What a component was in the version before.
    fn former(&self, of: impl Fn(&Keep) -> &[Former], at: usize) -> Option<usize> {
        self.amended.and_then(|amended| of(amended.keep)[at].kept())
    }

    /// What goes on of another version.
    fn amends(&self, shard: usize) -> Option<(Amends, Arc<[Arc<Cells>]>)> {
        let of = self.amended?;
        let (keep, control) = (of.keep.clone(), of.control.clone());
        let old = keep.old_sinks_at();
        let name = |at: &usize| control.components[old + at].clone();
        let leaving: Vec<_> = keep.leaving_sinks.iter().map(name).collect();
        let cells = &of.metrics.shards[shard];
        let cells = keep.leaving_sinks.iter().map(|at| cells[old + at].clone()).collect();
        Some((Amends { control, keep, leaving }, cells))
    }

    fn empty_parts(
        &self,
        shard: usize,
        metrics: &FlowMetrics,
        control: &Arc<FlowControl>,
    ) -> FlowParts {
        let index = self.shards.iter().position(|s| *s == shard).unwrap_or(0);
        let (index, count) = (index as u16, self.shards.len() as u16);
        let mut cells = metrics.shards[shard].clone();
        let amends = self.amends(shard).map(|(amends, leaving)| {
            cells = cells.iter().chain(&*leaving).cloned().collect();
            amends
        });
        let joints = self.amended.map(|of| of.joints);
        let kept = joints.and_then(|joints| joints.checkpoints.iter().find(|(at, _)| *at == shard));
        let kept = kept.map(|(_, slot)| slot.clone());
        let checkpoints = self.options.keep_positions.then(|| kept.unwrap_or_default());
        FlowParts {
            shard,
            place: Placement::new(index, count, self.options.claims),
            plan: self.plan.clone(),
            graph: self.graph.clone(),
            schema: self.schema.clone(),
            cells,
            control: control.clone(),
            budget: self.options.budget.clone(),
            slab_bytes: self.options.slab_bytes,
            linger_us: self.options.linger_us,
            sources: Vec::new(),
            remotes: Vec::new(),
            loops: Vec::new(),
            exits: Vec::new(),
            slabs: Vec::new(),
            outlets: Vec::new(),
            letters: None,
            letters_sink: None,
            checkpoints,
            states: self.options.states.clone(),
            spill_dir: self.options.data_dir.map(|d| d.join("spill").join(&self.plan.name.value)),
            amends,
        }
    }

    fn edge(&self, slabs: usize, from: usize, to: usize) -> (Upstream<Slab>, Downstream<Slab>) {
        let slab = || Slab::new(self.options.slab_bytes, self.options.budget);
        let slabs = (0..slabs).map(|_| slab()).collect();
        // Both ends on one shard: it looks for itself before it parks.
        let bell = |shard: usize| match from == to {
            true => Doorbell::silent(),
            false => self.options.bells[shard].clone(),
        };
        edge(slabs, MARKERS, bell(from), bell(to))
    }

    fn home(&self) -> usize {
        self.shards.iter().position(|s| *s == self.home).unwrap_or(0)
    }

    fn add_sources(&mut self, parts: &mut [FlowParts]) {
        for (at, plan) in self.plan.sources.iter().enumerate() {
            let former = self.former(|keep| &keep.sources, at);
            if let (Some(former), Some(of)) = (former, self.amended) {
                self.lane_meters[at].clone_from(&of.joints.lanes[former]);
                let own = of.joints.positions.iter().filter(|p| p.source == plan.name.value);
                self.positions.extend(own.cloned());
                continue;
            }
            for from in 0..parts.len() {
                if from != self.home() && !source_on_each_shard(&plan.kind) {
                    continue;
                }
                let lanes = self.lanes(at, from, parts);
                let (name, shard) = (plan.name.as_str(), self.shards[from]);
                let slot = self.options.keep_positions.then(PositionSlot::default);
                if let Some(slot) = slot.clone() {
                    self.positions.push(PositionKey { source: name.to_owned(), shard, slot });
                }
                // Every shard is told all positions: what a source reads may
                // have been another shard's before the restart.
                let saved = self.options.restore.iter().filter(|(n, ..)| n == name);
                let restore = saved.map(|(.., bytes)| bytes.clone()).collect();
                parts[from].sources.push(SourceParts { at, lanes, restore, slot });
            }
        }
    }

    /// The queues from a source to all other shards.
    fn lanes(
        &mut self,
        source: usize,
        from: usize,
        parts: &mut [FlowParts],
    ) -> Vec<Option<Upstream<Slab>>> {
        if self.plan.partition.is_none() {
            return Vec::new();
        }
        let mut lanes = Vec::new();
        for (to, part) in parts.iter_mut().enumerate() {
            if to == from {
                lanes.push(None);
                continue;
            }
            let (up, downstream) = self.edge(self.slabs.lane, self.shards[from], self.shards[to]);
            self.lane_meters[source].push(up.meter().clone());
            part.remotes.push(RemoteParts { source, downstream });
            lanes.push(Some(up));
        }
        lanes
    }

    fn add_sinks(&mut self, parts: &mut [FlowParts]) {
        for (sink, plan) in self.plan.sinks.iter().enumerate() {
            let former = self.former(|keep| &keep.sinks, sink);
            if let (Some(former), Some(of)) = (former, self.amended) {
                self.keep_exit(sink, former, of.joints, parts);
                continue;
            }
            let each = sink_on_each_shard(plan);
            let home = self.home();
            let mut inputs: Vec<Vec<_>> = parts.iter().map(|_| Vec::new()).collect();
            for (from, part) in parts.iter_mut().enumerate() {
                let to = if each { from } else { home };
                let shed = Shed::default();
                let slabs = self.slabs.exits[sink];
                let (upstream, downstream) = self.edge(slabs, self.shards[from], self.shards[to]);
                self.exit_meters[sink].push(upstream.meter().clone());
                inputs[to].push((downstream, shed.clone()));
                let when_full = self.when_full(sink);
                part.exits.push(Some(ExitParts { upstream, when_full, shed }));
            }
            for (part, inputs) in parts.iter_mut().zip(inputs) {
                if !inputs.is_empty() {
                    part.outlets.push(OutletParts { sink, inputs });
                }
            }
        }
    }

    /// An exit whose queues are there already.
    fn keep_exit(&mut self, exit: usize, former: usize, of: &Joints, parts: &mut [FlowParts]) {
        let (slabs, meters) = &of.exits[former];
        self.exit_slabs[exit] = *slabs;
        self.exit_meters[exit].clone_from(meters);
        parts.iter_mut().for_each(|part| part.exits.push(None));
    }

    fn add_loops(&mut self, parts: &mut [FlowParts]) {
        for at in 0..self.graph.loops.len() {
            let exit = self.plan.sinks.len() + at;
            if let Some(of) = self.amended {
                // The ways back are the same, or nothing is kept at all.
                let former = of.joints.exits.len() - self.graph.loops.len() + at;
                self.keep_exit(exit, former, of.joints, parts);
                continue;
            }
            let when_full = self.when_full(exit);
            for (part, shard) in parts.iter_mut().zip(&self.shards) {
                let (upstream, downstream) = self.edge(self.slabs.exits[exit], *shard, *shard);
                self.exit_meters[exit].push(upstream.meter().clone());
                let shed = Shed::default();
                part.exits.push(Some(ExitParts { upstream, when_full, shed }));
                part.loops.push(downstream);
            }
        }
    }

    fn add_letters(&mut self, parts: &mut [FlowParts]) {
        let kept = self.amended.and_then(|of| of.keep.letters).and_then(Former::kept);
        if self.plan.dead_letters.is_none() || kept.is_some() {
            return;
        }
        let home = self.home();
        let mut inputs = Vec::new();
        for (from, part) in parts.iter_mut().enumerate() {
            let (up, down) = self.edge(self.slabs.letters, self.shards[from], self.shards[home]);
            part.letters = Some(up);
            inputs.push((down, Shed::default()));
        }
        let sink = self.plan.sinks.len();
        parts[home].letters_sink = Some(OutletParts { sink, inputs });
    }

    fn when_full(&self, exit: usize) -> WhenFull {
        match exit.checked_sub(self.plan.sinks.len()) {
            None => self.plan.sinks[exit].when_full.value,
            Some(at) => {
                let back = self.graph.loops[at];
                let input = &self.plan.operators[back.operator].inputs[back.input];
                input.bound.as_ref().map_or(WhenFull::Block, |bound| bound.when_full.value)
            }
        }
    }

    fn drops(&self, exit: usize) -> bool {
        self.when_full(exit).drops()
    }

    /// The graph's edges for the metrics. An edge that is fused into a chain
    /// has the credit of the queues behind it.
    fn edges(&self) -> Vec<Edge> {
        let plan = &self.plan;
        let mut edges = Vec::new();
        let behind = |operator: usize| {
            let fronts = self.graph.fronts.iter().zip(&self.lane_meters);
            fronts.filter(move |(front, _)| front.last() == Some(&operator))
        };
        for (at, source) in plan.sources.iter().enumerate() {
            let own = self.graph.fronts[at].is_empty();
            let lanes = if own { self.lane_meters[at].as_slice() } else { &[] };
            self.add_edges(&mut edges, source.name.as_str(), &self.graph.sources[at], lanes);
        }
        for (at, operator) in plan.operators.iter().enumerate() {
            let ports = ports(&operator.kind).into_iter().map(Some);
            let outputs = std::iter::once(None).chain(ports).zip(&self.graph.operators[at]);
            for (port, targets) in outputs {
                let name = operator.name.as_str();
                let from = port.map_or_else(|| name.to_owned(), |port| format!("{name}.{port}"));
                let lanes: Vec<_> = behind(at).flat_map(|(_, lanes)| lanes.clone()).collect();
                self.add_edges(&mut edges, &from, targets, &lanes);
            }
        }
        edges
    }

    fn add_edges(
        &self,
        edges: &mut Vec<Edge>,
        from: &str,
        targets: &[Target],
        lanes: &[Arc<Meter>],
    ) {
        for target in targets {
            let to = match *target {
                Target::Operator(at) => self.graph.operator(at),
                Target::Exit(exit) => self.graph.behind(exit),
            };
            let mut exits = self.graph.reachable(std::slice::from_ref(target));
            // A queue that drops holds nobody up but whoever writes to it.
            exits.retain(|exit| *target == Target::Exit(*exit) || !self.drops(*exit));
            let behind = exits.iter().flat_map(|exit| &self.exit_meters[*exit]);
            let meters = behind.chain(lanes).cloned().collect();
            let (to, _) = components(self.plan).swap_remove(to);
            edges.push(Edge { from: from.to_owned(), to, meters });
        }
    }
}
