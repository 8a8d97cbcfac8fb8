//! From a checked plan to running shards, and the way back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmain_base::{Clock, SystemClock};
use ringmain_connectors::Claims;
use ringmain_metrics::FlowMetrics;
use ringmain_ring::{Doorbell, Wake};
use ringmain_runtime::{IoKind, LaunchOptions, ShardThread, Waker, launch};
use ringmain_shard::{
    FlowControl, FlowParts, Phase, Shard, WireOptions, Wired, memory_bytes, wire,
};
use ringmain_slab::Budget;

use crate::check::Prepared;
use crate::keeper::Keeper;
use crate::run::RunError;
use crate::store::{Checkpoint, Store};
use crate::view::{FlowView, View};

/// How long opening files, binding and resolving may take altogether.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// How often the controller looks while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A flow as the controller sees it.
pub(crate) struct Flow {
    pub name: String,
    pub metrics: FlowMetrics,
    pub control: Arc<FlowControl>,
    pub keeper: Keeper,
    /// Shards with a part of it.
    pub parts: usize,
    pub drain_us: u64,
    /// The component's number of its first operator.
    pub first_operator: usize,
    /// Its sources end by themselves.
    pub finite: bool,
}

/// Everything that runs.
pub(crate) struct Running {
    pub flows: Vec<Flow>,
    pub threads: Vec<ShardThread>,
    pub wakers: Vec<Arc<Waker>>,
    pub clock: SystemClock,
    pub started: Instant,
    /// What slabs may grow by.
    pub budget: Budget,
}

/// Wires the flows, starts their shards and opens every connector; then lets
/// the messages move.
pub(crate) fn start(
    prepared: &Prepared,
    store: Option<&Store>,
    io: IoKind,
    clock: SystemClock,
) -> Result<Running, RunError> {
    let wakers = prepared.cores.iter().map(|_| Waker::new()).collect::<Result<Vec<_>, _>>();
    let wakers =
        wakers.map_err(|error| RunError::System(format!("cannot make an eventfd: {error}")))?;
    let budget = Budget::new(prepared.growth_bytes);
    let (flows, parts) = wire_all(prepared, store, &wakers, &budget)?;
    let started = Instant::now();
    let mut running = Running { flows, threads: Vec::new(), wakers, clock, started, budget };
    let result = running.launch(prepared, parts, io).and_then(|()| running.open());
    if let Err(error) = result {
        running.abort();
        return Err(error);
    }
    running.started = Instant::now();
    running.set_phase(Phase::Run);
    Ok(running)
}

type ShardParts = Vec<(Vec<FlowParts>, Doorbell)>;

fn wire_all(
    prepared: &Prepared,
    store: Option<&Store>,
    wakers: &[Arc<Waker>],
    budget: &Budget,
) -> Result<(Vec<Flow>, ShardParts), RunError> {
    let bells: Vec<_> = wakers.iter().map(|waker| Doorbell::new(waker.clone())).collect();
    let claims = Claims::default();
    let mut shards: ShardParts = bells.iter().map(|bell| (Vec::new(), bell.clone())).collect();
    let mut flows = Vec::new();
    for (at, plan) in prepared.plan.flows.iter().enumerate() {
        let name = plan.name.value.clone();
        let checkpoint = match store {
            Some(store) => store.load(plan).map_err(RunError::Store)?,
            None => Checkpoint::of(plan),
        };
        let states: Arc<[_]> = checkpoint.states.clone().into();
        let options = WireOptions {
            bells: &bells,
            home: at % bells.len(),
            slab_bytes: prepared.plan.shards.slab_bytes as usize,
            linger_us: prepared.plan.shards.linger_us,
            budget,
            restore: &checkpoint.positions,
            states: &states,
            keep_positions: store.is_some(),
            data_dir: prepared.plan.daemon.data_dir.as_deref(),
            claims: &claims,
        };
        let wired = wire(&Arc::new(plan.clone()), &options);
        let Wired { parts, metrics, control, positions, checkpoints } = wired;
        let keeper = Keeper::new(&name, checkpoint, positions, checkpoints);
        let count = parts.len();
        for part in parts {
            shards[part.shard].0.push(part);
        }
        flows.push(Flow {
            name,
            metrics,
            control,
            keeper,
            parts: count,
            drain_us: plan.drain_us,
            first_operator: plan.sources.len(),
            finite: plan.is_finite(),
        });
    }
    Ok((flows, shards))
}

impl Running {
    /// Shows the flows and shards to the listener and the exporters.
    pub(crate) fn show(&self, prepared: &Prepared, view: &View) {
        let plan = &prepared.plan;
        view.set_budget(&self.budget);
        view.set_monitors(self.threads.iter().map(ShardThread::monitor).collect());
        for (at, (flow, of)) in self.flows.iter().zip(&plan.flows).enumerate() {
            let file = plan.sources.get(of.file);
            let slab_bytes = plan.shards.slab_bytes as usize;
            view.put(FlowView {
                id: at as u64 + 1,
                plan: Arc::new(of.clone()),
                file: file.and_then(|file| file.path.clone()),
                text: file.map_or("", |file| &file.text).into(),
                metrics: flow.metrics.clone(),
                control: flow.control.clone(),
                parts: flow.parts,
                memory_bytes: memory_bytes(of, self.wakers.len(), slab_bytes),
                created: self.clock.now(),
                creator: "configuration".into(),
            });
        }
        view.take_sample();
    }

    /// One thread per shard that has anything to do.
    fn launch(
        &mut self,
        prepared: &Prepared,
        shards: ShardParts,
        io: IoKind,
    ) -> Result<(), RunError> {
        for (at, (parts, bell)) in shards.into_iter().enumerate() {
            if parts.is_empty() {
                continue;
            }
            let name = format!("shard-{at}");
            let mut options = LaunchOptions::new(name, self.wakers[at].clone(), self.clock);
            options.core = Some(prepared.cores[at]);
            options.io = io;
            options.on_fallback = Some(Box::new(move |why| tracing::warn!("{why}")));
            let thread = launch(options, move |_, _| Box::new(Shard::new(parts, bell)));
            self.threads.push(thread.map_err(RunError::Launch)?);
        }
        Ok(())
    }

    /// Waits until every connector stands.
    fn open(&mut self) -> Result<(), RunError> {
        let deadline = Instant::now() + OPEN_DEADLINE;
        while self.flows.iter().any(|flow| flow.control.opened() < flow.parts) {
            self.check_threads()?;
            if Instant::now() > deadline {
                let waiting = self.flows.iter().filter(|f| f.control.opened() < f.parts);
                let names: Vec<_> = waiting.map(|flow| flow.name.as_str()).collect();
                let (names, secs) = (names.join(", "), OPEN_DEADLINE.as_secs());
                return Err(RunError::System(format!("{names}: not open after {secs} s")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let errors = self.flows.iter().flat_map(|flow| {
            flow.control.errors().into_iter().map(|error| format!("{}.{error}", flow.name))
        });
        let mut errors: Vec<_> = errors.collect();
        errors.sort();
        errors.dedup();
        if errors.is_empty() { Ok(()) } else { Err(RunError::Open(errors)) }
    }

    /// A shard that ends before its flows have is a failure.
    pub(crate) fn check_threads(&mut self) -> Result<(), RunError> {
        let ended = self.flows.iter().all(|flow| flow.control.ended() == flow.parts);
        if ended || !self.threads.iter().any(ShardThread::is_finished) {
            return Ok(());
        }
        let Some(at) = self.threads.iter().position(ShardThread::is_finished) else {
            return Ok(());
        };
        match self.threads.swap_remove(at).join() {
            Ok(()) => Ok(()),
            Err(failure) => Err(RunError::Shard(failure)),
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        for flow in &self.flows {
            flow.control.set_phase(phase);
        }
        self.wake();
    }

    /// Has every shard take a turn.
    pub(crate) fn wake(&self) {
        for waker in &self.wakers {
            waker.wake();
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.flows.iter().all(|flow| flow.control.ended() == flow.parts)
    }

    /// Ends the shards without waiting for messages.
    pub(crate) fn abort(&mut self) {
        self.set_phase(Phase::Abort);
        self.join();
    }

    /// Waits for the shards' threads, which have been told to end.
    pub(crate) fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if let Err(failure) = thread.join() {
                tracing::error!("{failure}");
            }
        }
    }
}
