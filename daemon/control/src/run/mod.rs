//! A run of the daemon: start, watch ([`watch`]), stop in good order, and say
//! what it came to.

mod asked;
mod watch;

use std::fmt;
use std::fs;
use std::path::PathBuf;

use ringmain_base::{Clock, SystemClock};
use ringmain_config::FlowPlan;
use ringmain_runtime::signals::Signals;
use ringmain_runtime::{IoKind, RuntimeError, ShardFailure, Stall, Supervisor, SupervisorOptions};

use self::watch::Watch;
use crate::check::Prepared;
use crate::desk::{Desk, Inbox};
use crate::reload;
use crate::schedule::Scheduler;
use crate::scripts::Scripts;
use crate::side::Side;
use crate::start::{Running, start};
use crate::store::{Store, StoreError};
use crate::summary::Summary;
use crate::view::View;

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Where to write the summary as JSON.
    pub summary_json: Option<PathBuf>,
    /// Which I/O driver to use.
    pub io: IoKind,
    /// Told what the daemon is doing, for a service manager.
    pub on_state: Option<fn(RunState)>,
}

/// What the daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its flows run. Told again when their number changes.
    Running {
        /// How many.
        flows: usize,
    },
    /// The controller takes its turns. Told at each, several times a second.
    Alive,
    /// It drains.
    Ending,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Totals of each flow.
    pub summaries: Vec<Summary>,
    /// Nothing was left behind: the flows came to their end, or were drained
    /// in time.
    pub drained: bool,
}

/// Why a run failed.
#[derive(Debug)]
pub enum RunError {
    /// Connectors could not be opened: each with flow, component and key.
    Open(Vec<String>),
    /// A shard's thread could not be started.
    Launch(RuntimeError),
    /// A shard died: a fault of this program.
    Shard(ShardFailure),
    /// Positions cannot be read.
    Store(StoreError),
    /// The system refused something.
    System(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(errors) => f.write_str(&errors.join("\n")),
            Self::Launch(error) => error.fmt(f),
            Self::Shard(failure) => failure.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::System(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs a plan to its end: that of its sources, or a signal. `signals` was made
/// before the process had a second thread, lest that one take the signal.
///
/// # Errors
/// What kept it from starting, or a shard that died.
pub fn run(
    prepared: &Prepared,
    options: &RunOptions,
    signals: &mut Signals,
) -> Result<Outcome, RunError> {
    let data_dir = prepared.plan.daemon.data_dir.as_deref();
    let store = data_dir.map(Store::open).transpose().map_err(RunError::Store)?;
    if !ringmain_shard::lua_self_test() {
        tracing::warn!(
            "LuaJIT was built without checked hooks: Lua runs interpreted, some ten times slower; \
             build with the repository's .cargo/config.toml"
        );
    }
    let clock = SystemClock::new();
    let view = View::new(&prepared.plan, &prepared.cores, clock);
    let failed = |error| RunError::System(format!("cannot make a pipe: {error}"));
    let (desk, inbox) = Desk::open().map_err(failed)?;
    let side = Side::start(prepared, &view, desk)?;
    let outcome = carry(prepared, options, signals, store.as_ref(), (clock, &view, inbox));
    if let Some(side) = side {
        side.finish();
    }
    outcome
}

/// From the first connector that opens to the last that ends.
fn carry(
    prepared: &Prepared,
    options: &RunOptions,
    signals: &mut Signals,
    store: Option<&Store>,
    (clock, view, inbox): (SystemClock, &View, Inbox),
) -> Result<Outcome, RunError> {
    reload::show(prepared, view);
    // Of those that begin now, in the order in which they will stand.
    let now: Vec<_> =
        prepared.plan.flows.iter().filter(|flow| flow.schedule.is_none()).cloned().collect();
    let scripts = Scripts::watch(&now);
    let mut running = start(prepared, options.io, clock)?;
    running.show(view);
    let mut watch = Watch::new(prepared, &mut running, store, view, (scripts, inbox));
    if let Err(error) = watch.open(now) {
        drop(watch);
        running.abort();
        return Err(error);
    }
    let _supervisor = supervise(watch.running)?;
    watch.on_state = options.on_state;
    view.set_ready();
    watch.tell(RunState::Running { flows: prepared.plan.flows.len() });
    let drained = watch.until_end(signals);
    watch.changes.give_up();
    let waker = watch.inbox.waker.clone();
    let scheduler = std::mem::replace(&mut watch.scheduler, Scheduler::new(None, waker));
    drop(watch);
    match drained {
        Ok(drained) => {
            if drained {
                running.join();
            } else {
                running.abort();
            }
            if let Some(store) = store {
                let flows = running.flows.iter_mut();
                flows.for_each(|flow| flow.keeper.finish(&flow.control, store));
            }
            end_runs(scheduler, clock);
            let summaries = summarise(&mut running, drained);
            write_json(&summaries, options)?;
            Ok(Outcome { summaries, drained })
        }
        Err(error) => {
            running.abort();
            end_runs(scheduler, clock);
            Err(error)
        }
    }
}

fn end_runs(mut scheduler: Scheduler, clock: SystemClock) {
    scheduler.end(clock.now());
}

/// Whether flows may come while it runs. A run of finite flows that nobody can
/// talk to ends with them.
fn is_resident(prepared: &Prepared) -> bool {
    let plan = &prepared.plan;
    let ends = |flow: &FlowPlan| flow.is_finite() && flow.schedule.is_none();
    plan.api.listen.is_some() || !plan.flows.iter().all(ends)
}

fn supervise(running: &Running) -> Result<Supervisor, RunError> {
    let monitors = running.threads.iter().map(|thread| thread.monitor()).collect();
    let on_stall = |stall: Stall| {
        let (shard, seconds) = (stall.shard, stall.lasted_us as f64 / 1e6);
        tracing::warn!("{shard}: a turn has lasted for {seconds:.1} s");
    };
    Supervisor::start(monitors, SupervisorOptions::default(), on_stall)
        .map_err(|error| RunError::System(format!("cannot start a thread: {error}")))
}

/// Stores what is to be kept of the flows. True when the shards are to be woken.
fn keep(running: &mut Running, store: Option<&Store>, due: bool) -> bool {
    let Some(store) = store else { return false };
    let mut wake = false;
    for flow in &mut running.flows {
        wake |= flow.keeper.tick(&flow.control, store, due);
    }
    wake
}

/// What each flow came to, those that are gone last.
fn summarise(running: &mut Running, drained: bool) -> Vec<Summary> {
    let mut summaries = running.summaries();
    for summary in summaries.iter().filter(|_| drained) {
        for name in summary.unbalanced() {
            let flow = &summary.flow;
            tracing::error!("{flow}.{name}: in is not out + dropped + dead; please report this");
            debug_assert!(false, "{flow}.{name} does not balance: {summary:?}");
        }
    }
    for past in running.past() {
        match summaries.iter_mut().find(|summary| summary.flow == past.flow) {
            Some(summary) => summary.add(past),
            None => summaries.push(past),
        }
    }
    summaries
}

/// One flow is written as an object, several as a list of them.
fn write_json(summaries: &[Summary], options: &RunOptions) -> Result<(), RunError> {
    let Some(path) = &options.summary_json else { return Ok(()) };
    let text = match summaries {
        [one] => serde_json::to_string_pretty(one),
        many => serde_json::to_string_pretty(many),
    };
    let text = text.expect("numbers and names serialise");
    let failed = |error| RunError::System(format!("--summary-json {}: {error}", path.display()));
    fs::write(path, text + "\n").map_err(failed)
}
