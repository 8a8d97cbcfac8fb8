//! What the listener and the exporters see: flows by name, and the newest
//! reading of all counters with rates.
//!
//! Written by the controller (which flows there are) and by the control
//! runtime (readings); read by anyone. Locks are held for a copy of an `Arc`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use ringmain_base::{Clock, Now, SystemClock};
use ringmain_config::{FlowPlan, Plan};
use ringmain_connectors::Health;
use ringmain_metrics::{FlowMetrics, Role, Snapshot};
use ringmain_runtime::Monitor;
use ringmain_shard::{FlowControl, Phase};
use ringmain_slab::Budget;

use crate::node::{self, NodeSample, ShardTasks};
use crate::schedule::ScheduleReport;
use crate::start::Flow;

/// A turn that lasts longer says nothing about the flows of its shard.
const STALLED_US: u64 = 3_000_000;

/// A flow that is known to the daemon, whether or not it runs.
#[derive(Clone)]
pub(crate) struct FlowView {
    /// Tells one life of a flow from the next one of the same name.
    pub id: u64,
    pub plan: Arc<FlowPlan>,
    /// The file it was read from.
    pub file: Option<PathBuf>,
    /// Its definition.
    pub text: Arc<str>,
    /// It was put in over the API, and may be changed over it.
    pub kept: bool,
    pub metrics: FlowMetrics,
    pub control: Arc<FlowControl>,
    /// Shards with a part of it.
    pub parts: usize,
    /// Their numbers.
    pub shards: Arc<[usize]>,
    pub memory_bytes: u64,
    pub created: Now,
    /// When this life of it began.
    pub started: Option<Now>,
    /// Who put it in.
    pub creator: String,
    /// It was put in and never deployed: its schedule begins nothing.
    pub shelved: bool,
    /// When it was last changed while it ran, and what became of that.
    pub last_change: Option<(Now, Arc<str>)>,
}

/// The state of a flow, in the words of Spring Cloud Data Flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Its connectors are being opened.
    Deploying,
    /// It carries messages, or waits for some.
    Deployed,
    /// It is stopped, or has come to its end.
    Undeployed,
    /// It runs, and one of its components has given up.
    Partial,
    /// It could not be started.
    Failed,
    /// It ran, and was ended by what went wrong.
    Error,
    /// A shard that works on it has not answered for seconds.
    Unknown,
}

impl FlowView {
    /// A definition that does not run.
    pub(crate) fn at_rest(plan: Arc<FlowPlan>, now: Now) -> Self {
        let sources = plan.sources.iter().map(|c| (c.name.value.clone(), Role::Source));
        let operators = plan.operators.iter().map(|c| (c.name.value.clone(), Role::Operator));
        let sinks = plan.sinks.iter().chain(&plan.dead_letters);
        let sinks = sinks.map(|c| (c.name.value.clone(), Role::Sink));
        let components: Vec<_> = sources.chain(operators).chain(sinks).collect();
        let names = components.iter().map(|(name, _)| name.clone()).collect();
        Self {
            id: 0,
            metrics: FlowMetrics::new(plan.name.as_str(), components, 0),
            control: Arc::new(FlowControl::new(names)),
            plan,
            file: None,
            text: "".into(),
            kept: false,
            parts: 0,
            shards: Arc::new([]),
            memory_bytes: 0,
            created: now,
            started: None,
            creator: "configuration".into(),
            shelved: false,
            last_change: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.plan.name.as_str()
    }

    pub(crate) fn status(&self) -> Status {
        if !self.control.errors().is_empty() {
            return if self.control.has_run() { Status::Error } else { Status::Failed };
        }
        if self.control.ended() >= self.parts || self.control.phase() == Phase::Abort {
            return Status::Undeployed;
        }
        if self.control.phase() == Phase::Open {
            return Status::Deploying;
        }
        let gave_up = self.control.health().iter().any(|h| matches!(h, Health::Failed(_)));
        if gave_up { Status::Partial } else { Status::Deployed }
    }

    /// What the controller wants of it, for people.
    pub(crate) fn phase(&self) -> &'static str {
        if self.control.ended() >= self.parts {
            return "ended";
        }
        match self.control.phase() {
            Phase::Open => "opening",
            Phase::Run => "running",
            Phase::Drain => "draining",
            Phase::Abort => "aborted",
        }
    }

    /// What its queues and buffers take now.
    pub(crate) fn memory_now(&self) -> u64 {
        if self.at_work() > 0 { self.memory_bytes } else { 0 }
    }

    /// Shards on which it is still at work.
    pub(crate) fn at_work(&self) -> usize {
        self.parts.saturating_sub(self.control.ended())
    }
}

/// One reading of a flow, with what changed since the one before.
pub(crate) struct FlowSample {
    pub flow: Arc<FlowView>,
    pub now: Snapshot,
    /// None at the first one.
    pub before: Option<Snapshot>,
    /// One of its shards has not answered for seconds.
    pub stalled: bool,
}

impl FlowSample {
    pub(crate) fn status(&self) -> Status {
        match self.flow.status() {
            Status::Deploying | Status::Deployed | Status::Partial if self.stalled => {
                Status::Unknown
            }
            status => status,
        }
    }

    fn seconds(&self) -> f64 {
        let since = match &self.before {
            Some(before) => before.now_us,
            None => self.flow.started.unwrap_or(self.flow.created).mono_us,
        };
        (self.now.now_us.saturating_sub(since) as f64 / 1e6).max(1e-3)
    }

    /// Messages per second into and out of a component.
    pub(crate) fn rates(&self, component: usize) -> (f64, f64) {
        let now = &self.now.components[component];
        let was = self.before.as_ref().map(|before| &before.components[component]);
        let (was_in, was_out) = was.map_or((0, 0), |was| (was.rows_in, was.rows_out));
        let rate = |is: u64, was: u64| is.saturating_sub(was) as f64 / self.seconds();
        (rate(now.rows_in, was_in), rate(now.rows_out, was_out))
    }

    /// The part of the time that an edge's producer had no credit, in percent.
    pub(crate) fn backpressure_pct(&self, edge: usize) -> f64 {
        let was = self.before.as_ref().map_or(0, |before| before.edges[edge].blocked_us);
        let blocked_us = self.now.edges[edge].blocked_us.saturating_sub(was);
        (blocked_us as f64 / self.seconds() / 10_000.0).min(100.0)
    }

    /// Of its worst edge.
    pub(crate) fn worst_pct(&self) -> f64 {
        (0..self.now.edges.len()).map(|at| self.backpressure_pct(at)).fold(0.0, f64::max)
    }

    /// Messages per second in at the sources, out at the sinks.
    pub(crate) fn throughput(&self) -> (f64, f64) {
        let roles = self.now.components.iter().enumerate();
        roles.fold((0.0, 0.0), |(into, out), (at, component)| match component.role {
            Role::Source => (into + self.rates(at).0, out),
            Role::Sink => (into, out + self.rates(at).1),
            Role::Operator => (into, out),
        })
    }

    /// Messages in, out, and refused since the beginning.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let components = &self.now.components;
        let sum = |role, of: fn(&ringmain_metrics::ComponentSnapshot) -> u64| {
            components.iter().filter(|c| c.role == role).map(of).sum()
        };
        let dead = components.iter().map(|c| c.dead).sum();
        (sum(Role::Source, |c| c.rows_in), sum(Role::Sink, |c| c.rows_out), dead)
    }
}

/// One reading of everything.
pub(crate) struct Sample {
    pub now: Now,
    pub flows: Vec<Arc<FlowSample>>,
    pub node: NodeSample,
}

impl Sample {
    pub(crate) fn flow(&self, name: &str) -> Option<&Arc<FlowSample>> {
        self.flows.iter().find(|sample| sample.flow.name() == name)
    }
}

/// What does not change while the daemon runs.
pub(crate) struct NodeFacts {
    pub name: String,
    pub cores: Vec<usize>,
    pub memory_bytes: u64,
    pub started: Now,
    pub started_at: Instant,
}

/// The shared view.
pub(crate) struct View {
    pub node: NodeFacts,
    pub clock: SystemClock,
    budget: Mutex<Option<Budget>>,
    lives: AtomicU64,
    ready: AtomicBool,
    flows: RwLock<BTreeMap<String, Arc<FlowView>>>,
    monitors: RwLock<Vec<Monitor>>,
    tasks: Mutex<ShardTasks>,
    sample: RwLock<Arc<Sample>>,
    schedules: RwLock<BTreeMap<String, Arc<ScheduleReport>>>,
}

impl View {
    pub(crate) fn new(plan: &Plan, cores: &[usize], clock: SystemClock) -> Arc<Self> {
        let started = clock.now();
        let node = NodeFacts {
            name: plan.daemon.name.clone(),
            cores: cores.to_vec(),
            memory_bytes: plan.shards.memory_bytes,
            started,
            started_at: Instant::now(),
        };
        let empty = Sample { now: started, flows: Vec::new(), node: NodeSample::default() };
        Arc::new(Self {
            node,
            clock,
            budget: Mutex::new(None),
            lives: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            flows: RwLock::default(),
            monitors: RwLock::default(),
            tasks: Mutex::default(),
            sample: RwLock::new(Arc::new(empty)),
            schedules: RwLock::default(),
        })
    }

    /// A definition that is new, or another. What runs under that name is
    /// shown until its successor does.
    pub(crate) fn put(&self, mut flow: FlowView) {
        let mut flows = write(&self.flows);
        if let Some(before) = flows.get(flow.name()) {
            flow.created = before.created;
            let (id, metrics, control) = (before.id, &before.metrics, &before.control);
            flow = FlowView {
                id,
                metrics: metrics.clone(),
                control: control.clone(),
                parts: before.parts,
                shards: before.shards.clone(),
                memory_bytes: before.memory_bytes,
                started: before.started,
                last_change: before.last_change.clone(),
                ..flow
            };
        }
        flows.insert(flow.name().to_owned(), Arc::new(flow));
    }

    /// Another version of a flow runs, and it goes on counting.
    pub(crate) fn amended(&self, flow: &Flow) {
        let started = self.flow(&flow.name).and_then(|view| view.started);
        self.live(flow);
        if let Some(view) = write(&self.flows).get_mut(&flow.name) {
            let started = started.or(view.started);
            *view = Arc::new(FlowView { started, ..FlowView::clone(view) });
        }
    }

    /// What became of the last change of a flow, for people.
    pub(crate) fn note_change(&self, name: &str, said: String) {
        let at = self.clock.now();
        if let Some(view) = write(&self.flows).get_mut(name) {
            let last_change = Some((at, said.into()));
            *view = Arc::new(FlowView { last_change, ..FlowView::clone(view) });
        }
    }

    /// A flow begins a life.
    pub(crate) fn live(&self, flow: &Flow) {
        let now = self.clock.now();
        let mut flows = write(&self.flows);
        let view = flows.get(&flow.name).map(|view| FlowView::clone(view));
        let view = view.unwrap_or_else(|| FlowView::at_rest(flow.plan.clone(), now));
        let view = FlowView {
            id: self.lives.fetch_add(1, Ordering::Relaxed) + 1,
            plan: flow.plan.clone(),
            metrics: flow.metrics.clone(),
            control: flow.control.clone(),
            parts: flow.parts,
            shards: flow.shards.clone(),
            memory_bytes: flow.memory_bytes,
            started: Some(now),
            ..view
        };
        flows.insert(flow.name.clone(), Arc::new(view));
    }

    pub(crate) fn remove(&self, name: &str) {
        write(&self.flows).remove(name);
        write(&self.schedules).remove(name);
    }

    /// A flow's schedule begins runs from now on.
    pub(crate) fn unshelve(&self, name: &str) {
        let mut flows = write(&self.flows);
        if let Some(flow) = flows.get_mut(name).filter(|flow| flow.shelved) {
            *flow = Arc::new(FlowView { shelved: false, ..FlowView::clone(flow) });
        }
    }

    pub(crate) fn set_schedule(&self, name: &str, report: ScheduleReport) {
        write(&self.schedules).insert(name.to_owned(), Arc::new(report));
    }

    /// When a flow runs; none where it has no schedule.
    pub(crate) fn schedule(&self, name: &str) -> Option<Arc<ScheduleReport>> {
        self.flow(name).filter(|flow| flow.plan.schedule.is_some())?;
        read(&self.schedules).get(name).cloned()
    }

    pub(crate) fn flow(&self, name: &str) -> Option<Arc<FlowView>> {
        read(&self.flows).get(name).cloned()
    }

    /// The flows that the daemon was started with run.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What slabs may grow by, for its use.
    pub(crate) fn set_budget(&self, budget: &Budget) {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget.clone());
    }

    /// The shards, once they stand.
    pub(crate) fn set_monitors(&self, monitors: Vec<Monitor>) {
        *write(&self.monitors) = monitors;
    }

    pub(crate) fn flows(&self) -> Vec<Arc<FlowView>> {
        read(&self.flows).values().cloned().collect()
    }

    /// The newest reading.
    pub(crate) fn sample(&self) -> Arc<Sample> {
        read(&self.sample).clone()
    }

    /// Shards whose turn has lasted too long to say what their flows do.
    fn stalled(&self) -> Vec<usize> {
        let monitors = read(&self.monitors);
        let stalled = monitors.iter().filter(|m| m.turn_lasts_us() > STALLED_US);
        stalled.filter_map(|monitor| monitor.name().rsplit('-').next()?.parse().ok()).collect()
    }

    /// Reads everything now; rates are since the reading before.
    pub(crate) fn take_sample(&self) -> Arc<Sample> {
        let before = self.sample();
        let now = self.clock.now();
        let stalled = self.stalled();
        let flow = |flow: Arc<FlowView>| {
            let same = before.flows.iter().find(|sample| sample.flow.id == flow.id);
            let reading = flow.metrics.snapshot(now.mono_us);
            let before = same.map(|same| same.now.clone());
            let stalled = flow.shards.iter().any(|shard| stalled.contains(shard));
            Arc::new(FlowSample { flow, now: reading, before, stalled })
        };
        let flows = self.flows().into_iter().map(flow).collect();
        let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let grown_bytes = budget.as_ref().map_or(0, Budget::used_bytes);
        drop(budget);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let node = node::sample(&read(&self.monitors), &mut tasks, grown_bytes, now.mono_us);
        drop(tasks);
        let sample = Arc::new(Sample { now, flows, node });
        *write(&self.sample) = sample.clone();
        sample
    }
}

/// Nothing that holds these locks panics half way through a change.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> FlowView {
        let text =
            "[sources.a]\ntype = \"stdin\"\n[sinks.b]\ntype = \"stdout\"\ninputs = [\"a\"]\n";
        let plan = ringmain_config::load_str("f.toml", text).unwrap_or_else(|e| panic!("{e}"));
        let view = FlowView::at_rest(Arc::new(plan.flows[0].clone()), Now::default());
        FlowView { parts: 1, ..view }
    }

    fn sample(flow: &FlowView, stalled: bool) -> FlowSample {
        let now = flow.metrics.snapshot(0);
        FlowSample { flow: Arc::new(flow.clone()), now, before: None, stalled }
    }

    #[test]
    fn a_flow_that_ran_and_went_wrong_is_in_error_one_that_never_ran_has_failed() {
        let flow = flow();
        assert_eq!(flow.status(), Status::Deploying);
        flow.control.note_error("b: cannot be opened".into());
        assert_eq!(flow.status(), Status::Failed);
        flow.control.set_phase(Phase::Run);
        assert_eq!(flow.status(), Status::Error);
        flow.control.set_phase(Phase::Abort);
        assert_eq!(flow.status(), Status::Error, "why it ended is not forgotten");
    }

    #[test]
    fn what_a_flow_does_whose_shard_does_not_answer_is_unknown() {
        let flow = flow();
        assert_eq!(sample(&flow, true).status(), Status::Unknown);
        flow.control.set_phase(Phase::Run);
        assert_eq!(sample(&flow, false).status(), Status::Deployed);
        assert_eq!(sample(&flow, true).status(), Status::Unknown);
        // What is known without the shard stays known.
        flow.control.note_error("b has given up".into());
        assert_eq!(sample(&flow, true).status(), Status::Error);
    }
}
