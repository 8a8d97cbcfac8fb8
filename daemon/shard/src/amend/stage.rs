//! Building and opening what is new of a version, beside the old one.

use std::sync::Arc;

use ringmain_base::Now;
use ringmain_base::limits::SLOTS_MAX;
use ringmain_metrics::Cells;
use ringmain_ops::Operator;
use ringmain_runtime::io::{EventKind, Io};

use super::{own_partitions, same_format};
use crate::assembly::{Assembly, LAST_RESORT_BYTES, Owners, dead_letters, exit_list, keys};
use crate::control::FlowControl;
use crate::dead_letter::DeadLetters;
use crate::exits::Exit;
use crate::flow::{FlowShard, Owner};
use crate::inlet::{RemoteInlet, SourceInlet};
use crate::keep::{Former, Keep};
use crate::operators;
use crate::outlet::Outlet;
use crate::wiring::{Amends, FlowParts};

/// Numbers of inlets are not given out again.
const INLETS_MAX: u16 = 10_000;

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
    pub(super) parts: FlowParts,
    pub(super) keep: Arc<Keep>,
    /// Names of all components, and behind them of sinks that leave.
    pub(super) names: Vec<String>,
    pub(super) operators: Vec<Option<Box<dyn Operator>>>,
    pub(super) sources: Vec<SourceInlet>,
    pub(super) remotes: Vec<RemoteInlet>,
    pub(super) outlets: Vec<Outlet>,
    pub(super) dead_outlet: Option<Outlet>,
    pub(super) exits: Vec<Option<Exit>>,
    pub(super) inlets: u16,
    pub(super) stateful: bool,
    /// Takes what its connectors refuse meanwhile.
    pub(super) dead: DeadLetters,
    pub(super) cells: Arc<[Arc<Cells>]>,
    pub(super) parting: bool,
    pub(super) parted: bool,
    /// Operators that leave and may still give something out, the next one
    /// last; and until when they may.
    pub(super) letting: Option<(Vec<usize>, u64)>,
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
