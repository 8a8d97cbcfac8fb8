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
    /// By source of a partitioned flow: the filters that stand before the
    /// exchange, in order. What they drop is never copied to another core.
    pub fronts: Vec<Vec<usize>>,
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
        let operators = operators.collect();
        let mut graph =
            Self { sources, operators, sinks: plan.sinks.len(), loops, fronts: Vec::new() };
        graph.fronts = (0..plan.sources.len()).map(|at| graph.front(plan, at)).collect();
        graph
    }

    /// Where a source's rows go when they have passed its front.
    pub(crate) fn entry(&self, source: usize) -> &[Target] {
        match self.fronts[source].last() {
            Some(last) => &self.operators[*last][0],
            None => &self.sources[source],
        }
    }

    /// A filter has no state and leaves the key as it is, so it may run on the
    /// shard that has the row already; as long as nothing reaches it from
    /// behind the exchange, and nobody reads past it.
    fn front(&self, plan: &FlowPlan, source: usize) -> Vec<usize> {
        let mut front = Vec::new();
        let mut readers = &self.sources[source];
        while let (true, [Target::Operator(at)]) = (plan.partition.is_some(), readers.as_slice()) {
            if !self.may_stand_before(plan, *at) {
                break;
            }
            front.push(*at);
            readers = &self.operators[*at][0];
        }
        front
    }

    fn may_stand_before(&self, plan: &FlowPlan, at: usize) -> bool {
        let operator = &plan.operators[at];
        let only_reader = |readers: &[Target]| readers == [Target::Operator(at)];
        let is_fed_before = |input: &Input| {
            let name = input.component.as_str();
            let source = plan.sources.iter().position(|s| s.name.as_str() == name);
            let before = plan.operators.iter().position(|o| o.name.as_str() == name);
            match (source, before) {
                _ if input.bound.is_some() => false,
                (Some(source), _) => only_reader(&self.sources[source]),
                (_, Some(before)) => {
                    only_reader(&self.operators[before][0]) && self.may_stand_before(plan, before)
                }
                (None, None) => false,
            }
        };
        matches!(operator.kind, OperatorKind::Filter { .. })
            && ports(&operator.kind).is_empty()
            && operator.inputs.iter().all(is_fed_before)
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

    /// Where a batch enters that goes in at a component; nowhere for one that
    /// is not part of the chain.
    pub(crate) fn entered_at(&self, component: usize) -> Vec<Target> {
        let operator = component.wrapping_sub(self.sources.len());
        let sink = component.wrapping_sub(self.sink(0));
        match self.sources.get(component) {
            Some(targets) => targets.clone(),
            None if operator < self.operators.len() => vec![Target::Operator(operator)],
            None if sink < self.sinks => vec![Target::Exit(sink)],
            None => Vec::new(),
        }
    }

    /// Whether that is the number of a source.
    pub(crate) fn is_source(&self, component: usize) -> bool {
        component < self.sources.len()
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

#[cfg(test)]
mod tests {
    use super::*;
    use ringmain_config::load_str;

    /// The names of the filters before the exchange, by source.
    fn fronts(operators: &str, read: &str) -> Vec<Vec<String>> {
        let text = format!(
            "[partition]\nkey = [\"k\"]\n[sources.a]\ntype = \"stdin\"\n\
             [sources.b]\ntype = \"generator\"\ncount = 1\n{operators}\n\
             [sinks.out]\ntype = \"stdout\"\ninputs = [{read}]\n"
        );
        let plan = load_str("f.toml", &text).unwrap_or_else(|e| panic!("{e}")).flows.remove(0);
        let name = |at: &usize| plan.operators[*at].name.as_str().to_owned();
        let graph = Graph::of(&plan);
        graph.fronts.iter().map(|front| front.iter().map(name).collect()).collect()
    }

    fn filter(name: &str, inputs: &str) -> String {
        format!("[operators.{name}]\ntype = \"filter\"\ninputs = [{inputs}]\nwhere = \"n > 1\"\n")
    }

    #[test]
    fn filters_that_a_source_alone_feeds_stand_before_the_exchange() {
        let two = filter("one", "\"a\"") + &filter("two", "\"one\"");
        assert_eq!(fronts(&two, "\"two\", \"b\""), [vec!["one", "two"], vec![]]);
    }

    #[test]
    fn a_filter_that_several_sources_feed_stands_before_the_exchange_of_each() {
        let both = filter("one", "\"a\"") + &filter("both", "\"one\", \"b\"");
        assert_eq!(fronts(&both, "\"both\""), [vec!["one", "both"], vec!["both"]]);
    }

    #[test]
    fn a_source_that_somebody_reads_past_the_filter_has_no_front() {
        let one = filter("one", "\"a\"");
        assert_eq!(fronts(&one, "\"one\", \"a\", \"b\""), [vec![""; 0], vec![]]);
        // And what has the filter in common with it has none either.
        let one = filter("one", "\"a\", \"b\"");
        assert_eq!(fronts(&one, "\"one\", \"a\""), [vec![""; 0], vec![]]);
    }

    #[test]
    fn what_changes_messages_or_divides_them_stands_behind_the_exchange() {
        let map = "[operators.m]\ntype = \"map\"\ninputs = [\"a\"]\nset = { k = \"1\" }\n";
        let behind = map.to_owned() + &filter("one", "\"m\"");
        assert_eq!(fronts(&behind, "\"one\", \"b\""), [vec![""; 0], vec![]]);
        let mixed = map.to_owned() + &filter("one", "\"m\", \"b\"");
        assert_eq!(fronts(&mixed, "\"one\""), [vec![""; 0], vec![]]);
    }
}
