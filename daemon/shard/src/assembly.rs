//! Puts a flow's parts together, on the shard that they are for.

use ringmain_config::SinkPlan;
use ringmain_connectors::{Placement, sink, source};
use ringmain_ops::Operator;
use ringmain_ops::chain::{Chain, Node, Target};
use ringmain_ring::{Downstream, Span};
use ringmain_slab::{Budget, SharedSchema, Slab};

use crate::checkpoint::{Checkpoints, SavedState};
use crate::dead_letter::{self, DeadLetters};
use crate::exchange::{Exchange, Keys, owner};
use crate::exits::{Exit, Exits};
use crate::flow::{FlowShard, Owner};
use crate::inlet::{LoopInlet, Positions, RemoteInlet, SourceInlet, Stage};
use crate::operators;
use crate::outlet::Outlet;
use crate::replay::Intake;
use crate::scoped::Holdings;
use crate::spill::{Spill, SpillParts};
use crate::tap::{self, Taps};
use crate::wiring::{FlowParts, OutletParts};

/// What refused messages of the dead letters' own sink are gathered in: they
/// are logged, so hardly anything.
pub(crate) const LAST_RESORT_BYTES: usize = 1024;

/// Hands out numbers for the owners of operations.
pub(crate) struct Owners<'a> {
    pub flow: usize,
    pub table: &'a mut Vec<(usize, Owner)>,
}

impl Owners<'_> {
    pub(crate) fn add(&mut self, owner: Owner) -> u32 {
        self.table.push((self.flow, owner));
        (self.table.len() - 1) as u32
    }
}

/// Builds the flow. Nothing is opened yet.
pub(crate) fn assemble(parts: FlowParts, owners: &mut Owners<'_>) -> Result<FlowShard, String> {
    Assembly { owners, inlets: 0 }.flow(parts)
}

pub(crate) struct Assembly<'a, 'b> {
    pub owners: &'a mut Owners<'b>,
    /// The number of the next inlet.
    pub inlets: u16,
}

impl Assembly<'_, '_> {
    fn flow(&mut self, mut parts: FlowParts) -> Result<FlowShard, String> {
        // Key fields get their slots before any message can use them up.
        let keys = keys(&parts);
        let chain = chain(&parts)?;
        let checkpoints = checkpoints(&parts, chain.is_stateful());
        let sources = self.sources(&mut parts, keys, chain.is_stateful(), checkpoints.is_some())?;
        let remotes = self.remotes(&mut parts);
        let loops = self.loops(&mut parts);
        let outlets = std::mem::take(&mut parts.outlets).into_iter().enumerate();
        let outlets = outlets.map(|(at, o)| self.outlet(&parts, o, Owner::Outlet(at)));
        let outlets = outlets.collect::<Result<Vec<_>, _>>()?;
        let letters_sink = parts.letters_sink.take();
        let dead_outlet = letters_sink.map(|o| self.outlet(&parts, o, Owner::DeadOutlet));
        let dead_outlet = dead_outlet.transpose()?;
        let inlet = self.inlet();
        let intake = intake(&parts, inlet);
        let letters = parts.letters.take();
        let dead = dead_letters(&parts, letters, parts.slab_bytes);
        let mut exits = exits(&mut parts, dead);
        exits.origins = origins(&sources, &remotes);
        Ok(FlowShard {
            timer_needs: parts.graph.timer_needs(),
            sinks: parts.plan.sinks.len(),
            spare: slab(&parts),
            last_resort: dead_letters(&parts, None, LAST_RESORT_BYTES),
            control: parts.control,
            cells: parts.cells,
            sources,
            remotes,
            loops,
            chain,
            exits,
            outlets,
            dead_outlet,
            stopping: false,
            operators_ended: false,
            exits_drained: false,
            dead_drained: false,
            done: false,
            letters: 0,
            checkpoints,
            timers: self.inlet(),
            emitted: 0,
            checkpoint_wanted: false,
            shard: parts.place.shard,
            scripts_seen: 0,
            intake,
            inlets: self.inlets,
            held: false,
            paused: false,
            settling: false,
            legacy: false,
            gone: Vec::new(),
            floor: 0,
        })
    }

    fn inlet(&mut self) -> u16 {
        self.inlets += 1;
        self.inlets - 1
    }

    pub(crate) fn sources(
        &mut self,
        parts: &mut FlowParts,
        mut keys: Option<Keys>,
        stateful: bool,
        in_checkpoints: bool,
    ) -> Result<Vec<SourceInlet>, String> {
        let mut inlets = Vec::new();
        for part in std::mem::take(&mut parts.sources) {
            let plan = &parts.plan.sources[part.at];
            let name = plan.name.as_str();
            // A source that is on one shard only has no twins to share with.
            let twins = crate::graph::source_on_each_shard(&plan.kind);
            let alone = Placement::new(0, 1, &parts.place.claims);
            let place = if twins { &parts.place } else { &alone };
            let failed = |error| format!("{name}: {error}");
            let mut source = source(plan, &parts.schema, place).map_err(failed)?;
            for position in &part.restore {
                source.restore(position).map_err(failed)?;
            }
            let targets = parts.graph.entry(part.at).to_vec();
            let exchange = match keys.take() {
                Some(own) => {
                    keys = self::keys(parts);
                    let me = usize::from(parts.place.shard);
                    Some(Exchange::new(own, me, part.lanes, parts.linger_us, stateful))
                }
                None => None,
            };
            let told = source.wants_acks().then_some(0);
            inlets.push(SourceInlet {
                source,
                component: part.at,
                owner: self.owners.add(Owner::Source(inlets.len())),
                id: self.inlet(),
                needs: entry_needs(parts, &targets),
                front: parts.graph.fronts[part.at].clone(),
                targets,
                exchange,
                positions: part.slot.clone().filter(|_| !in_checkpoints).map(Positions::new),
                slot: part.slot,
                holdings: Holdings::default(),
                stage: Stage::Running,
                number: 0,
                work: slab(parts),
                stuck: false,
                refront: false,
                told,
                timed_us: 0,
            });
        }
        Ok(inlets)
    }

    pub(crate) fn remotes(&mut self, parts: &mut FlowParts) -> Vec<RemoteInlet> {
        let remotes = std::mem::take(&mut parts.remotes).into_iter();
        let inlet = |part: crate::wiring::RemoteParts| {
            let targets = parts.graph.entry(part.source).to_vec();
            let needs = entry_needs(parts, &targets);
            RemoteInlet {
                source: part.source,
                downstream: part.downstream,
                id: self.inlet(),
                targets,
                needs,
                ended: false,
                barred: false,
                whole: parts.graph.sources[part.source].clone(),
                behind: false,
                ahead: false,
            }
        };
        remotes.map(inlet).collect()
    }

    fn loops(&mut self, parts: &mut FlowParts) -> Vec<LoopInlet> {
        let loops = std::mem::take(&mut parts.loops).into_iter().enumerate();
        loops.map(|(at, downstream)| way_back(parts, at, downstream, self.inlet())).collect()
    }

    pub(crate) fn outlet(
        &mut self,
        parts: &FlowParts,
        outlet: OutletParts,
        owner: Owner,
    ) -> Result<Outlet, String> {
        let letters = matches!(owner, Owner::DeadOutlet | Owner::StagedDead);
        let plan = if letters {
            parts.plan.dead_letters.as_ref().expect("their sink's parts are here")
        } else {
            &parts.plan.sinks[outlet.sink]
        };
        let schema = if letters { dead_letter::schema() } else { parts.schema.clone() };
        let twins = crate::graph::sink_on_each_shard(plan);
        let alone = Placement::new(0, 1, &parts.place.claims);
        let place = if twins { &parts.place } else { &alone };
        let sink = sink(plan, &schema, place).map_err(|e| format!("{}: {e}", plan.name))?;
        let component = parts.graph.sink(outlet.sink);
        let owner = self.owners.add(owner);
        let spill = spill(parts, plan, place, &schema)?;
        Ok(Outlet::new(sink, component, owner, outlet.inputs, parts.cells.clone(), spill))
    }
}

/// The way back number `at`.
pub(crate) fn way_back(
    parts: &FlowParts,
    at: usize,
    downstream: Downstream<Slab>,
    id: u16,
) -> LoopInlet {
    let back: crate::graph::LoopBack = parts.graph.loops[at];
    let targets = vec![Target::Operator(back.operator)];
    let mut needs = parts.graph.needs(&targets);
    // The batch that is taken out gives its slab back before it runs.
    let exit = parts.plan.sinks.len() + at;
    needs[exit] = needs[exit].saturating_sub(1);
    LoopInlet { downstream, exit, id, targets, needs }
}

/// Where the messages of a sink that spills wait.
fn spill(
    parts: &FlowParts,
    plan: &SinkPlan,
    place: &Placement,
    schema: &SharedSchema,
) -> Result<Option<Spill>, String> {
    let shard = place.shard;
    let Some(spill) = &plan.spill else { return Ok(None) };
    let (flow, sink) = (parts.plan.name.as_str(), plan.name.as_str());
    let Some(folder) = &parts.spill_dir else {
        return Err(format!("{sink}: when_full: there is no data_dir to spill to"));
    };
    if let Some(left) = crate::spill::left_behind(&folder.join(sink), place.shards) {
        return Err(format!(
            "{sink}: spill: {} holds messages that a shard stored which is not there now: start \
             once with as many cores as then, or move the folder away",
            left.display()
        ));
    }
    Ok(Some(Spill::new(SpillParts {
        plan: spill.clone(),
        dir: folder.join(sink).join(format!("shard-{shard}")),
        owner: format!("{flow}/{sink}/{shard}"),
        schema: schema.clone(),
        buffer_bytes: plan.buffer_bytes,
        slab_bytes: parts.slab_bytes,
        budget: parts.budget.clone(),
    })))
}

/// What dead letters go in again with.
pub(crate) fn intake(parts: &FlowParts, inlet: u16) -> Intake {
    let sinks = parts.plan.sinks.len();
    let slabs = parts.slabs.iter().enumerate();
    Intake {
        graph: parts.graph.clone(),
        schema: parts.schema.clone(),
        keys: keys(parts),
        spared: slabs.map(|(at, slabs)| if at < sinks { 0 } else { slabs / 2 }).collect(),
        me: parts.place.shard,
        shards: usize::from(parts.place.shards),
        inlet,
        number: 0,
        seen: 0,
        aside: 0,
        current: None,
    }
}

/// By inlet, the component of its source.
pub(crate) fn origins(sources: &[SourceInlet], remotes: &[RemoteInlet]) -> Vec<Option<usize>> {
    let sources = sources.iter().map(|inlet| (inlet.id, inlet.component));
    let all: Vec<_> = sources.chain(remotes.iter().map(|inlet| (inlet.id, inlet.source))).collect();
    let count = all.iter().map(|(id, _)| usize::from(*id) + 1).max().unwrap_or(0);
    let mut origins = vec![None; count];
    all.into_iter().for_each(|(id, component)| origins[usize::from(id)] = Some(component));
    origins
}

/// What a batch from outside a cycle needs: half of each way back stays free,
/// so that what goes round can always move on and get out.
pub(crate) fn entry_needs(parts: &FlowParts, targets: &[Target]) -> Vec<usize> {
    let mut needs = parts.graph.needs(targets);
    for (need, slabs) in needs.iter_mut().zip(&parts.slabs).skip(parts.plan.sinks.len()) {
        if *need > 0 {
            *need += slabs / 2;
        }
    }
    needs
}

pub(crate) fn keys(parts: &FlowParts) -> Option<Keys> {
    let partition = parts.plan.partition.as_ref()?;
    Some(Keys::new(&parts.plan.key_fields(), partition.count, &parts.schema))
}

pub(crate) fn checkpoints(parts: &FlowParts, stateful: bool) -> Option<Checkpoints> {
    let slot = parts.checkpoints.clone().filter(|_| stateful)?;
    parts.control.note_stateful();
    let names = parts.plan.operators.iter().map(|o| o.name.value.clone()).collect();
    let count = parts.plan.partition.as_ref().map_or(0, |p| p.count);
    let (me, shards) = (parts.place.shard, usize::from(parts.place.shards));
    Some(Checkpoints::new(slot, count, me, shards, names))
}

/// Gives an operator the states of this shard's partitions back.
fn restore(operator: &mut dyn Operator, name: &str, parts: &FlowParts) -> Result<(), String> {
    let (me, shards) = (parts.place.shard, usize::from(parts.place.shards));
    let mine = |s: &&SavedState| s.operator == name && owner(s.partition, shards) == me;
    for state in parts.states.iter().filter(mine) {
        let format = operator.state_format().unwrap_or("none");
        if format != state.format {
            return Err(format!(
                "{name}: the checkpoint has state in the format {}, the operator takes {format}; \
                 give the operator another name to begin without state",
                state.format
            ));
        }
        let restored = operator.restore(state.partition, &state.bytes);
        restored.map_err(|why| format!("{name}: the state in the checkpoint: {why}"))?;
    }
    Ok(())
}

fn chain(parts: &FlowParts) -> Result<Chain, String> {
    let setting = operators::Setting::of(&parts.plan);
    let mut nodes = Vec::new();
    for (at, plan) in parts.plan.operators.iter().enumerate() {
        let component = parts.graph.operator(at);
        let setting = setting.counting(parts.cells[component].named());
        let mut operator = operators::compile(plan, &setting, &parts.schema)
            .map_err(|error| format!("{}: {}", plan.name, error.message))?;
        restore(&mut *operator, plan.name.as_str(), parts)?;
        nodes.push(Node { operator, component, outputs: parts.graph.operators[at].clone() });
    }
    Ok(Chain::new(nodes, parts.cells.clone(), parts.slab_bytes, &parts.budget))
}

/// By exit; none for those whose queues are kept.
pub(crate) fn exit_list(parts: &mut FlowParts) -> Vec<Option<Exit>> {
    let exits = std::mem::take(&mut parts.exits).into_iter().enumerate();
    let exit = |(at, part): (usize, crate::wiring::ExitParts)| Exit {
        upstream: part.upstream,
        when_full: part.when_full,
        shed: part.shed,
        component: parts.graph.behind(at),
        drained: false,
    };
    exits.map(|(at, part)| Some(exit((at, part?)))).collect()
}

fn exits(parts: &mut FlowParts, dead: DeadLetters) -> Exits {
    let exits = exit_list(parts);
    Exits {
        exits: exits.into_iter().flatten().collect(),
        leaving: Vec::new(),
        dead,
        cells: parts.cells.clone(),
        inlet: 0,
        origins: Vec::new(),
        span: Span { first: 0, last: 0 },
        now: ringmain_base::Now::default(),
        blocked: false,
        refused: 0,
        taps: taps(parts),
    }
}

pub(crate) fn taps(parts: &FlowParts) -> Taps {
    let (plan, components) = (&parts.plan, parts.control.components.len());
    Taps::new(tap::Place {
        schema: parts.schema.clone(),
        letters: dead_letter::schema(),
        dead_letters: plan.dead_letters.as_ref().map(|_| components - 1),
        first_sink: parts.graph.sink(0),
        components,
        slab_bytes: parts.slab_bytes,
        budget: parts.budget.clone(),
    })
}

pub(crate) fn dead_letters(
    parts: &FlowParts,
    upstream: Option<ringmain_ring::Upstream<Slab>>,
    bytes: usize,
) -> DeadLetters {
    let names = parts.control.components.clone();
    let (flow, schema) = (parts.plan.name.as_str(), parts.schema.clone());
    DeadLetters::new(flow, names, schema, upstream, bytes, &parts.budget)
}

fn slab(parts: &FlowParts) -> Slab {
    let budget: &Budget = &parts.budget;
    Slab::new(parts.slab_bytes, budget)
}
