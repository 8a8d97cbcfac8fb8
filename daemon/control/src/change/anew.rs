//! A flow that is drained and taken out of its shards, and one that is wired and
//! opened from nothing; what ran before again, if that fails.

use std::time::{Duration, Instant};

use ringmain_shard::Phase;

use super::{Change, OPEN_DEADLINE, REMOVE_DEADLINE, Scene, Stage, Want, flow};
use crate::desk::{Answer, Failure};

impl Change {
    pub(super) fn drain(&mut self, scene: &mut Scene<'_>) {
        let Some(flow) = flow(scene.running, &self.name) else { return };
        flow.control.set_phase(Phase::Drain);
        let deadline = Instant::now() + Duration::from_micros(flow.drain_us);
        self.stage = Stage::Draining { deadline };
        scene.running.wake();
    }

    pub(super) fn removed(
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
    pub(super) fn start(&mut self, scene: &mut Scene<'_>, changed: &mut bool) -> Option<Answer> {
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
    pub(super) fn run(&mut self, scene: &mut Scene<'_>) -> Option<Answer> {
        flow(scene.running, &self.name)?.control.set_phase(Phase::Run);
        scene.running.wake();
        Some(match self.failed.take() {
            Some(errors) => Err(Failure { rolled_back: true, errors }),
            None if self.old.is_some() => Ok(self.report("replaced")),
            None => Ok(self.report("started")),
        })
    }

    pub(super) fn opened(
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

    pub(super) fn fail(
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
}
