//! From a checked plan to running shards, and the way back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use ringmain_base::units::format_bytes;
use ringmain_base::{Clock, SystemClock};
use ringmain_config::FlowPlan;
use ringmain_connectors::Claims;
use ringmain_metrics::FlowMetrics;
use ringmain_ring::{Doorbell, Wake};
use ringmain_runtime::{IoKind, LaunchOptions, Monitor, ShardThread, Waker, launch};
use ringmain_shard::{
    Amended, FlowControl, FlowParts, Joints, Keep, Phase, SavedState, Shard, WireOptions, Wired,
    added_bytes, memory_bytes, rewire, wire,
};
use ringmain_slab::Budget;

use crate::check::Prepared;
use crate::keeper::Keeper;
use crate::run::RunError;
use crate::store::{Checkpoint, Store};
use crate::summary::Summary;
use crate::view::View;

/// Flows that may wait before a shard.
const INLET_FLOWS: usize = 64;

/// Flows that are gone and whose counts are kept for the end; the oldest are
/// forgotten.
const PAST_MAX: usize = 1_000;

/// A flow as the controller sees it.
pub(crate) struct Flow {
    pub name: String,
    pub plan: Arc<FlowPlan>,
    pub metrics: FlowMetrics,
    pub control: Arc<FlowControl>,
    pub keeper: Keeper,
    /// Shards with a part of it.
    pub parts: usize,
    /// Their numbers.
    pub shards: Arc<[usize]>,
    pub drain_us: u64,
    /// The component's number of its first operator.
    pub first_operator: usize,
    /// Its sources end by themselves.
    pub finite: bool,
    pub memory_bytes: u64,
    /// When this life of it began.
    pub since: Instant,
    /// What a next version is joined to.
    pub joints: Joints,
}

impl Flow {
    pub(crate) fn is_ended(&self) -> bool {
        self.control.ended() == self.parts
    }
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
    /// What flows came to that are gone, by name.
    past: Vec<Summary>,
    /// By shard: where parts of further flows go. Empty when there will be
    /// none: shards then end with their flows.
    inlets: Vec<SyncSender<FlowParts>>,
    wiring: Wiring,
}

/// What every flow of the daemon is wired with.
struct Wiring {
    bells: Vec<Doorbell>,
    claims: Claims,
    slab_bytes: usize,
    linger_us: u64,
    data_dir: Option<PathBuf>,
    /// Flows that were ever wired: the next one's home is the next shard.
    wired: usize,
    /// Memory of flows that are gone, free for new ones.
    free_bytes: u64,
}

/// Starts the shards, which wait for flows. What the flows of the plan need of
/// the memory is kept for them.
pub(crate) fn start(
    prepared: &Prepared,
    io: IoKind,
    clock: SystemClock,
) -> Result<Running, RunError> {
    let wakers = prepared.cores.iter().map(|_| Waker::new()).collect::<Result<Vec<_>, _>>();
    let wakers =
        wakers.map_err(|error| RunError::System(format!("cannot make an eventfd: {error}")))?;
    let wiring = Wiring {
        bells: wakers.iter().map(|waker| Doorbell::new(waker.clone())).collect(),
        claims: Claims::default(),
        slab_bytes: prepared.plan.shards.slab_bytes as usize,
        linger_us: prepared.plan.shards.linger_us,
        data_dir: prepared.plan.daemon.data_dir.clone(),
        wired: 0,
        free_bytes: 0,
    };
    let mut running = Running {
        flows: Vec::new(),
        threads: Vec::new(),
        wakers,
        clock,
        started: Instant::now(),
        budget: Budget::new(prepared.growth_bytes),
        past: Vec::new(),
        inlets: Vec::new(),
        wiring,
    };
    let bytes = prepared.plan.flows.iter().map(|plan| running.memory_of(plan)).sum();
    running.wiring.free_bytes = bytes;
    if let Err(error) = running.launch(prepared, io) {
        running.abort();
        return Err(error);
    }
    Ok(running)
}

impl Running {
    fn wire(
        &mut self,
        plan: &Arc<FlowPlan>,
        store: Option<&Store>,
    ) -> Result<(Flow, Vec<FlowParts>), RunError> {
        let checkpoint = match store {
            Some(store) => store.load(plan).map_err(RunError::Store)?,
            None => Checkpoint::of(plan),
        };
        let states: Arc<[_]> = checkpoint.states.clone().into();
        let options = self.wire_options(&checkpoint, &states, store.is_some());
        let wired = wire(plan, &options);
        self.wiring.wired += 1;
        Ok(self.flow(plan, checkpoint, wired))
    }

    fn wire_options<'a>(
        &'a self,
        checkpoint: &'a Checkpoint,
        states: &'a Arc<[SavedState]>,
        keep_positions: bool,
    ) -> WireOptions<'a> {
        let wiring = &self.wiring;
        WireOptions {
            bells: &wiring.bells,
            home: wiring.wired % wiring.bells.len(),
            slab_bytes: wiring.slab_bytes,
            linger_us: wiring.linger_us,
            budget: &self.budget,
            restore: &checkpoint.positions,
            states,
            keep_positions,
            data_dir: wiring.data_dir.as_deref(),
            claims: &wiring.claims,
        }
    }

    fn flow(
        &self,
        plan: &Arc<FlowPlan>,
        checkpoint: Checkpoint,
        wired: Wired,
    ) -> (Flow, Vec<FlowParts>) {
        let Wired { parts, metrics, control, positions, checkpoints, joints } = wired;
        let name = plan.name.value.clone();
        let flow = Flow {
            keeper: Keeper::new(&name, checkpoint, positions, checkpoints),
            name,
            metrics,
            control,
            parts: parts.len(),
            shards: parts.iter().map(|part| part.shard).collect(),
            drain_us: plan.drain_us,
            first_operator: plan.sources.len(),
            finite: plan.is_finite(),
            memory_bytes: self.memory_of(plan),
            plan: plan.clone(),
            since: Instant::now(),
            joints,
        };
        (flow, parts)
    }

    /// Has another version of a flow stand by on its shards; it is not among
    /// the flows until it takes over. What both need together is kept for them.
    pub(crate) fn stand_by(
        &mut self,
        at: usize,
        plan: &Arc<FlowPlan>,
        keep: &Arc<Keep>,
        keep_positions: bool,
    ) -> Result<Flow, String> {
        let old = &self.flows[at];
        let added = added_bytes(plan, keep, self.wakers.len(), self.wiring.slab_bytes);
        let both = self.memory_of(plan).max(old.memory_bytes + added);
        let bytes = both - old.memory_bytes;
        self.reserve(bytes)?;
        let old = &self.flows[at];
        let (control, metrics, joints) = (&old.control, &old.metrics, &old.joints);
        let states = Arc::default();
        let options = self.wire_options(old.keeper.current(), &states, keep_positions);
        let wired = rewire(plan, &options, Amended { keep, joints, control, metrics });
        let (mut flow, parts) = self.flow(plan, Checkpoint::of(plan), wired);
        flow.memory_bytes = both;
        if let Err(error) = self.send(parts) {
            flow.control.set_phase(Phase::Abort);
            self.wiring.free_bytes += bytes;
            return Err(error);
        }
        self.wake();
        Ok(flow)
    }

    /// Keeps memory for something.
    fn reserve(&mut self, bytes: u64) -> Result<(), String> {
        let more = bytes.saturating_sub(self.wiring.free_bytes);
        if !self.budget.reserve(more) {
            return Err(format!(
                "it needs {} for its queues and buffers, more than is left of [shards] memory",
                format_bytes(bytes)
            ));
        }
        self.wiring.free_bytes -= bytes - more;
        Ok(())
    }

    /// Something is not needed any more.
    pub(crate) fn free(&mut self, bytes: u64) {
        self.wiring.free_bytes += bytes;
    }

    /// To the shards that they are for.
    fn send(&self, parts: Vec<FlowParts>) -> Result<(), String> {
        for part in parts {
            let shard = part.shard;
            let sent = self.inlets.get(shard).is_some_and(|inlet| inlet.try_send(part).is_ok());
            if !sent {
                return Err(format!("shard {shard} takes no flows now; try again"));
            }
        }
        Ok(())
    }

    /// What a flow's queues and buffers take.
    pub(crate) fn memory_of(&self, plan: &FlowPlan) -> u64 {
        memory_bytes(plan, self.wakers.len(), self.wiring.slab_bytes)
    }

    /// Puts a flow in; its connectors are opened by its shards' next turns.
    pub(crate) fn add(
        &mut self,
        plan: &Arc<FlowPlan>,
        store: Option<&Store>,
    ) -> Result<(), String> {
        let bytes = self.memory_of(plan);
        self.reserve(bytes)?;
        let (flow, parts) = match self.wire(plan, store) {
            Ok(wired) => wired,
            Err(error) => {
                self.wiring.free_bytes += bytes;
                return Err(error.to_string());
            }
        };
        if let Err(error) = self.send(parts) {
            flow.control.set_phase(Phase::Abort);
            self.wiring.free_bytes += bytes;
            return Err(error);
        }
        self.flows.push(flow);
        self.wake();
        Ok(())
    }

    /// Forgets a flow of which nothing is left on any shard.
    pub(crate) fn forget(&mut self, name: &str) -> Option<Flow> {
        let at = self.flows.iter().position(|flow| flow.name == name)?;
        let flow = self.flows.remove(at);
        self.wiring.free_bytes += flow.memory_bytes;
        self.remember(&flow);
        Some(flow)
    }

    fn remember(&mut self, flow: &Flow) {
        if !flow.control.has_run() {
            return;
        }
        let mut summary = self.summary(flow);
        summary.ended = true;
        summary.cut_off = flow.control.phase() == Phase::Abort;
        if let Some(at) = self.past.iter().position(|past| past.flow == flow.name) {
            summary.add(self.past.remove(at));
        }
        if self.past.len() == PAST_MAX {
            self.past.remove(0);
        }
        self.past.push(summary);
    }

    fn summary(&self, flow: &Flow) -> Summary {
        let now_us = self.clock.now().mono_us;
        let seconds = flow.since.max(self.started).elapsed().as_secs_f64();
        Summary::of(&flow.metrics.snapshot(now_us), seconds)
    }

    /// What each flow of now came to.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        self.flows.iter().map(|flow| self.summary(flow)).collect()
    }

    /// What flows came to that are gone.
    pub(crate) fn past(&mut self) -> Vec<Summary> {
        std::mem::take(&mut self.past)
    }

    /// Shows the shards to the listener and the exporters.
    pub(crate) fn show(&self, view: &View) {
        view.set_budget(&self.budget);
        view.set_monitors(self.monitors());
    }

    pub(crate) fn monitors(&self) -> Vec<Monitor> {
        self.threads.iter().map(ShardThread::monitor).collect()
    }

    /// One thread per shard.
    fn launch(&mut self, prepared: &Prepared, io: IoKind) -> Result<(), RunError> {
        // What one is refused, all are.
        let told = Arc::new(AtomicBool::new(false));
        for (at, core) in prepared.cores.iter().enumerate() {
            let mut options =
                LaunchOptions::new(format!("shard-{at}"), self.wakers[at].clone(), self.clock);
            options.core = Some(*core);
            options.io = io;
            let told = told.clone();
            options.on_fallback = Some(Box::new(move |why| {
                if !told.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{why}");
                }
            }));
            let bell = self.wiring.bells[at].clone();
            let (sender, inlet) = sync_channel(INLET_FLOWS);
            let thread = launch(options, move |_, _| {
                Box::new(Shard::new(Vec::new(), bell).with_inlet(inlet))
            });
            self.threads.push(thread.map_err(RunError::Launch)?);
            self.inlets.push(sender);
        }
        Ok(())
    }

    /// No further flows: shards end with those that they have.
    pub(crate) fn close(&mut self) {
        self.inlets.clear();
        self.wake();
    }

    /// A shard that ends before its flows have is a failure.
    pub(crate) fn check_threads(&mut self) -> Result<(), RunError> {
        if (self.is_ended() && self.inlets.is_empty())
            || !self.threads.iter().any(ShardThread::is_finished)
        {
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
        self.flows.iter().all(Flow::is_ended)
    }

    /// Ends the shards without waiting for messages.
    pub(crate) fn abort(&mut self) {
        self.set_phase(Phase::Abort);
        self.join();
    }

    /// Waits for the shards' threads, which have been told to end.
    pub(crate) fn join(&mut self) {
        self.close();
        for thread in self.threads.drain(..) {
            if let Err(failure) = thread.join() {
                tracing::error!("{failure}");
            }
        }
    }
}
