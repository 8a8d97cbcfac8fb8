//! The controller's loop: watch, store positions, stop in good order.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringmain_base::{Clock, SystemClock};
use ringmain_config::FlowPlan;
use ringmain_connectors::Health;
use ringmain_metrics::Role;
use ringmain_runtime::signals::{Signal, Signals};
use ringmain_runtime::{IoKind, RuntimeError, ShardFailure, Stall, Supervisor, SupervisorOptions};
use ringmain_shard::Phase;
use tokio::sync::oneshot;

use crate::change::{Changes, Scene, Want};
use crate::check::{Given, Prepared};
use crate::desk::{Answer, Asked, Command, Desk, Failure, Inbox, Report, Together};
use crate::live::Live;
use crate::reload::{self, Files};
use crate::schedule::{House, Scheduler};
use crate::scripts::Scripts;
use crate::side::Side;
use crate::start::{Running, start};
use crate::store::{Store, StoreError};
use crate::summary::Summary;
use crate::view::{FlowView, View};

/// How often the controller looks at shards that will end by themselves: how
/// late it may notice their end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How often it looks at shards that run until they are told to end.
const LOOK_IDLE_EVERY: Duration = Duration::from_millis(200);

/// How often it looks while flows are opened at the start.
const OPEN_LOOK_EVERY: Duration = Duration::from_millis(1);

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

struct Watch<'a> {
    running: &'a mut Running,
    store: Option<&'a Store>,
    view: &'a View,
    given: &'a Given,
    resident: bool,
    on_state: Option<fn(RunState)>,
    inbox: Inbox,
    changes: Changes,
    scheduler: Scheduler,
    /// Somebody has changed which flows run: it no longer ends with them.
    touched: bool,
    files: Files,
    live: Live,
    scripts: Scripts,
    store_at: Instant,
    store_every: Duration,
    deadline: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(
        prepared: &'a Prepared,
        running: &'a mut Running,
        store: Option<&'a Store>,
        view: &'a View,
        (scripts, inbox): (Scripts, Inbox),
    ) -> Self {
        let store_every = Duration::from_micros(prepared.plan.daemon.checkpoint_every_us);
        let resident = is_resident(prepared);
        let scheduled = prepared.plan.flows.iter().any(|flow| flow.schedule.is_some());
        Self {
            scripts,
            files: if resident { Files::watch(prepared) } else { Files::none() },
            running,
            store,
            view,
            given: &prepared.given,
            resident,
            on_state: None,
            scheduler: Scheduler::new(
                prepared.plan.daemon.data_dir.as_deref(),
                inbox.waker.clone(),
            ),
            inbox,
            changes: Changes::default(),
            touched: prepared.plan.flows.is_empty() || scheduled,
            live: Live::new(),
            store_at: Instant::now() + store_every,
            store_every,
            deadline: None,
        }
    }

    /// Opens every connector of these flows, and lets messages move when all
    /// stand.
    fn open(&mut self, plans: Vec<FlowPlan>) -> Result<(), RunError> {
        self.changes.begin_all(plans.into_iter());
        loop {
            self.running.check_threads()?;
            let (running, store) = (&mut *self.running, self.store);
            self.changes.tick(&mut Scene { running, store, view: self.view });
            if self.changes.are_open() {
                break;
            }
            std::thread::sleep(OPEN_LOOK_EVERY);
        }
        self.changes.release().map_err(RunError::Open)?;
        self.running.started = Instant::now();
        let (running, store) = (&mut *self.running, self.store);
        self.changes.tick(&mut Scene { running, store, view: self.view });
        if !self.resident {
            self.running.close();
        }
        self.take_up_schedules();
        self.view.take_sample();
        Ok(())
    }

    /// Which flows have a schedule, as they are known now.
    fn take_up_schedules(&mut self) {
        let flows = self.view.flows();
        let flows = flows.iter().filter(|flow| !flow.shelved);
        let scheduled = flows
            .filter_map(|flow| Some((flow.name().to_owned(), flow.plan.schedule.clone()?)))
            .collect::<Vec<_>>();
        self.scheduler.take_up(&scheduled);
        self.keep_schedules();
    }

    /// Begins and ends runs.
    fn keep_schedules(&mut self) {
        if self.deadline.is_some() || self.scheduler.is_empty() {
            return;
        }
        let now = self.running.clock.now();
        let mut house = House { changes: &mut self.changes, view: self.view };
        for (name, report) in self.scheduler.tick(now, &mut house) {
            self.view.set_schedule(&name, report);
        }
    }

    fn tell(&self, state: RunState) {
        if let Some(tell) = self.on_state {
            tell(state);
        }
    }

    /// True when nothing was left behind.
    fn until_end(&mut self, signals: &mut Signals) -> Result<bool, RunError> {
        loop {
            let stays = self.deadline.is_none() && (self.touched || !self.changes.is_empty());
            if self.running.is_ended() && !stays {
                self.live.end(&self.running.flows);
                return Ok(true);
            }
            self.running.check_threads()?;
            self.tell(RunState::Alive);
            let signal = signals.wait_or_wake(self.pause(), &self.inbox.waker);
            if signal.is_some_and(|signal| self.obey(signal)) {
                tracing::warn!("second signal: ending at once");
                return Ok(false);
            }
            if self.scripts.tick(&self.running.flows) {
                self.running.wake();
            }
            if self.files.tick() {
                self.reload(None);
            }
            self.keep_schedules();
            self.change();
            let due = Instant::now() >= self.store_at;
            if due {
                self.store_at = Instant::now() + self.store_every;
            }
            if keep(self.running, self.store, due) {
                self.running.wake();
            }
            self.live.tick(&self.running.flows, self.running.clock.now().mono_us);
            if let Some((at, name)) = self.given_up() {
                if !self.resident || self.deadline.is_some() {
                    tracing::error!("{name} has given up: ending");
                    return Ok(false);
                }
                tracing::error!("{name} has given up: its flow ends");
                self.touched = true;
                let control = &self.running.flows[at].control;
                control.note_error(format!("{name} has given up"));
                control.set_phase(Phase::Abort);
                self.running.wake();
            }
            let late = self.deadline.is_some_and(|deadline| Instant::now() > deadline);
            if late && !self.running.is_ended() {
                tracing::warn!("drain: the deadline has passed; what is left is not acknowledged");
                return Ok(false);
            }
        }
    }

    /// Takes up what was asked for, and goes on with what is under way.
    fn change(&mut self) {
        while let Ok(asked) = self.inbox.asked.try_recv() {
            self.take(asked);
        }
        if self.deadline.is_some() {
            self.changes.give_up();
            return;
        }
        let (running, store) = (&mut *self.running, self.store);
        let mut scene = Scene { running, store, view: self.view };
        if self.changes.tick(&mut scene) {
            self.take_up_schedules();
            self.scripts.take_up(self.running);
            self.live = Live::new();
            self.view.set_monitors(self.running.monitors());
            self.tell(RunState::Running { flows: self.running.flows.len() });
            self.view.take_sample();
        }
    }

    fn take(&mut self, asked: Asked) {
        let answer = Some(asked.answer);
        self.touched = true;
        match asked.command {
            Command::Put { plan, text, path, creator, deploy } => {
                let name = plan.name.value.clone();
                let now = self.running.clock.now();
                let before = self.view.flow(&name);
                let shelved = !deploy && before.as_ref().is_none_or(|flow| flow.shelved);
                let waits = plan.schedule.is_some() && before.is_none_or(|f| f.at_work() == 0);
                let view = FlowView::at_rest(plan.clone(), now);
                let file = Some(path);
                self.view.put(FlowView { text, creator, kept: true, file, shelved, ..view });
                self.take_up_schedules();
                if deploy && !waits {
                    self.changes.begin(&name, Want::Run(plan), answer);
                } else {
                    let action = if waits && !shelved { "scheduled" } else { "stored" };
                    let flows = vec![name];
                    let report = Report {
                        flows,
                        action,
                        duration_ms: 0,
                        drained: true,
                        ..Report::default()
                    };
                    self.view.take_sample();
                    // Whoever asked may have gone.
                    let _ = answer.map(|answer| answer.send(Ok(report)));
                }
            }
            Command::Start { name } => match self.view.flow(&name) {
                Some(flow) => {
                    self.view.unshelve(&name);
                    self.take_up_schedules();
                    self.changes.begin(&name, Want::Run(flow.plan.clone()), answer);
                }
                None => {
                    let failure = Failure::new(format!("there is no flow '{name}'"));
                    let _ = answer.map(|answer| answer.send(Err(failure)));
                }
            },
            Command::Stop { name } => self.changes.begin(&name, Want::Stop, answer),
            Command::Delete { name } => self.changes.begin(&name, Want::Delete, answer),
            Command::Suspend { name, suspend } => {
                let result = self.scheduler.suspend(&name, suspend);
                self.keep_schedules();
                let _ = answer.map(|answer| answer.send(result));
            }
            Command::Reload => self.reload(answer),
            Command::ReloadScripts { name } => {
                let result = self.reload_scripts(name);
                let _ = answer.map(|answer| answer.send(result));
            }
        }
    }

    /// Reads the configuration's flows again and brings about what differs. A
    /// bad one changes nothing.
    fn reload(&mut self, answer: Option<oneshot::Sender<Answer>>) {
        let since = Instant::now();
        let wanted = match reload::diff(self.given, self.view) {
            Ok(wanted) => wanted,
            Err(failure) => {
                let errors = failure.errors.join("\n");
                tracing::error!("reload: all goes on as it is:\n{errors}");
                // Whoever asked may have gone.
                let _ = answer.map(|answer| answer.send(Err(failure)));
                return;
            }
        };
        let flows: Vec<_> = wanted.iter().map(|(name, _)| name.clone()).collect();
        tracing::info!("reload: {}", flows.join(", "));
        self.take_up_schedules();
        self.touched |= !wanted.is_empty() || !self.scheduler.is_empty();
        let action = if flows.is_empty() { "unchanged" } else { "reloaded" };
        let report = Report { flows, action, ..Report::default() };
        self.changes.begin_together(wanted, &Together::new(report, since, answer));
    }

    /// Reads one flow's scripts again.
    fn reload_scripts(&mut self, name: String) -> Answer {
        let since = Instant::now();
        let reloaded = self.scripts.reload(&self.running.flows, Some(&name));
        if reloaded.is_any() {
            self.running.wake();
        }
        if !reloaded.refused.is_empty() {
            return Err(Failure { rolled_back: true, errors: reloaded.refused });
        }
        let action = if reloaded.is_any() { "reloaded" } else { "unchanged" };
        let duration_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Report { flows: vec![name], action, duration_ms, drained: true, ..Report::default() })
    }

    /// True when everything must end at once.
    fn obey(&mut self, signal: Signal) -> bool {
        match signal {
            Signal::Quit => return true,
            Signal::Drain => self.drain(),
            Signal::Reload => {
                if self.scripts.reload(&self.running.flows, None).is_any() {
                    self.running.wake();
                }
                if self.resident && self.deadline.is_none() {
                    self.reload(None);
                }
            }
        }
        false
    }

    /// A connector that will not come back by itself, by flow and name. An
    /// operator that has failed takes nothing with it: its input becomes dead
    /// letters, and a new version heals it.
    fn given_up(&self) -> Option<(usize, String)> {
        self.running.flows.iter().enumerate().find_map(|(at, flow)| {
            if flow.control.phase() == Phase::Abort {
                return None;
            }
            let components = flow.metrics.components.iter().zip(flow.control.health());
            let mut failed = components.filter(|((_, role), health)| {
                *role != Role::Operator && matches!(health, Health::Failed(_))
            });
            failed.next().map(|((name, _), _)| (at, format!("{}.{name}", flow.name)))
        })
    }

    fn pause(&self) -> Duration {
        let ending = self.deadline.is_some()
            || self.scripts.is_waiting()
            || !self.changes.is_empty()
            || self.files.is_waiting()
            || (!self.touched && self.running.flows.iter().all(|flow| flow.finite));
        let waiting = self.running.flows.iter().any(|flow| flow.keeper.is_waiting());
        if ending || waiting {
            return LOOK_EVERY;
        }
        let due = self.scheduler.rest_us(self.running.clock.now()).map(Duration::from_micros);
        let rest = LOOK_IDLE_EVERY.min(self.store_every);
        due.map_or(rest, |due| due.clamp(LOOK_EVERY, rest))
    }

    fn drain(&mut self) {
        let longest = self.running.flows.iter().map(|flow| flow.drain_us).max().unwrap_or(0);
        self.deadline = Some(Instant::now() + Duration::from_micros(longest));
        self.tell(RunState::Ending);
        tracing::info!("draining; a second signal ends at once");
        self.running.set_phase(Phase::Drain);
    }
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
