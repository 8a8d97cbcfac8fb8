//! What of a flow goes on in its next version, and what has to be made anew.
//!
//! A component is kept if everything that it is built from is equal: its own
//! definition without its inputs, which are the graph's, and of the flow the
//! partition key and the folder. Decided once, by the controller; every shard
//! carries it out ([`crate::amend`]).
//!
//! Deliberately absent: changes that would take the ground from under what is
//! kept (the partition key, a way back). Such a flow is replaced as a whole, and
//! told why.

use std::sync::Arc;

use ringmain_config::{FlowPlan, SinkPlan, SourcePlan};
use ringmain_connectors::{sinks_hand_over as hands_over, sinks_overlap, sources_overlap};
use ringmain_ring::Meter;
use ringmain_slab::SharedSchema;

use crate::checkpoint::CheckpointSlot;
use crate::graph::Graph;
use crate::wiring::PositionKey;

/// What a component was in the version before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Former {
    /// The same, under this number of its kind.
    Kept(usize),
    /// Another one of its name.
    Changed(usize),
    /// Nothing.
    New,
}

impl Former {
    pub(crate) fn kept(self) -> Option<usize> {
        match self {
            Self::Kept(at) => Some(at),
            Self::Changed(_) | Self::New => None,
        }
    }
}

/// Which sinks of the old version one of the new waits for, so that what was
/// given to them arrives first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follows {
    pub before: Vec<usize>,
    /// It cannot be opened while they are open.
    pub late: bool,
    /// It can send what the one before it does not get rid of.
    pub inherits: bool,
}

/// How the components of two versions of a flow belong together.
#[derive(Debug)]
pub struct Keep {
    pub(crate) sources: Vec<Former>,
    pub(crate) operators: Vec<Former>,
    pub(crate) sinks: Vec<Former>,
    /// Of the dead letters' sink; none where there is none.
    pub(crate) letters: Option<Former>,
    /// By sink, the dead letters' behind the others.
    pub(crate) follows: Vec<Follows>,
    /// Sinks of the old version that are not kept; the dead letters' is the
    /// last of all.
    pub(crate) leaving_sinks: Vec<usize>,
    /// Sources of the old version that are not kept.
    pub(crate) leaving_sources: Vec<usize>,
    old_sinks_at: usize,
    parts: Parts,
    /// Operators whose state goes on.
    states: Vec<String>,
}

/// Names of components by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// They go on with what they have open and what they know.
    pub kept: Vec<String>,
    /// Built anew because they changed.
    pub rebuilt: Vec<String>,
    /// New.
    pub added: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

/// What of a wired flow its next version is joined to.
#[derive(Clone)]
pub struct Joints {
    pub(crate) home: usize,
    pub(crate) schema: SharedSchema,
    /// By exit: slabs of each shard's queue, and the queues' meters.
    pub(crate) exits: Vec<(usize, Vec<Arc<Meter>>)>,
    /// By source: meters of its lanes.
    pub(crate) lanes: Vec<Vec<Arc<Meter>>>,
    pub(crate) positions: Vec<PositionKey>,
    pub(crate) checkpoints: Vec<(usize, CheckpointSlot)>,
}

impl Keep {
    /// Works it out.
    ///
    /// # Errors
    /// Why the flow has to be replaced as a whole.
    pub fn of(old: &FlowPlan, new: &FlowPlan, joints: &Joints) -> Result<Self, String> {
        whole(old, new)?;
        let sources = former(&new.sources, &old.sources, |s| s.name.as_str(), PartialEq::eq);
        let same_kind =
            |a: &ringmain_config::OperatorPlan, b: &ringmain_config::OperatorPlan| a.kind == b.kind;
        let operators = former(&new.operators, &old.operators, |o| o.name.as_str(), same_kind);
        let sinks = former(&new.sinks, &old.sinks, |s| s.name.as_str(), same_sink);
        let leaving = |list: &[Former], count: usize| -> Vec<usize> {
            (0..count).filter(|at| !list.contains(&Former::Kept(*at))).collect()
        };
        let leaving_sources = leaving(&sources, old.sources.len());
        let letters = letters(old, new);
        let mut leaving_sinks = leaving(&sinks, old.sinks.len());
        if old.dead_letters.is_some() && letters.and_then(Former::kept).is_none() {
            leaving_sinks.push(old.sinks.len());
        }
        overlap(old, new, &sources, &leaving_sources)?;
        let follows = follows(old, new, sinks.iter().copied().chain(letters), &leaving_sinks);
        room(new, &sinks, joints)?;
        let mut follows = follows;
        // Dead letters are told apart from messages at the sink that takes
        // what it refuses itself, not in its queue.
        follows.iter_mut().skip(new.sinks.len()).for_each(|follows| follows.inherits = false);
        let mut keep = Self {
            sources,
            operators,
            sinks,
            letters,
            follows,
            leaving_sinks,
            leaving_sources,
            old_sinks_at: old.sources.len() + old.operators.len(),
            parts: Parts::default(),
            states: Vec::new(),
        };
        keep.states = keep.states_of(old, new);
        keep.parts = keep.name(old, new);
        Ok(keep)
    }

    /// Names of the components by what becomes of them.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether sources have to come to their end first.
    #[must_use]
    pub fn takes_leave(&self) -> bool {
        !self.leaving_sources.is_empty()
    }

    /// Whether a sink makes room for another version of itself that cannot
    /// send what it does not get rid of.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.follows.iter().any(|follows| !follows.before.is_empty() && !follows.inherits)
    }

    fn states_of(&self, old: &FlowPlan, new: &FlowPlan) -> Vec<String> {
        let of_one_kind = |(plan, former): &(&ringmain_config::OperatorPlan, &Former)| match former
        {
            Former::Kept(_) => true,
            Former::Changed(was) => {
                let kind = std::mem::discriminant(&old.operators[*was].kind);
                kind == std::mem::discriminant(&plan.kind)
            }
            Former::New => false,
        };
        let operators = new.operators.iter().zip(&self.operators).filter(of_one_kind);
        operators.map(|(plan, _)| plan.name.value.clone()).collect()
    }

    fn name(&self, old: &FlowPlan, new: &FlowPlan) -> Parts {
        let mut parts = Parts::default();
        let sources = new.sources.iter().map(|c| c.name.as_str()).zip(&self.sources);
        let operators = new.operators.iter().map(|c| c.name.as_str()).zip(&self.operators);
        let sinks = new.sinks.iter().map(|c| c.name.as_str()).zip(&self.sinks);
        let letters = new.dead_letters.iter().map(|c| c.name.as_str()).zip(&self.letters);
        for (name, former) in sources.chain(operators).chain(sinks).chain(letters) {
            let list = match former {
                Former::Kept(_) => &mut parts.kept,
                Former::Changed(_) => &mut parts.rebuilt,
                Former::New => &mut parts.added,
            };
            list.push(name.to_owned());
        }
        let names = |plan: &FlowPlan| -> Vec<String> {
            let letters = plan.dead_letters.iter().map(|sink| &sink.name);
            plan.component_names().chain(letters).map(|name| name.value.clone()).collect()
        };
        let stay = names(new);
        parts.removed = names(old).into_iter().filter(|name| !stay.contains(name)).collect();
        parts
    }

    /// Operators that go on: their numbers before and now.
    pub fn operators(&self) -> impl Iterator<Item = (usize, usize)> {
        let kept = self.operators.iter().enumerate();
        kept.filter_map(|(now, former)| Some((former.kept()?, now)))
    }

    /// Operators whose state goes on, by name.
    #[must_use]
    pub fn states(&self) -> &[String] {
        &self.states
    }

    /// The number of the first sink among the components of the old version.
    pub(crate) fn old_sinks_at(&self) -> usize {
        self.old_sinks_at
    }
}

fn former<T>(
    new: &[T],
    old: &[T],
    name: impl Fn(&T) -> &str,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<Former> {
    let of = |plan: &T| match old.iter().position(|before| name(before) == name(plan)) {
        Some(at) if same(&old[at], plan) => Former::Kept(at),
        Some(at) => Former::Changed(at),
        None => Former::New,
    };
    new.iter().map(of).collect()
}

/// What a sink reads is not its own.
fn same_sink(a: &SinkPlan, b: &SinkPlan) -> bool {
    let bare = |plan: &SinkPlan| SinkPlan { inputs: Vec::new(), ..plan.clone() };
    bare(a) == bare(b)
}

fn whole(old: &FlowPlan, new: &FlowPlan) -> Result<(), String> {
    let changed = [
        ("the partition key", old.partition != new.partition),
        ("the folder", old.base_dir != new.base_dir),
        ("a way back of a cycle", ways_back(old) != ways_back(new)),
    ];
    match changed.into_iter().find(|(_, changed)| *changed) {
        Some((what, _)) => Err(format!("{what} has changed")),
        None => Ok(()),
    }
}

fn ways_back(plan: &FlowPlan) -> Vec<(&str, &ringmain_config::Input)> {
    let operators = plan.operators.iter();
    let inputs = operators.flat_map(|o| o.inputs.iter().map(|input| (o.name.as_str(), input)));
    inputs.filter(|(_, input)| input.bound.is_some()).collect()
}

/// Sources open their next version while they are open themselves.
fn overlap(
    old: &FlowPlan,
    new: &FlowPlan,
    sources: &[Former],
    leaving: &[usize],
) -> Result<(), String> {
    let fresh = new.sources.iter().zip(sources).filter(|(_, former)| former.kept().is_none());
    for (plan, _) in fresh {
        let in_its_way = |at: &&usize| {
            let before: &SourcePlan = &old.sources[**at];
            !sources_overlap(before, plan)
        };
        if let Some(before) = leaving.iter().find(in_its_way) {
            return Err(format!(
                "{} reads where {} of the version before does",
                plan.name, old.sources[*before].name
            ));
        }
    }
    Ok(())
}

fn letters(old: &FlowPlan, new: &FlowPlan) -> Option<Former> {
    let plan = new.dead_letters.as_ref()?;
    Some(match &old.dead_letters {
        Some(before) if before == plan => Former::Kept(old.sinks.len()),
        Some(_) => Former::Changed(old.sinks.len()),
        None => Former::New,
    })
}

/// All sinks of a flow, the dead letters' last.
fn all_sinks(plan: &FlowPlan) -> Vec<&SinkPlan> {
    plan.sinks.iter().chain(&plan.dead_letters).collect()
}

fn follows(
    old: &FlowPlan,
    new: &FlowPlan,
    formers: impl Iterator<Item = Former>,
    leaving: &[usize],
) -> Vec<Follows> {
    let sinks = all_sinks(old);
    let follows = |(plan, former): (&SinkPlan, Former)| {
        if former.kept().is_some() {
            return Follows::default();
        }
        let in_its_way = |at: &usize| !sinks_overlap(sinks[*at], plan);
        let before = leaving.iter().copied();
        let before = before.filter(|at| former == Former::Changed(*at) || in_its_way(at));
        let before: Vec<_> = before.collect();
        let late = before.iter().any(in_its_way);
        let inherits = |at: &usize| former == Former::Changed(*at) && hands_over(sinks[*at], plan);
        let inherits = matches!(&before[..], [at] if inherits(at));
        Follows { before, late, inherits }
    };
    all_sinks(new).into_iter().zip(formers).map(follows).collect()
}

/// Whether the queues that are kept hold a batch of the new graph.
fn room(new: &FlowPlan, sinks: &[Former], joints: &Joints) -> Result<(), String> {
    let needs = Graph::of(new).needs_max();
    for ((plan, former), need) in new.sinks.iter().zip(sinks).zip(needs) {
        let slabs = former.kept().map_or(usize::MAX, |at| joints.exits[at].0);
        if need > slabs {
            return Err(format!(
                "{} is reached by more ways than its queue has room for",
                plan.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = r#"
        name = "f"
        [sources.a]
        type = "tcp"
        listen = "127.0.0.1:7001"
        [operators.b]
        type = "filter"
        inputs = ["a"]
        where = "x > 1"
        [sinks.c]
        type = "file"
        path = "c.ndjson"
        inputs = ["b"]
    "#;

    fn plan(text: &str) -> FlowPlan {
        let plan = ringmain_config::load_str("f.toml", text).unwrap_or_else(|e| panic!("{e}"));
        plan.flows[0].clone()
    }

    fn keep(new: &str) -> Result<Keep, String> {
        let joints = Joints {
            home: 0,
            schema: SharedSchema::new(),
            exits: vec![(8, Vec::new())],
            lanes: vec![Vec::new()],
            positions: Vec::new(),
            checkpoints: Vec::new(),
        };
        Keep::of(&plan(FLOW), &plan(new), &joints)
    }

    #[test]
    fn what_a_component_reads_is_not_its_own() {
        let more = "[operators.d]\ntype = \"map\"\ninputs = [\"b\"]\nset = { y = \"1\" }\n";
        let keep = keep(&(FLOW.replace("inputs = [\"b\"]", "inputs = [\"d\"]") + more)).unwrap();
        let parts = Parts {
            kept: vec!["a".into(), "b".into(), "c".into()],
            added: vec!["d".into()],
            ..Parts::default()
        };
        assert_eq!(*keep.parts(), parts);
        assert!(!keep.takes_leave() && !keep.loses());
    }

    #[test]
    fn a_sink_of_another_name_that_writes_the_same_file_waits_for_the_one_before() {
        let keep = keep(&FLOW.replace("sinks.c", "sinks.d")).unwrap();
        assert_eq!(
            (&*keep.parts().added, &*keep.parts().removed),
            (&["d".into()][..], &["c".into()][..])
        );
        assert_eq!(keep.follows[0].before, [0]);
        assert!(keep.follows[0].late, "it cannot be open at the same time");
        // To another file it may be opened, and begins when the other has ended.
        let moved = super::tests::keep(&FLOW.replace("c.ndjson", "d.ndjson")).unwrap();
        assert_eq!((&*moved.follows[0].before, moved.follows[0].late), (&[0][..], false));
    }

    #[test]
    fn a_source_that_needs_the_port_of_the_one_before_takes_the_whole_flow_with_it() {
        let why = keep(&FLOW.replace("7001\"", "7001\"\ndecode = \"text\"")).unwrap_err();
        assert_eq!(why, "a reads where a of the version before does");
        let moved = keep(&FLOW.replace("7001", "7002")).unwrap();
        assert!(moved.takes_leave());
        let keyed = keep(&(FLOW.to_owned() + "[partition]\nkey = \"x\"\n")).unwrap_err();
        assert_eq!(keyed, "the partition key has changed");
    }
}
