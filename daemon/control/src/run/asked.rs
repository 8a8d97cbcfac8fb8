//! What was asked for, by whomever, and what it is time for.

use std::time::Instant;

use ringmain_base::Clock;
use tokio::sync::oneshot;

use super::RunState;
use super::watch::Watch;
use crate::change::{Scene, Want};
use crate::desk::{Answer, Asked, Command, Failure, Report, Together};
use crate::live::Live;
use crate::reload;
use crate::schedule::House;
use crate::view::FlowView;

impl Watch<'_> {
    /// Takes up what was asked for, and goes on with what is under way.
    pub(super) fn change(&mut self) {
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

    pub(super) fn take(&mut self, asked: Asked) {
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
    pub(super) fn reload(&mut self, answer: Option<oneshot::Sender<Answer>>) {
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
    pub(super) fn reload_scripts(&mut self, name: String) -> Answer {
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

    /// Which flows have a schedule, as they are known now.
    pub(super) fn take_up_schedules(&mut self) {
        let flows = self.view.flows();
        let flows = flows.iter().filter(|flow| !flow.shelved);
        let scheduled = flows
            .filter_map(|flow| Some((flow.name().to_owned(), flow.plan.schedule.clone()?)))
            .collect::<Vec<_>>();
        self.scheduler.take_up(&scheduled);
        self.keep_schedules();
    }

    /// Begins and ends runs.
    pub(super) fn keep_schedules(&mut self) {
        if self.deadline.is_some() || self.scheduler.is_empty() {
            return;
        }
        let now = self.running.clock.now();
        let mut house = House { changes: &mut self.changes, view: self.view };
        for (name, report) in self.scheduler.tick(now, &mut house) {
            self.view.set_schedule(&name, report);
        }
    }
}
