//! A whole flow on one thread, without I/O, on a clock that moves only when it
//! is told to: what unit tests of flows run on.
//!
//! Owns: the chain as a shard builds it (same operators, same numbers, same
//! dead letters), the frames and decoders of the sources and the encoders of
//! the sinks. Each insert is one batch, and is through with everything that it
//! causes, ways back of cycles included, before the next one.
//!
//! Deliberately absent: connectors, queues and what happens when they are
//! full, the exchange between shards, positions.

mod collect;
mod message;

use std::sync::Arc;

use ringmain_base::{Clock, ManualClock, Now, Reason};
use ringmain_config::{FlowPlan, Input, OperatorKind, OperatorPlan, Spanned};
use ringmain_connectors::{OfflineSink, OfflineSource};
use ringmain_metrics::FlowMetrics;
use ringmain_ops::chain::{Chain, Node, Target};
use ringmain_ops::{Context, Refuse};
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab};

use collect::{Behind, Collector};
pub use message::{Datum, Message};

use crate::exchange::Keys;
use crate::graph::{self, Graph};
use crate::operators::{self, OperatorError};

const SLAB_BYTES: usize = 64 << 10;
const BUDGET_BYTES: u64 = 256 << 20;

/// Batches and messages that one insert or one timer may send round cycles.
const ROUNDS_MAX: usize = 10_000;
const ROUND_ROWS_MAX: usize = 100_000;

/// Timers that one advance may fire: 24 hours of a timer every 10 ms.
const TIMERS_MAX: usize = 8_640_000;

/// Why a test cannot go on.
#[derive(Clone, Debug)]
pub enum BenchError {
    /// An operator does not compile; `check` finds the same.
    Operator(OperatorError),
    /// A cycle does not come to rest.
    Cycle,
    /// An advance fires too many timers.
    Timers,
    /// The messages do not fit a slab.
    Memory,
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operator(error) => f.write_str(&error.message),
            Self::Cycle => write!(
                f,
                "a cycle does not come to rest: {ROUNDS_MAX} batches or {ROUND_ROWS_MAX} messages \
                 went round"
            ),
            Self::Timers => write!(f, "more than {TIMERS_MAX} timers in one advance"),
            Self::Memory => f.write_str("the messages do not fit the memory of a test"),
        }
    }
}

impl std::error::Error for BenchError {}

/// What passed through a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchCount {
    /// The component.
    pub component: String,
    /// Messages that came in.
    pub rows_in: u64,
    /// Messages that went out.
    pub rows_out: u64,
    /// Messages refused.
    pub dead: u64,
}

/// The bench.
pub struct TestBench {
    clock: ManualClock,
    schema: SharedSchema,
    graph: Graph,
    chain: Chain,
    components: Vec<String>,
    sources: Vec<OfflineSource>,
    collector: Collector,
    metrics: FlowMetrics,
    places: Vec<String>,
    keys: Option<Keys>,
    work: Slab,
}

impl TestBench {
    /// The flow at rest, its clock at `start_us`. `watched` are the places of
    /// which [`TestBench::seen`] is to know.
    ///
    /// # Errors
    /// When an operator does not compile.
    pub fn new(plan: &FlowPlan, start_us: i64, watched: &[Input]) -> Result<Self, BenchError> {
        let budget = Budget::new(BUDGET_BYTES);
        let schema = SharedSchema::new();
        let key = plan.flow_key();
        for field in &key.fields {
            // Key fields get their slots first; `check` refuses too many.
            let _ = schema.intern(field);
        }
        let roles = graph::components(plan);
        let mut components: Vec<String> = roles.iter().map(|(name, _)| name.clone()).collect();
        let metrics = FlowMetrics::new(plan.name.as_str(), roles, 1);
        let cells = metrics.shards[0].clone();
        let flow = plan.name.as_str();
        let names = components.clone();
        let mut collector =
            Collector::new(flow, names, &schema, cells.clone(), SLAB_BYTES, &budget);
        let mut graph = Graph::of(plan);
        let places = exits(plan, &mut graph, &schema, watched, &mut collector);
        let chain = chain(plan, &graph, &schema, cells, &budget)?;
        components.truncate(plan.sources.len() + plan.operators.len() + plan.sinks.len());
        let mut bench = Self {
            clock: ManualClock::at(start_us),
            graph,
            chain,
            components,
            sources: plan.sources.iter().map(|s| OfflineSource::new(s, &schema)).collect(),
            collector,
            metrics,
            places,
            keys: plan.partition.as_ref().map(|p| Keys::new(&key.fields, p.count, &schema)),
            work: Slab::new(SLAB_BYTES, &budget),
            schema,
        };
        // A turn at the start lets operators look at the clock for the first time.
        bench.fire()?;
        Ok(bench)
    }

    /// Frames come in at a source, as one batch.
    ///
    /// # Errors
    /// When the flow cannot take them; see [`BenchError`].
    ///
    /// # Panics
    /// When there is no such source.
    pub fn insert_frames(&mut self, source: &str, frames: &[&[u8]]) -> Result<(), BenchError> {
        let at = self.component(source);
        let now = self.now();
        let mut refused = self.collector.refusals(at);
        for frame in frames {
            self.sources[at]
                .frame(frame, &mut self.work, now.wall_us, &mut refused)
                .map_err(|_| BenchError::Memory)?;
        }
        self.run_from(at)
    }

    /// Messages come in at a component, as one batch: they leave a source,
    /// and arrive at an operator or a sink.
    ///
    /// # Errors
    /// When the flow cannot take them; see [`BenchError`].
    ///
    /// # Panics
    /// When there is no such component.
    pub fn insert(&mut self, component: &str, messages: &[Message]) -> Result<(), BenchError> {
        let at = self.component(component);
        let now = self.now();
        for message in messages {
            message
                .push(&mut self.work, &self.schema, now.wall_us)
                .map_err(|_| BenchError::Memory)?;
        }
        self.run_from(at)
    }

    /// Moves the clock; timers fire on the way, each at its time.
    ///
    /// # Errors
    /// When there are too many; see [`BenchError`].
    pub fn advance(&mut self, us: u64) -> Result<(), BenchError> {
        let target_us = self.clock.now().mono_us.saturating_add(us);
        let mut fired = 0;
        while let Some(due_us) = self.chain.timer_at_us().filter(|due| *due <= target_us) {
            fired += 1;
            if fired > TIMERS_MAX {
                return Err(BenchError::Timers);
            }
            self.clock.advance(due_us.saturating_sub(self.clock.now().mono_us));
            self.fire()?;
        }
        self.clock.advance(target_us - self.clock.now().mono_us);
        Ok(())
    }

    /// What passed a watched place, so far.
    #[must_use]
    pub fn seen(&self, place: &Input) -> &[Message] {
        let name = name_of(place);
        let at = self.places.iter().position(|known| *known == name);
        at.map_or(&[], |at| self.collector.seen[at].as_slice())
    }

    /// What was refused, so far.
    #[must_use]
    pub fn dead_letters(&self) -> &[Message] {
        &self.collector.letters
    }

    /// Failures that belong to no message, such as a timer's, so far: the
    /// component and why.
    #[must_use]
    pub fn failures(&self) -> Vec<(&str, &str)> {
        let failures = self.collector.failures.iter();
        failures.map(|(at, why)| (self.components[*at].as_str(), why.as_str())).collect()
    }

    /// What passed through each component, so far.
    #[must_use]
    pub fn counts(&self) -> Vec<BenchCount> {
        let cells = self.components.iter().zip(self.metrics.shards[0].iter());
        let count = |(component, cells): (&String, &Arc<ringmain_metrics::Cells>)| BenchCount {
            component: component.clone(),
            rows_in: cells.rows_in.get(),
            rows_out: cells.rows_out.get(),
            dead: cells.dead_total(),
        };
        cells.map(count).collect()
    }

    fn component(&self, name: &str) -> usize {
        let at = self.components.iter().position(|known| known == name);
        at.expect("`check` refuses tests with unknown components")
    }

    fn now(&mut self) -> Now {
        self.collector.now = self.clock.now();
        self.collector.now
    }

    /// Runs the working slab through all that is behind a component's input.
    fn run_from(&mut self, component: usize) -> Result<(), BenchError> {
        let operators = self.graph.operators.len();
        let targets = match component.checked_sub(self.sources.len()) {
            None => {
                let cells = &self.metrics.shards[0][component];
                cells.rows_in.add(self.work.len() as u64);
                cells.rows_out.add(self.work.len() as u64);
                self.graph.sources[component].clone()
            }
            Some(at) if at < operators => vec![Target::Operator(at)],
            Some(at) => vec![Target::Exit(at - operators)],
        };
        if let Some(keys) = &self.keys {
            keys.hash(&mut self.work);
        }
        let now = self.now();
        self.chain.run(&targets, &mut self.work, now, &mut self.collector);
        self.settle()
    }

    fn fire(&mut self) -> Result<(), BenchError> {
        let now = self.now();
        self.chain.on_timers(&mut self.work, now, &mut self.collector);
        self.settle()
    }

    /// Lets cycles go round until nothing is under way.
    fn settle(&mut self) -> Result<(), BenchError> {
        self.work.clear();
        self.collector.take_letters();
        let (mut rounds, mut rows) = (0, 0);
        let sinks = self.graph.exits() - self.graph.loops.len();
        while let Some((exit, mut slab)) = self.collector.back.pop_front() {
            rounds += 1;
            rows += slab.len();
            if rounds > ROUNDS_MAX || rows > ROUND_ROWS_MAX {
                return Err(BenchError::Cycle);
            }
            let targets = [Target::Operator(self.graph.loops[exit - sinks].operator)];
            let now = self.now();
            self.chain.run(&targets, &mut slab, now, &mut self.collector);
            self.collector.take_letters();
        }
        if self.collector.full { Err(BenchError::Memory) } else { Ok(()) }
    }
}

/// The exits of the chain: sinks, ways back, and a probe at each watched
/// output. Returns the places by number.
fn exits(
    plan: &FlowPlan,
    graph: &mut Graph,
    schema: &SharedSchema,
    watched: &[Input],
    collector: &mut Collector,
) -> Vec<String> {
    let mut places: Vec<String> = watched.iter().map(name_of).collect();
    places.sort();
    places.dedup();
    collector.seen = places.iter().map(|_| Vec::new()).collect();
    let place = |name: &str| places.iter().position(|known| known == name);
    for (at, sink) in plan.sinks.iter().enumerate() {
        let offline = Box::new(OfflineSink::new(sink, schema));
        let behind = Behind::Sink(offline, place(sink.name.as_str()));
        collector.exits.push((behind, graph.sink(at)));
    }
    for at in 0..graph.loops.len() {
        let component = graph.operator(graph.loops[at].operator);
        collector.exits.push((Behind::Loop, component));
    }
    // First of all readers: a probe gets a copy, the last reader the rows.
    let mut probe = |readers: &mut Vec<Target>, name: &str, component: usize| {
        if let Some(place) = place(name) {
            readers.insert(0, Target::Exit(collector.exits.len()));
            collector.exits.push((Behind::Probe(place), component));
        }
    };
    for (at, source) in plan.sources.iter().enumerate() {
        probe(&mut graph.sources[at], source.name.as_str(), at);
    }
    for (at, operator) in plan.operators.iter().enumerate() {
        let name = operator.name.as_str();
        let component = graph.operator(at);
        let [default, ports @ ..] = graph.operators[at].as_mut_slice() else { continue };
        probe(default, name, component);
        for (readers, port) in ports.iter_mut().zip(graph::ports(&operator.kind)) {
            probe(readers, &format!("{name}.{port}"), component);
        }
    }
    places
}

fn chain(
    plan: &FlowPlan,
    graph: &Graph,
    schema: &SharedSchema,
    cells: Arc<[Arc<ringmain_metrics::Cells>]>,
    budget: &Budget,
) -> Result<Chain, BenchError> {
    let setting = operators::Setting::of(plan);
    let mut nodes = Vec::new();
    for (at, plan) in plan.operators.iter().enumerate() {
        let (component, outputs) = (graph.operator(at), graph.operators[at].clone());
        let setting = setting.counting(cells[component].named());
        let operator = operators::compile(plan, &setting, schema).map_err(BenchError::Operator)?;
        nodes.push(Node { operator, component, outputs });
    }
    Ok(Chain::new(nodes, cells, SLAB_BYTES, budget))
}

fn name_of(place: &Input) -> String {
    match &place.port {
        Some(port) => format!("{}.{port}", place.component),
        None => place.component.value.clone(),
    }
}

/// For each message whether a condition holds, or what went wrong with it.
///
/// # Errors
/// When the condition does not compile.
pub fn holds(
    condition: &Spanned<String>,
    messages: &[Message],
) -> Result<Vec<Result<bool, String>>, OperatorError> {
    let schema = SharedSchema::new();
    let kind = OperatorKind::Filter { where_: condition.clone() };
    let name = Spanned::new("where".to_owned(), condition.span);
    let plan = OperatorPlan { name, inputs: Vec::new(), kind };
    let mut operator = operators::compile(&plan, &operators::Setting::default(), &schema)?;
    let mut slab = Slab::new(SLAB_BYTES, &Budget::new(BUDGET_BYTES));
    let mut one = |message: &Message| {
        slab.clear();
        message.push(&mut slab, &schema, 0).map_err(|full| full.to_string())?;
        let mut refused = Why::default();
        let mut cx = Context { now: Now::default(), refuse: &mut refused, ports: &mut [] };
        operator.process(&mut slab, &mut cx);
        refused.0.map_or(Ok(!slab.is_empty()), Err)
    };
    Ok(messages.iter().map(&mut one).collect())
}

#[derive(Default)]
struct Why(Option<String>);

impl Refuse for Why {
    fn refuse(&mut self, _: RowRef<'_>, _: Reason, detail: &str) {
        self.0 = Some(detail.to_owned());
    }
}
