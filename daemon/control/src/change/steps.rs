//! The steps of a change, one after the other, and what is said when it is made.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use ringmain_shard::{Keep, Parts, Phase};

use super::{Change, REMOVE_DEADLINE, Scene, Stage, Want, flow};
use crate::desk::{Answer, Components, Report};

impl Change {
    pub(super) fn finish(mut self, answer: Answer) {
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
    pub(super) fn tick(&mut self, scene: &mut Scene<'_>, starting: bool) -> (bool, Option<Answer>) {
        let mut changed = false;
        loop {
            let before = self.stage;
            let done = self.step(scene, starting, &mut changed);
            if done.is_some() || self.stage == before {
                return (changed, done);
            }
        }
    }

    pub(super) fn step(
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

    pub(super) fn begin(&mut self, scene: &mut Scene<'_>, changed: &mut bool) -> Option<Answer> {
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

    pub(super) fn report(&self, action: &'static str) -> Report {
        Report {
            flows: vec![self.name.clone()],
            action,
            duration_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            drained: self.drained,
            components: self.components().map(Box::new),
            ..Report::default()
        }
    }

    pub(super) fn components(&self) -> Option<Components> {
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
