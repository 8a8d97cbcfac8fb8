//! Flows that are started, stopped and replaced.
//!
//! One path for all: a change takes a flow from what runs to what is wanted,
//! either of which may be nothing; the start of the daemon is a change from
//! nothing of every flow, of which none carries messages before all can. What
//! runs is drained within its deadline and taken out of its shards; then what is
//! wanted is wired and opened; if that fails, what ran before is started again.
//! Changes of different flows go on side by side, those of one flow one after
//! the other, and none of them is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmain_config::FlowPlan;
use ringmain_shard::Phase;
use tokio::sync::oneshot;

use crate::desk::{Answer, Failure, Report};
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
    stage: Stage,
    since: Instant,
    /// What ran before.
    old: Option<Arc<FlowPlan>>,
    drained: bool,
    /// Why the new version did not start; the old one is being started.
    failed: Option<Vec<String>>,
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
            stage: Stage::Waiting,
            since: Instant::now(),
            old: None,
            drained: true,
            failed: None,
        });
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
                    // Whoever asked sees what was made of it.
                    scene.view.take_sample();
                    self.list.remove(at).finish(answer);
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
                "{}: {} in {} ms{}",
                self.name,
                report.action,
                report.duration_ms,
                if report.drained { "" } else { ", not drained in time" }
            ),
            Err(failure) => {
                let goes_on = if failure.rolled_back { "; the old version goes on" } else { "" };
                tracing::error!("{}: {}{goes_on}", self.name, failure.errors.join("; "));
            }
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
        flow.control.set_phase(Phase::Drain);
        let deadline = Instant::now() + Duration::from_micros(flow.drain_us);
        self.stage = Stage::Draining { deadline };
        scene.running.wake();
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
            flow.keeper.tick(&flow.control, store, true);
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
        }
    }
}

fn flow<'a>(running: &'a mut Running, name: &str) -> Option<&'a mut Flow> {
    running.flows.iter_mut().find(|flow| flow.name == name)
}
