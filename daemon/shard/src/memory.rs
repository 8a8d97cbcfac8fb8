//! Every slab that a flow is given, in one sum.

use ringmain_config::{FlowPlan, SinkPlan, SourcePlan};
use ringmain_connectors::source_bytes;

use crate::graph::{Graph, ports, sink_on_each_shard, source_on_each_shard};
use crate::keep::{Former, Keep};
use crate::spill;

/// Slabs of an edge to a sink, at least: enough for the sink to work on some
/// while others fill.
const EXIT_SLABS: usize = 8;

/// Slabs of an exchange edge. There are shards x shards of them.
const LANE_SLABS: usize = 4;

/// Slabs of the edge to the dead letters.
const LETTER_SLABS: usize = 4;

/// How many slabs stand where. Computed once, used to build and to account.
#[derive(Clone, Debug)]
pub(crate) struct Slabs {
    /// By exit: of each shard's edge to it.
    pub exits: Vec<usize>,
    /// Of each exchange edge.
    pub lane: usize,
    /// Of each shard's edge to the dead letters; 0 without.
    pub letters: usize,
    /// Of each shard: chain, batches under way.
    pub shard: usize,
    lanes: usize,
    shards: usize,
}

impl Slabs {
    pub(crate) fn of(plan: &FlowPlan, graph: &Graph, shards: usize, slab_bytes: usize) -> Self {
        let mut exits: Vec<_> = graph
            .needs_max()
            .into_iter()
            .map(|need| EXIT_SLABS.max(need.saturating_mul(2)))
            .collect();
        for (at, back) in graph.loops.iter().enumerate() {
            let input = &plan.operators[back.operator].inputs[back.input];
            let bound = input.bound.as_ref().map_or(0, |bound| bound.bytes);
            // The bound of a way back is the user's.
            let slabs = usize::try_from(bound).unwrap_or(usize::MAX).div_ceil(slab_bytes);
            exits[plan.sinks.len() + at] = slabs.max(4);
        }
        let named_ports: usize = plan.operators.iter().map(|op| ports(&op.kind).len()).sum();
        let own: usize = plan.operators.iter().map(|op| crate::keyed::slabs(&op.kind)).sum();
        let exchanges = if plan.partition.is_some() { plan.sources.len() } else { 0 };
        Self {
            exits,
            lane: LANE_SLABS,
            letters: if plan.dead_letters.is_some() { LETTER_SLABS } else { 0 },
            shard: 1 // the batch that a queue or a timer brings
                + plan.sources.len() // the batch under way of each source
                + plan.operators.len() + 1 // copies for branches, as deep as the graph
                + named_ports // a batch for each port
                + own // batches that operators build
                + 1, // dead letters that gather
            lanes: exchanges * shards * shards.saturating_sub(1),
            shards,
        }
    }

    /// All of them.
    pub(crate) fn total(&self) -> usize {
        let exits = self.exits.iter().fold(0, |sum: usize, slabs| sum.saturating_add(*slabs));
        let each = exits.saturating_add(self.letters + self.shard);
        each.saturating_mul(self.shards).saturating_add(self.lanes * self.lane)
    }
}

/// What a new version of a flow takes beside the one that it takes the place
/// of, as long as both are there.
#[must_use]
pub fn added_bytes(plan: &FlowPlan, keep: &Keep, shards: usize, slab_bytes: usize) -> u64 {
    let shards = if plan.partition.is_some() { shards } else { 1 };
    let slabs = Slabs::of(plan, &Graph::of(plan), shards, slab_bytes);
    let fresh = |formers: &[Former]| -> Vec<bool> {
        formers.iter().map(|former| former.kept().is_none()).collect()
    };
    let (sources, operators, sinks) =
        (fresh(&keep.sources), fresh(&keep.operators), fresh(&keep.sinks));
    let exits = slabs.exits.iter().zip(&sinks).filter(|(_, fresh)| **fresh);
    let exits: usize = exits.map(|(slabs, _)| *slabs).fold(0, usize::saturating_add);
    let inlets = sources.iter().filter(|fresh| **fresh).count();
    let lanes = if plan.partition.is_some() { (shards - 1) * slabs.lane } else { 0 };
    let letters = keep.letters.filter(|former| former.kept().is_none());
    let exits = exits.saturating_add(letters.map_or(0, |_| slabs.letters));
    let added = exits.saturating_add(inlets * (1 + lanes)).saturating_mul(shards);
    let of = |list: &[bool], at: &mut usize| {
        *at += 1;
        list[*at - 1]
    };
    let dead_letters = plan.dead_letters.clone().filter(|_| letters.is_some());
    let mut alone = FlowPlan { dead_letters, ..plan.clone() };
    let (mut a, mut b, mut c) = (0, 0, 0);
    alone.sources.retain(|_| of(&sources, &mut a));
    alone.operators.retain(|_| of(&operators, &mut b));
    alone.sinks.retain(|_| of(&sinks, &mut c));
    (added as u64)
        .saturating_mul(slab_bytes as u64)
        .saturating_add(buffer_bytes(&alone, shards, slab_bytes))
}

/// Bytes that the connectors' buffers and the operators' states may take, over
/// all shards.
pub(crate) fn buffer_bytes(plan: &FlowPlan, shards: usize, slab_bytes: usize) -> u64 {
    let instances = |each: bool| if each { shards as u64 } else { 1 };
    let source = |s: &SourcePlan| source_bytes(s) * instances(source_on_each_shard(&s.kind));
    let sources: u64 = plan.sources.iter().map(source).sum();
    let sinks = plan.sinks.iter().chain(&plan.dead_letters);
    let sinks: u64 = sinks.map(|s| s.buffer_bytes * instances(sink_on_each_shard(s))).sum();
    // What operators remember, where messages of all keys may come to one.
    let chains = if plan.partition.is_some() { shards as u64 } else { 1 };
    let states = plan.operators.iter().map(|op| crate::keyed::state_bytes(&op.kind));
    let states = states.fold(0, u64::saturating_add).saturating_mul(chains);
    let spill = |s: &SinkPlan| {
        spill::memory_bytes(s.buffer_bytes, slab_bytes) * instances(sink_on_each_shard(s))
    };
    let spilling = plan.sinks.iter().filter(|s| s.spill.is_some());
    let spilling = spilling.map(spill).fold(0, u64::saturating_add);
    [sinks, states, spilling].into_iter().fold(sources, u64::saturating_add)
}
