//! Every slab that a flow is given, in one sum.

use ringmain_config::{FlowPlan, SinkPlan, SourcePlan};
use ringmain_connectors::source_bytes;

use crate::graph::{Graph, ports, sink_on_each_shard, source_on_each_shard};
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
