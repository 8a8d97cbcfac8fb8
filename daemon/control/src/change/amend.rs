//! A version that takes over what runs: it stands by, takes over, and what is
//! left of the one before comes to its end. Or it steps back, and nothing has
//! happened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmain_config::FlowPlan;
use ringmain_shard::{Keep, Phase};

use super::{Change, OPEN_DEADLINE, REMOVE_DEADLINE, Scene, Stage, flow};
use crate::desk::{Answer, Failure};
use crate::start::Flow;

impl Change {
    pub(super) fn stand_by(
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

    pub(super) fn stands_by(
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

    pub(super) fn take_over(&mut self, scene: &mut Scene<'_>, changed: &mut bool) {
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

    pub(super) fn settled(
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

    pub(super) fn stepped_back(
        &mut self,
        scene: &mut Scene<'_>,
        deadline: Instant,
    ) -> Option<Answer> {
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
}
