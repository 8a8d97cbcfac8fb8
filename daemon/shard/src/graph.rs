//! The shape of a flow in numbers, worked out once from its plan.
//!
//! Components are numbered sources first, then operators, then sinks, then the
//! dead letters. Exits of the chain are the sinks in order, then the ways back
//! of cycles.

use ringmain_config::{FlowPlan, Input, OperatorKind, Segment, SinkKind, SinkPlan, SourceKind};
use ringmain_metrics::Role;
use ringmain_ops::chain::Target;

/// The way back of a cycle: the bounded input of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoopBack {
    /// The operator that reads it.
    pub operator: usize,
    /// Which of its inputs.
    pub input: usize,
}

/// A flow's graph.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// Readers of each source.
    pub sources: Vec<Vec<Target>>,
    /// Readers of each operator, by port, the default one first.
    pub operators: Vec<Vec<Vec<Target>>>,
    /// The ways back, in the order of their exits.
    pub loops: Vec<LoopBack>,
    sinks: usize,
}

impl Graph {
    pub(crate) fn of(plan: &FlowPlan) -> Self {
        let loops = loops(plan);
        let readers = |name: &str, port: Option<&str>| readers(plan, &loops, name, port);
        let sources = plan.sources.iter().map(|s| readers(s.name.as_str(), None)).collect();
        let operators = plan.operators.iter().map(|op| {
            let name = op.name.as_str();
            let mut outputs = vec![readers(name, None)];
            outputs.extend(ports(&op.kind).iter().map(|port| readers(name, Some(port))));
            outputs
        });
        Self { sources, operators: operators.collect(), sinks: plan.sinks.len(), loops }
    }

    /// Exits of the chain.
    pub(crate) fn exits(&self) -> usize {
        self.sinks + self.loops.len()
    }

    /// The component's number of operator `at`.
    pub(crate) fn operator(&self, at: usize) -> usize {
        self.sources.len() + at
    }

    /// The component's number of sink `at`.
    pub(crate) fn sink(&self, at: usize) -> usize {
        self.sources.len() + self.operators.len() + at
    }

    /// The component behind an exit.
    pub(crate) fn behind(&self, exit: usize) -> usize {
        match exit.checked_sub(self.sinks) {
            None => self.sink(exit),
            Some(at) => self.operator(self.loops[at].operator),
        }
    }

    /// How many slabs a batch that enters at `targets` may deliver at each
    /// exit: the number of paths. Whoever runs the chain makes sure of that
    /// much credit first.
    pub(crate) fn needs(&self, targets: &[Target]) -> Vec<usize> {
        let mut memo = vec![None; self.operators.len()];
        let mut needs = vec![0; self.exits()];
        self.add_needs(targets, &mut needs, &mut memo);
        needs
    }

    /// The same for a turn in which every operator's timer fires.
    pub(crate) fn timer_needs(&self) -> Vec<usize> {
        let every: Vec<_> = (0..self.operators.len()).map(Target::Operator).collect();
        self.needs(&every)
    }

    /// The most that any batch may deliver at each exit.
    pub(crate) fn needs_max(&self) -> Vec<usize> {
        let entries = self.sources.iter().map(|targets| self.needs(targets));
        entries.chain([self.timer_needs()]).fold(vec![0; self.exits()], |most, needs| {
            most.iter().zip(&needs).map(|(a, b)| *a.max(b)).collect()
        })
    }

    /// Each operator is worked out once, however many paths lead to it.
    fn add_needs(
        &self,
        targets: &[Target],
        needs: &mut [usize],
        memo: &mut Vec<Option<Vec<usize>>>,
    ) {
        for target in targets {
            match *target {
                Target::Exit(exit) => needs[exit] = needs[exit].saturating_add(1),
                Target::Operator(at) => {
                    if memo[at].is_none() {
                        let mut own = vec![0; needs.len()];
                        for readers in &self.operators[at] {
                            self.add_needs(readers, &mut own, memo);
                        }
                        memo[at] = Some(own);
                    }
                    for (sum, own) in needs.iter_mut().zip(memo[at].iter().flatten()) {
                        *sum = sum.saturating_add(*own);
                    }
                }
            }
        }
    }

    /// Exits that can be reached from `targets`.
    pub(crate) fn reachable(&self, targets: &[Target]) -> Vec<usize> {
        let needs = self.needs(targets);
        (0..needs.len()).filter(|exit| needs[*exit] > 0).collect()
    }
}

/// Names and roles in the order of the components' numbers.
pub(crate) fn components(plan: &FlowPlan) -> Vec<(String, Role)> {
    let named = |name: &str, role| (name.to_owned(), role);
    let sources = plan.sources.iter().map(|c| named(c.name.as_str(), Role::Source));
    let operators = plan.operators.iter().map(|c| named(c.name.as_str(), Role::Operator));
    let sinks = plan.sinks.iter().chain(&plan.dead_letters);
    let sinks = sinks.map(|c| named(c.name.as_str(), Role::Sink));
    sources.chain(operators).chain(sinks).collect()
}

/// Named output ports of an operator.
pub(crate) fn ports(kind: &OperatorKind) -> Vec<&str> {
    kind.ports()
}

fn loops(plan: &FlowPlan) -> Vec<LoopBack> {
    let mut loops = Vec::new();
    for (operator, plan) in plan.operators.iter().enumerate() {
        for (input, _) in plan.inputs.iter().enumerate().filter(|(_, i)| i.bound.is_some()) {
            loops.push(LoopBack { operator, input });
        }
    }
    loops
}

fn readers(plan: &FlowPlan, loops: &[LoopBack], name: &str, port: Option<&str>) -> Vec<Target> {
    let reads = |input: &Input| input.component.as_str() == name && input.port.as_deref() == port;
    let mut targets = Vec::new();
    for (operator, consumer) in plan.operators.iter().enumerate() {
        for (input, _) in consumer.inputs.iter().enumerate().filter(|(_, i)| reads(i)) {
            let back = loops.iter().position(|l| *l == LoopBack { operator, input });
            targets.push(match back {
                Some(at) => Target::Exit(plan.sinks.len() + at),
                None => Target::Operator(operator),
            });
        }
    }
    for (sink, consumer) in plan.sinks.iter().enumerate() {
        targets.extend(consumer.inputs.iter().filter(|i| reads(i)).map(|_| Target::Exit(sink)));
    }
    targets
}

/// Whether every shard has a sink of its own; otherwise the flow's home shard
/// has the only one and the others forward to it.
pub(crate) fn sink_on_each_shard(plan: &SinkPlan) -> bool {
    match &plan.kind {
        SinkKind::Blackhole => true,
        SinkKind::File(file) => file.path.segments.contains(&Segment::Shard),
        _ => false,
    }
}

/// Whether every shard of a partitioned flow has a source of its own.
pub(crate) fn source_on_each_shard(kind: &SourceKind) -> bool {
    match kind {
        SourceKind::Generator { .. }
        | SourceKind::File(_)
        | SourceKind::Http(_)
        | SourceKind::Tcp { .. }
        | SourceKind::Udp { .. } => true,
        // The broker divides what several clients of a group subscribe to.
        SourceKind::Mqtt(mqtt) => mqtt.is_shared(),
        SourceKind::Stdin | SourceKind::Timer(_) | SourceKind::Unix { .. } => false,
    }
}
