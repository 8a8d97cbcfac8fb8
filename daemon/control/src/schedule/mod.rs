//! Flows that run at times, in windows, when files appear, or when messages
//! come.
//!
//! The scheduler is looked at by the controller several times a second, with
//! the time as a value. It begins runs and ends them through the same changes
//! as everybody else ([`Stage`]), and sees how they went by the flow's life: a
//! flow that somebody starts or stops by hand is a run like any other.
//!
//! Invariants: one run of a flow at a time; every run that began is in the
//! book, with how it ended; a message is acknowledged when what became of it is
//! there, too; what is remembered is bounded. Deliberately absent: threads and
//! timers of its own, but for the one that listens to brokers ([`topics`]).

mod arrivals;
mod book;
mod entry;
mod report;
#[cfg(test)]
mod tests;
mod times;
mod topics;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ringmain_base::Now;
use ringmain_config::SchedulePlan;
use ringmain_metrics::{FlowMetrics, Role};
use ringmain_runtime::Waker;
use ringmain_shard::Phase;
use tokio::sync::oneshot;

use self::book::Shelf;
use self::entry::Entry;
use self::topics::{Ears, Topics};
use crate::change::{Changes, Want};
use crate::desk::{Answer, Failure, Report};
use crate::view::{FlowView, View};

pub(crate) use book::{Counts, Outcome};
pub(crate) use report::ScheduleReport;

/// One life of a flow: from its start to its end.
pub(crate) trait Life {
    /// Greater than that of the life before.
    fn id(&self) -> u64;
    /// It has not ended.
    fn at_work(&self) -> bool;
    /// Somebody wanted it to end.
    fn told_to_end(&self) -> bool;
    fn errors(&self) -> Vec<String>;
    fn counts(&self) -> Counts;
}

/// What is to become of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    Stop,
}

/// The flows as the scheduler sees them.
pub(crate) trait Stage {
    /// The newest life of a flow; none when it has never run.
    fn life(&self, name: &str) -> Option<Arc<dyn Life>>;
    /// Begins a change, which goes on by itself.
    fn begin(&mut self, name: &str, wish: Wish) -> oneshot::Receiver<Answer>;
}

/// All flows with a schedule.
pub(crate) struct Scheduler {
    shelf: Shelf,
    entries: BTreeMap<String, Entry>,
    ears: Box<dyn Ears>,
}

impl Scheduler {
    /// `waker` is for messages that come.
    pub(crate) fn new(data_dir: Option<&Path>, waker: Arc<Waker>) -> Self {
        Self::with_ears(data_dir, Box::new(Topics::new(waker)))
    }

    fn with_ears(data_dir: Option<&Path>, ears: Box<dyn Ears>) -> Self {
        Self { shelf: Shelf::at(data_dir), entries: BTreeMap::new(), ears }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes up which flows there are, with their schedules. What a flow's
    /// schedule was is forgotten with the flow.
    pub(crate) fn take_up(&mut self, wanted: &[(String, SchedulePlan)]) {
        let stays = |name: &String| wanted.iter().any(|(n, _)| n == name);
        let gone: Vec<_> = self.entries.keys().filter(|name| !stays(name)).cloned().collect();
        for name in gone {
            if let Some(entry) = self.entries.remove(&name) {
                entry.forget();
            }
            self.shelf.forget(&name);
        }
        for (name, plan) in wanted {
            match self.entries.get_mut(name) {
                Some(entry) => entry.change(plan, &mut *self.ears),
                None => {
                    let book = self.shelf.load(name);
                    let entry = Entry::new(name, plan, book, &mut *self.ears);
                    self.entries.insert(name.clone(), entry);
                }
            }
        }
    }

    /// Begins and ends what it is time for. The schedules of which something
    /// is new.
    pub(crate) fn tick(
        &mut self,
        now: Now,
        stage: &mut dyn Stage,
    ) -> Vec<(String, ScheduleReport)> {
        let mut news = Vec::new();
        for (name, entry) in &mut self.entries {
            entry.tick(now, stage);
            if entry.take_unsaved() {
                self.shelf.save(name, entry.book());
            }
            entry.acknowledge();
            if entry.take_news() {
                news.push((name.clone(), entry.report()));
            }
        }
        news
    }

    /// Has a schedule begin nothing more, or begin again.
    pub(crate) fn suspend(&mut self, name: &str, suspend: bool) -> Answer {
        let Some(entry) = self.entries.get_mut(name) else {
            return Err(Failure::new(format!("the flow '{name}' has no schedule")));
        };
        entry.suspend(suspend);
        let action = if suspend { "suspended" } else { "resumed" };
        Ok(Report {
            flows: vec![name.to_owned()],
            action,
            duration_ms: 0,
            drained: true,
            ..Report::default()
        })
    }

    /// The daemon ends: runs that are on end with it.
    pub(crate) fn end(&mut self, now: Now) {
        for (name, entry) in &mut self.entries {
            entry.end(now);
            if entry.take_unsaved() {
                self.shelf.save(name, entry.book());
            }
        }
    }

    /// How long nothing is due by the clock, in microseconds.
    pub(crate) fn rest_us(&self, now: Now) -> Option<u64> {
        self.entries.values().filter_map(|entry| entry.rest_us(now)).min()
    }
}

impl Life for FlowView {
    fn id(&self) -> u64 {
        self.id
    }

    fn at_work(&self) -> bool {
        FlowView::at_work(self) > 0
    }

    fn told_to_end(&self) -> bool {
        matches!(self.control.phase(), Phase::Drain | Phase::Abort)
    }

    fn errors(&self) -> Vec<String> {
        self.control.errors()
    }

    fn counts(&self) -> Counts {
        counts(&self.metrics)
    }
}

fn counts(metrics: &FlowMetrics) -> Counts {
    let mut counts = Counts::default();
    for component in &metrics.snapshot(0).components {
        counts.dropped += component.dropped;
        counts.dead += component.dead;
        match component.role {
            Role::Source => counts.messages_in += component.rows_in,
            Role::Sink => counts.messages_out += component.rows_out,
            Role::Operator => {}
        }
    }
    counts
}

/// The daemon's own flows.
pub(crate) struct House<'a> {
    pub changes: &'a mut Changes,
    pub view: &'a View,
}

impl Stage for House<'_> {
    fn life(&self, name: &str) -> Option<Arc<dyn Life>> {
        let flow = self.view.flow(name).filter(|flow| flow.id > 0)?;
        Some(flow)
    }

    fn begin(&mut self, name: &str, wish: Wish) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let want = match (wish, self.view.flow(name)) {
            (Wish::Run, Some(flow)) => Want::Run(flow.plan.clone()),
            _ => Want::Stop,
        };
        self.changes.begin(name, want, Some(answer));
        answered
    }
}
