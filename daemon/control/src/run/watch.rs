//! The controller's turn: look at flows and shards, obey signals, wait.

use std::time::{Duration, Instant};

use ringmain_base::Clock;
use ringmain_config::FlowPlan;
use ringmain_connectors::Health;
use ringmain_metrics::Role;
use ringmain_runtime::signals::{Signal, Signals};
use ringmain_shard::Phase;

use super::{RunError, RunState, is_resident, keep};
use crate::change::{Changes, Scene};
use crate::check::{Given, Prepared};
use crate::desk::Inbox;
use crate::live::Live;
use crate::reload::Files;
use crate::schedule::Scheduler;
use crate::scripts::Scripts;
use crate::start::Running;
use crate::store::Store;
use crate::view::View;

/// How often the controller looks at shards that will end by themselves: how
/// late it may notice their end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How often it looks at shards that run until they are told to end.
const LOOK_IDLE_EVERY: Duration = Duration::from_millis(200);

/// How often it looks while flows are opened at the start.
const OPEN_LOOK_EVERY: Duration = Duration::from_millis(1);

/// The controller while flows run.
pub(super) struct Watch<'a> {
    pub(super) running: &'a mut Running,
    pub(super) store: Option<&'a Store>,
    pub(super) view: &'a View,
    pub(super) given: &'a Given,
    pub(super) resident: bool,
    pub(super) on_state: Option<fn(RunState)>,
    pub(super) inbox: Inbox,
    pub(super) changes: Changes,
    pub(super) scheduler: Scheduler,
    /// Somebody has changed which flows run: it no longer ends with them.
    pub(super) touched: bool,
    pub(super) files: Files,
    pub(super) live: Live,
    pub(super) scripts: Scripts,
    pub(super) store_at: Instant,
    pub(super) store_every: Duration,
    pub(super) deadline: Option<Instant>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
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
    pub(super) fn open(&mut self, plans: Vec<FlowPlan>) -> Result<(), RunError> {
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

    pub(super) fn tell(&self, state: RunState) {
        if let Some(tell) = self.on_state {
            tell(state);
        }
    }

    /// True when nothing was left behind.
    pub(super) fn until_end(&mut self, signals: &mut Signals) -> Result<bool, RunError> {
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

    /// True when everything must end at once.
    pub(super) fn obey(&mut self, signal: Signal) -> bool {
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
    pub(super) fn given_up(&self) -> Option<(usize, String)> {
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

    pub(super) fn pause(&self) -> Duration {
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

    pub(super) fn drain(&mut self) {
        let longest = self.running.flows.iter().map(|flow| flow.drain_us).max().unwrap_or(0);
        self.deadline = Some(Instant::now() + Duration::from_micros(longest));
        self.tell(RunState::Ending);
        tracing::info!("draining; a second signal ends at once");
        self.running.set_phase(Phase::Drain);
    }
}
