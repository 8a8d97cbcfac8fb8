//! Flows that are started, stopped and replaced.
//!
//! One path for all: a change takes a flow from what runs to what is wanted,
//! either of which may be nothing; the start of the daemon is a change from
//! nothing of every flow, of which none carries messages before all can.
//!
//! What runs goes on where the new version has the same: the new one stands by
//! on all shards, with its own connectors open, and takes over when all stand
//! ([`ringmain_shard::Keep`]); if one does not, nothing has happened. Where that
//! cannot be, what runs is drained within its deadline and taken out of its
//! shards; then what is wanted is wired and opened; if that fails, what ran
//! before is started again. Changes of different flows go on side by side, those
//! of one flow one after the other, and none of them is waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringmain_config::FlowPlan;
use ringmain_shard::{Keep, Parts, Phase};
use tokio::sync::oneshot;

use crate::desk::{Answer, Components, Failure, Report, Together};
use crate::start::{Flow, Running};
use crate::store::Store;
use crate::view::View;

/// How long opening a flow may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// How long a shard may take to give a flow up.
const REMOVE_DEADLINE: Duration = Duration::from_secs(5);

/// Changes under way at once; the others wait. A shard's inlet has room for
/// their flows.
const ACTIVE_MAX: usize = 32;

/// What a flow is to become.
pub(crate) enum Want {
    /// This, anew.
    Run(Arc<FlowPlan>),
    /// Nothing that runs.
    Stop,
    /// Nothing at all.
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// The new version builds and opens what is new of it.
    StandingBy {
        deadline: Instant,
    },
    /// Sources that leave come to their end.
    Parting {
        deadline: Instant,
    },
    /// The new version has taken over; sinks that leave come to their end.
    Settling {
        deadline: Instant,
        hurried: bool,
    },
    /// The new version, which does not take over, is taken away again.
    SteppingBack {
        deadline: Instant,
    },
    Draining {
        deadline: Instant,
    },
    Removing {
        deadline: Instant,
    },
    Opening {
        deadline: Instant,
    },
    /// Open, and held until all are.
    Held,
}

/// A change under way.
pub(crate) struct Change {
    name: String,
    want: Want,
    answer: Option<oneshot::Sender<Answer>>,
    /// The others that were asked for with it.
    together: Option<Arc<Mutex<Together>>>,
    stage: Stage,
    since: Instant,
    /// What ran before.
    old: Option<Arc<FlowPlan>>,
    drained: bool,
    /// Why the new version did not start; the old one is being started.
    failed: Option<Vec<String>>,
    /// The version that is to take over, and how.
    next: Option<Box<Flow>>,
    keep: Option<Arc<Keep>>,
    /// Why nothing was kept.
    whole: Option<String>,
}

/// All changes under way.
#[derive(Default)]
pub(crate) struct Changes {
    list: Vec<Change>,
    /// The daemon starts: flows that are open wait for the others.
    starting: bool,
    /// What kept flows from starting meanwhile.
    refused: Vec<String>,
}

/// What a change works with.
pub(crate) struct Scene<'a> {
    pub running: &'a mut Running,
    pub store: Option<&'a Store>,
    pub view: &'a View,
}

impl Changes {
    pub(crate) fn begin(
        &mut self,
        name: &str,
        want: Want,
        answer: Option<oneshot::Sender<Answer>>,
    ) {
        self.list.push(Change {
            name: name.to_owned(),
            want,
            answer,
            together: None,
            stage: Stage::Waiting,
            since: Instant::now(),
            old: None,
            drained: true,
            failed: None,
            next: None,
            keep: None,
            whole: None,
        });
    }

    /// Changes that are answered as one.
    pub(crate) fn begin_together(
        &mut self,
        wanted: Vec<(String, Want)>,
        together: &Arc<Mutex<Together>>,
    ) {
        for (name, want) in wanted {
            self.begin(&name, want, None);
            if let Some(change) = self.list.last_mut() {
                change.together = Some(together.clone());
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The daemon starts with these.
    pub(crate) fn begin_all(&mut self, plans: impl Iterator<Item = FlowPlan>) {
        self.starting = true;
        for plan in plans {
            let name = plan.name.value.clone();
            self.begin(&name, Want::Run(Arc::new(plan)), None);
        }
    }

    /// Whether each is open, or was refused.
    pub(crate) fn are_open(&self) -> bool {
        self.list.iter().all(|change| change.stage == Stage::Held)
    }

    /// Lets them run with the next tick, unless any was refused.
    pub(crate) fn release(&mut self) -> Result<(), Vec<String>> {
        self.starting = false;
        let mut refused = std::mem::take(&mut self.refused);
        refused.sort();
        refused.dedup();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    /// Takes each as far as it goes now. True when flows came or went.
    pub(crate) fn tick(&mut self, scene: &mut Scene<'_>) -> bool {
        let (mut changed, mut at) = (false, 0);
        while at < self.list.len() {
            let name = &self.list[at].name;
            let follows = self.list[..at].iter().any(|earlier| earlier.name == *name);
            let waits = self.list[at].stage == Stage::Waiting;
            if follows || (waits && self.active() >= ACTIVE_MAX) {
                at += 1;
                continue;
            }
            let was_held = self.list[at].stage == Stage::Held;
            let (moved, done) = self.list[at].tick(scene, self.starting);
            changed |= moved;
            match done {
                Some(Err(failure)) if self.starting => {
                    self.refused.extend(failure.errors);
                    self.list.remove(at);
                }
                // The start of the daemon is told as a whole.
                Some(_) if was_held => drop(self.list.remove(at)),
                Some(answer) => {
                    let change = self.list.remove(at);
                    if let Ok(report) = &answer
                        && let Some(components) = &report.components
                    {
                        scene.view.note_change(&change.name, components.to_string());
                    }
                    // Whoever asked sees what was made of it.
                    scene.view.take_sample();
                    change.finish(answer);
                }
                None => at += 1,
            }
        }
        changed
    }

    fn active(&self) -> usize {
        let resting = |change: &&Change| matches!(change.stage, Stage::Waiting | Stage::Held);
        self.list.len() - self.list.iter().filter(resting).count()
    }

    /// The daemon is ending.
    pub(crate) fn give_up(&mut self) {
        for change in self.list.drain(..) {
            change.finish(Err(crate::desk::ending()));
        }
    }
}

impl Change {
    fn finish(mut self, answer: Answer) {
        match &answer {
            Ok(report) => tracing::info!(
                "{}: {} in {} ms{}{}",
                self.name,
                report.action,
                report.duration_ms,
                if report.drained { "" } else { ", not drained in time" },
                report.components.as_ref().map(|c| format!(" ({c})")).unwrap_or_default()
            ),
            Err(failure) => {
                let goes_on = if failure.rolled_back { "; the old version goes on" } else { "" };
                tracing::error!("{}: {}{goes_on}", self.name, failure.errors.join("; "));
            }
        }
        if let Some(together) = self.together.take() {
            let mut together = together.lock().unwrap_or_else(PoisonError::into_inner);
            together.note(&self.name, answer.clone());
        }
        if let Some(sender) = self.answer.take() {
            // Whoever asked may have gone.
            let _ = sender.send(answer);
        }
    }

    /// Whether flows came or went, and how it ended.
    fn tick(&mut self, scene: &mut Scene<'_>, starting: bool) -> (bool, Option<Answer>) {
        let mut changed = false;
        loop {
            let before = self.stage;
            let done = self.step(scene, starting, &mut changed);
            if done.is_some() || self.stage == before {
                return (changed, done);
            }
        }
    }

    fn step(
        &mut self,
        scene: &mut Scene<'_>,
        starting: bool,
        changed: &mut bool,
    ) -> Option<Answer> {
        match self.stage {
            Stage::Waiting => self.begin(scene, changed),
            Stage::StandingBy { deadline } => self.stands_by(scene, deadline, changed),
            Stage::Parting { deadline } => {
                let next = self.next.as_ref()?;
                if next.control.parted() == next.parts || Instant::now() > deadline {
                    self.drained = next.control.parted() == next.parts;
                    self.take_over(scene, changed);
                }
                None
            }
            Stage::Settling { deadline, hurried } => self.settled(scene, deadline, hurried),
            Stage::SteppingBack { deadline } => self.stepped_back(scene, deadline),
            Stage::Draining { deadline } => {
                let flow = flow(scene.running, &self.name)?;
                let ended = flow.is_ended();
                if ended || Instant::now() > deadline {
                    self.drained = ended;
                    if !ended {
                        flow.control.set_phase(Phase::Abort);
                        scene.running.wake();
                    }
                    self.stage = Stage::Removing { deadline: Instant::now() + REMOVE_DEADLINE };
                }
                None
            }
            Stage::Removing { deadline } => self.removed(scene, deadline, changed),
            Stage::Opening { deadline } => self.opened(scene, deadline, starting),
            Stage::Held if starting => None,
            Stage::Held => self.run(scene),
        }
    }

    fn begin(&mut self, scene: &mut Scene<'_>, changed: &mut bool) -> Option<Answer> {
        self.since = Instant::now();
        let Some(flow) = flow(scene.running, &self.name) else {
            return self.start(scene, changed);
        };
        self.old = Some(flow.plan.clone());
        if let Want::Run(plan) = &self.want
            && flow.control.phase() == Phase::Run
            && !flow.is_ended()
            && flow.control.errors().is_empty()
        {
            match Keep::of(&flow.plan, plan, &flow.joints) {
                Ok(keep) => {
                    let plan = plan.clone();
                    return self.stand_by(scene, &plan, Arc::new(keep));
                }
                Err(why) => self.whole = Some(why),
            }
        }
        self.drain(scene);
        None
    }

    fn drain(&mut self, scene: &mut Scene<'_>) {
        let Some(flow) = flow(scene.running, &self.name) else { return };
        flow.control.set_phase(Phase::Drain);
        let deadline = Instant::now() + Duration::from_micros(flow.drain_us);
        self.stage = Stage::Draining { deadline };
        scene.running.wake();
    }

    fn stand_by(
        &mut self,
        scene: &mut Scene<'_>,
        plan: &Arc<FlowPlan>,
        keep: Arc<Keep>,
    ) -> Option<Answer> {
        let at = scene.running.flows.iter().position(|flow| flow.name == self.name)?;
        match scene.running.stand_by(at, plan, &keep, scene.store.is_some()) {
            Ok(next) => {
                self.next = Some(Box::new(next));
                self.keep = Some(keep);
                self.stage = Stage::StandingBy { deadline: Instant::now() + OPEN_DEADLINE };
                None
            }
            Err(error) => Some(Err(Failure { rolled_back: true, errors: vec![error] })),
        }
    }

    fn stands_by(
        &mut self,
        scene: &mut Scene<'_>,
        deadline: Instant,
        changed: &mut bool,
    ) -> Option<Answer> {
        let (next, keep) = (self.next.as_ref()?, self.keep.as_ref()?);
        let mut errors = next.control.errors();
        if next.control.opened() < next.parts {
            if Instant::now() <= deadline {
                return None;
            }
            errors.push(format!("not open after {} s", OPEN_DEADLINE.as_secs()));
        }
        errors.sort();
        errors.dedup();
        self.whole = next.control.unfit();
        if self.whole.is_some() || !errors.is_empty() {
            self.failed = Some(errors).filter(|errors| !errors.is_empty());
            next.control.set_phase(Phase::Abort);
            self.stage = Stage::SteppingBack { deadline: Instant::now() + REMOVE_DEADLINE };
            scene.running.wake();
            return None;
        }
        if keep.takes_leave() {
            next.control.part();
            let drain_us = flow(scene.running, &self.name)?.drain_us;
            let deadline = Instant::now() + Duration::from_micros(drain_us);
            self.stage = Stage::Parting { deadline };
            scene.running.wake();
        } else {
            self.take_over(scene, changed);
        }
        None
    }

    fn take_over(&mut self, scene: &mut Scene<'_>, changed: &mut bool) {
        let (Some(next), Some(keep)) = (self.next.take(), &self.keep) else { return };
        let Some(flow) = flow(scene.running, &self.name) else { return };
        next.control.take_over(&flow.control, keep.operators());
        let deadline = Instant::now() + Duration::from_micros(flow.drain_us);
        let Flow { mut keeper, since, .. } = std::mem::replace(flow, *next);
        std::mem::swap(&mut flow.keeper, &mut keeper);
        flow.since = since;
        flow.keeper.go_on(keeper, keep.states(), scene.store);
        scene.view.amended(flow);
        self.stage = Stage::Settling { deadline, hurried: false };
        *changed = true;
        scene.running.wake();
    }

    fn settled(
        &mut self,
        scene: &mut Scene<'_>,
        deadline: Instant,
        hurried: bool,
    ) -> Option<Answer> {
        let flow = flow(scene.running, &self.name)?;
        let errors = flow.control.errors();
        if !errors.is_empty() && flow.control.phase() == Phase::Run {
            // A sink that could not be opened before the one that it follows
            // was closed: back to what ran, from the beginning.
            self.failed = Some(errors);
            self.drain(scene);
            return None;
        }
        if flow.control.settled() == flow.parts || flow.is_ended() {
            let plan = flow.plan.clone();
            // Queues that successors empty are there until the next change.
            let free = match flow.control.has_legacy() {
                true => 0,
                false => flow.memory_bytes.saturating_sub(scene.running.memory_of(&plan)),
            };
            scene.running.free(free);
            let flow = self::flow(scene.running, &self.name)?;
            flow.memory_bytes -= free;
            self.drained &= !hurried || flow.control.discarded() == 0;
            let mut report = self.report("replaced");
            if let Some(components) = &mut report.components {
                components.discarded = flow.control.discarded();
                components.handed_over = flow.control.handed_over();
            }
            return Some(Ok(report));
        }
        if Instant::now() <= deadline {
            return None;
        }
        if hurried {
            return Some(Err(Failure::new("a shard does not give the old version up")));
        }
        let replays = flow.plan.sources.iter().any(|source| source.kind.can_replay());
        if replays && self.keep.as_ref().is_some_and(|keep| keep.loses()) {
            let why = "a sink that changed had not accepted everything in time, so that the \
                       sources begin where it had";
            (self.whole, self.drained) = (Some(why.into()), false);
            flow.control.set_phase(Phase::Abort);
            self.stage = Stage::Removing { deadline: Instant::now() + REMOVE_DEADLINE };
        } else {
            flow.control.hurry();
            let deadline = Instant::now() + REMOVE_DEADLINE;
            self.stage = Stage::Settling { deadline, hurried: true };
        }
        scene.running.wake();
        None
    }

    fn stepped_back(&mut self, scene: &mut Scene<'_>, deadline: Instant) -> Option<Answer> {
        let next = self.next.as_ref()?;
        if next.control.removed() < next.parts && Instant::now() <= deadline {
            return None;
        }
        let both = next.memory_bytes;
        self.next = None;
        let now = flow(scene.running, &self.name)?.memory_bytes;
        scene.running.free(both.saturating_sub(now));
        if let Some(errors) = self.failed.take() {
            return Some(Err(Failure { rolled_back: true, errors }));
        }
        self.drain(scene);
        None
    }

    fn removed(
        &mut self,
        scene: &mut Scene<'_>,
        deadline: Instant,
        changed: &mut bool,
    ) -> Option<Answer> {
        let flow = flow(scene.running, &self.name)?;
        if flow.control.removed() < flow.parts {
            if Instant::now() > deadline {
                return Some(Err(Failure::new("a shard does not give the old version up")));
            }
            return None;
        }
        if let Some(store) = scene.store {
            flow.keeper.finish(&flow.control, store);
        }
        scene.running.forget(&self.name);
        *changed = true;
        self.start(scene, changed)
    }

    /// Wires what is wanted, or what ran before if that has failed.
    fn start(&mut self, scene: &mut Scene<'_>, changed: &mut bool) -> Option<Answer> {
        let plan = match (&self.failed, &self.want) {
            (Some(errors), _) => match self.old.clone() {
                Some(old) => old,
                None => {
                    let errors = errors.clone();
                    return Some(Err(Failure { rolled_back: false, errors }));
                }
            },
            (None, Want::Run(plan)) => plan.clone(),
            (None, Want::Stop) => return Some(Ok(self.report("stopped"))),
            (None, Want::Delete) => {
                scene.view.remove(&self.name);
                return Some(Ok(self.report("deleted")));
            }
        };
        if let Err(error) = scene.running.add(&plan, scene.store) {
            return self.fail(scene, vec![error], changed);
        }
        *changed = true;
        if let Some(flow) = flow(scene.running, &self.name) {
            scene.view.live(flow);
        }
        self.stage = Stage::Opening { deadline: Instant::now() + OPEN_DEADLINE };
        None
    }

    /// It is open, and may carry messages.
    fn run(&mut self, scene: &mut Scene<'_>) -> Option<Answer> {
        flow(scene.running, &self.name)?.control.set_phase(Phase::Run);
        scene.running.wake();
        Some(match self.failed.take() {
            Some(errors) => Err(Failure { rolled_back: true, errors }),
            None if self.old.is_some() => Ok(self.report("replaced")),
            None => Ok(self.report("started")),
        })
    }

    fn opened(
        &mut self,
        scene: &mut Scene<'_>,
        deadline: Instant,
        starting: bool,
    ) -> Option<Answer> {
        let flow = flow(scene.running, &self.name)?;
        let mut errors = flow.control.errors();
        if flow.control.opened() < flow.parts {
            if Instant::now() <= deadline {
                return None;
            }
            errors.push(format!("not open after {} s", OPEN_DEADLINE.as_secs()));
        }
        if errors.is_empty() {
            if starting {
                self.stage = Stage::Held;
                return None;
            }
            return self.run(scene);
        }
        if starting {
            // Told together with those of other flows.
            errors.iter_mut().for_each(|error| *error = format!("{}.{error}", self.name));
        }
        errors.sort();
        errors.dedup();
        flow.control.set_phase(Phase::Abort);
        scene.running.wake();
        if self.failed.is_some() {
            // The old one does not start either.
            self.old = None;
        }
        self.failed.get_or_insert_with(Vec::new).append(&mut errors);
        self.stage = Stage::Removing { deadline: Instant::now() + REMOVE_DEADLINE };
        None
    }

    fn fail(
        &mut self,
        scene: &mut Scene<'_>,
        mut errors: Vec<String>,
        changed: &mut bool,
    ) -> Option<Answer> {
        if self.failed.is_some() {
            self.old = None;
        }
        self.failed.get_or_insert_with(Vec::new).append(&mut errors);
        self.start(scene, changed)
    }

    fn report(&self, action: &'static str) -> Report {
        Report {
            flows: vec![self.name.clone()],
            action,
            duration_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            drained: self.drained,
            components: self.components().map(Box::new),
            ..Report::default()
        }
    }

    fn components(&self) -> Option<Components> {
        let (Some(old), Want::Run(new)) = (&self.old, &self.want) else { return None };
        if let (Some(keep), None) = (&self.keep, &self.whole) {
            let Parts { kept, rebuilt, added, removed } = keep.parts().clone();
            return Some(Components { kept, rebuilt, added, removed, ..Components::default() });
        }
        let diff = ringmain_config::diff(old, new);
        let rebuilt = diff.unchanged.into_iter().chain(diff.changed).collect();
        let whole = self.whole.clone().or_else(|| Some("it did not carry messages".into()));
        let (added, removed) = (diff.added, diff.removed);
        Some(Components { rebuilt, added, removed, whole, ..Components::default() })
    }
}

fn flow<'a>(running: &'a mut Running, name: &str) -> Option<&'a mut Flow> {
    running.flows.iter_mut().find(|flow| flow.name == name)
}
