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

mod amend;
mod anew;
mod steps;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringmain_config::FlowPlan;
use ringmain_shard::Keep;
use tokio::sync::oneshot;

use crate::desk::{Answer, Together};
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

fn flow<'a>(running: &'a mut Running, name: &str) -> Option<&'a mut Flow> {
    running.flows.iter_mut().find(|flow| flow.name == name)
}
