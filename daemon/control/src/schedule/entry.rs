//! One flow's schedule: what is due, what is on, what comes next.

use std::sync::Arc;

use ringmain_base::Now;
use ringmain_config::{Misfire, Overlap, SchedulePlan, Trigger};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::arrivals::{Known, look};
use super::book::{Book, Cause, Counts, Outcome};
use super::report::ScheduleReport;
use super::times::Times;
use super::topics::{Ears, Heard, Leave, Listener, Opening};
use super::{Life, Stage, Wish};
use crate::desk::Answer;

/// Later than this a time was missed.
const MISSED_US: i64 = 1_000_000;

/// How often files are looked for.
const LOOK_EVERY_US: u64 = 1_000_000;

/// The flow of a run.
enum Flow {
    /// It is being started.
    Starting(oneshot::Receiver<Answer>),
    On(Arc<dyn Life>),
}

/// A run that has not ended.
struct On {
    flow: Flow,
    /// When its duration is over.
    ends_us: Option<i64>,
    /// What it will have ended as, when that was decided here.
    ending: Option<Outcome>,
}

struct Due {
    cause: Cause,
    at_us: i64,
    /// Of a message.
    topic: Option<String>,
    receipt: Option<u64>,
}

impl Due {
    fn at(cause: Cause, at_us: i64) -> Self {
        Self { cause, at_us, topic: None, receipt: None }
    }
}

/// A flow's schedule.
pub(super) struct Entry {
    name: String,
    plan: SchedulePlan,
    times: Option<Times>,
    /// It was looked at since it was made, changed or resumed.
    begun: bool,
    /// Files that are there at the next look have not just come.
    passes_over: bool,
    next_us: Option<i64>,
    look_at_us: u64,
    seen_wall_us: i64,
    book: Book,
    on: Option<On>,
    /// Begins when the run that is on has ended.
    queued: Option<Due>,
    listener: Option<Listener>,
    /// Of messages that can be acknowledged once the book is saved.
    receipts: Vec<u64>,
    /// The newest life that was seen; none before the first look.
    seen_life: Option<u64>,
    unsaved: bool,
    news: bool,
}

impl Entry {
    pub(super) fn new(name: &str, plan: &SchedulePlan, book: Book, ears: &mut dyn Ears) -> Self {
        let mut entry = Self {
            name: name.to_owned(),
            plan: plan.clone(),
            times: None,
            begun: false,
            passes_over: plan.misfire == Misfire::Skip,
            next_us: None,
            look_at_us: 0,
            seen_wall_us: 0,
            book,
            on: None,
            queued: None,
            listener: None,
            receipts: Vec::new(),
            seen_life: None,
            unsaved: true,
            news: true,
        };
        entry.set_times();
        entry.listen(plan.misfire == Misfire::Skip, None, ears);
        entry
    }

    /// Has somebody listen, where messages begin the runs.
    fn listen(&mut self, fresh: bool, after: Option<Listener>, ears: &mut dyn Ears) {
        let Trigger::Mqtt(plan) = &self.plan.trigger else { return self.book.filters.clear() };
        let named: Vec<_> = plan.topics.iter().map(|topic| topic.filter.value.clone()).collect();
        let former = std::mem::replace(&mut self.book.filters, named.clone()).into_iter();
        let former = former.filter(|filter| !named.contains(filter)).collect();
        let opening = Opening { name: self.name.clone(), former, fresh, after };
        self.listener = Some(ears.listen(plan, opening));
    }

    fn set_times(&mut self) {
        self.times = match &self.plan.trigger {
            Trigger::Cron(cron) => match Times::new(cron, &self.plan.timezone) {
                Ok(times) => Some(times),
                Err(error) => {
                    tracing::error!("{}: [schedule] {error}", self.name);
                    None
                }
            },
            Trigger::Files { .. } | Trigger::Mqtt(_) => None,
        };
    }

    /// Another version of the schedule; what is on goes on.
    pub(super) fn change(&mut self, plan: &SchedulePlan, ears: &mut dyn Ears) {
        if self.plan == *plan {
            return;
        }
        let before = std::mem::replace(&mut self.plan, plan.clone());
        if before.trigger != plan.trigger {
            self.hear_anew(&before.trigger, ears);
        }
        if before.trigger != plan.trigger || before.timezone != plan.timezone {
            // Times that the new one would have had are not made up for.
            self.book.last_due_us = None;
            self.book.known = None;
            self.begun = false;
            self.passes_over = plan.misfire == Misfire::Skip;
            self.next_us = None;
        }
        self.set_times();
        self.changed();
    }

    /// Another trigger: a listener goes, one that goes on with its session
    /// comes, or both.
    fn hear_anew(&mut self, before: &Trigger, ears: &mut dyn Ears) {
        let old = self.listener.take();
        let session = |trigger: &Trigger| match trigger {
            Trigger::Mqtt(mqtt) => {
                Some((mqtt.client.address.clone(), mqtt.client.client_id.clone()))
            }
            _ => None,
        };
        let goes_on = session(before) == session(&self.plan.trigger);
        if let Some(old) = &old {
            old.acknowledge(&mut self.receipts);
            old.leave(if goes_on { Leave::ForNow } else { Leave::ForGood });
        }
        // A receipt is for the listener that is gone. In a session that goes
        // on the broker sends the message again.
        if self.queued.as_mut().is_some_and(|due| due.receipt.take().is_some()) && goes_on {
            self.queued = None;
        }
        if !goes_on {
            self.book.filters.clear();
        }
        self.listen(false, old, ears);
    }

    /// The flow is no more, or has no schedule.
    pub(super) fn forget(self) {
        if let Some(listener) = &self.listener {
            listener.leave(Leave::ForGood);
        }
    }

    pub(super) fn suspend(&mut self, suspend: bool) {
        self.book.suspended = suspend;
        // What comes meanwhile is not made up for.
        (self.begun, self.passes_over) = (false, true);
        self.receipts.extend(self.queued.take().and_then(|due| due.receipt));
        (self.next_us, self.book.last_due_us) = (None, None);
        self.changed();
    }

    fn changed(&mut self) {
        (self.unsaved, self.news) = (true, true);
    }

    pub(super) fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.unsaved)
    }

    /// What became of messages is in the book, which is saved.
    pub(super) fn acknowledge(&mut self) {
        if let Some(listener) = &self.listener {
            listener.acknowledge(&mut self.receipts);
        }
    }

    pub(super) fn take_news(&mut self) -> bool {
        self.news |= self.listener.as_ref().is_some_and(Listener::take_news);
        std::mem::take(&mut self.news)
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    pub(super) fn report(&self) -> ScheduleReport {
        let next_us = self.next_us.filter(|_| !self.book.suspended);
        let queued = self.queued.is_some();
        let listener = self.listener.as_ref().map(Listener::report);
        ScheduleReport::new(&self.plan, &self.book, next_us, listener, (self.on.is_some(), queued))
    }

    /// Time until something is due, in microseconds.
    pub(super) fn rest_us(&self, now: Now) -> Option<u64> {
        let ends_us = self.on.as_ref().and_then(|on| on.ends_us);
        let next_us = self.next_us.filter(|_| !self.book.suspended);
        let due_us = ends_us.into_iter().chain(next_us).min()?;
        Some(u64::try_from(due_us - now.wall_us).unwrap_or(0))
    }

    pub(super) fn tick(&mut self, now: Now, stage: &mut dyn Stage) {
        self.observe(now, stage);
        if self.on.is_none()
            && let Some(due) = self.queued.take()
        {
            self.begin(due, now, stage);
        }
        if let Some(due) = self.due(now) {
            self.trigger(due, now, stage);
        }
        while let Some(heard) = self.listener.as_ref().and_then(Listener::take) {
            self.hear(heard, now, stage);
        }
    }

    fn hear(&mut self, heard: Heard, now: Now, stage: &mut dyn Stage) {
        let Heard { topic, receipt } = heard;
        if !self.book.suspended {
            let (topic, at_us) = (Some(topic), now.wall_us);
            return self.trigger(Due { cause: Cause::Message, at_us, topic, receipt }, now, stage);
        }
        self.receipts.extend(receipt);
        if let Some(listener) = &self.listener {
            listener.pass_over();
        }
    }

    /// Sees how the run goes that is on.
    fn observe(&mut self, now: Now, stage: &mut dyn Stage) {
        let life = stage.life(&self.name);
        let newest = life.as_ref().map_or(0, |life| life.id());
        // What came to its end before there was a schedule was no run of it.
        let is_old = life.as_ref().is_none_or(|life| !life.at_work());
        self.seen_life.get_or_insert(if is_old { newest } else { newest - 1 });
        let Some(mut on) = self.on.take() else { return self.notice(life, now) };
        if let Flow::Starting(answer) = &mut on.flow {
            match answer.try_recv() {
                Err(TryRecvError::Empty) => return self.on = Some(on),
                Ok(Err(failure)) => {
                    self.seen_life = Some(newest);
                    return self.close(Outcome::Failed, now, Counts::default(), failure.errors);
                }
                Err(TryRecvError::Closed) => {
                    let why = vec!["the daemon is ending".to_owned()];
                    return self.close(Outcome::DaemonEnded, now, Counts::default(), why);
                }
                Ok(Ok(_)) => {}
            }
            let Some(life) = &life else {
                return self.close(Outcome::Stopped, now, Counts::default(), Vec::new());
            };
            on.flow = Flow::On(life.clone());
        }
        self.watch(on, life, now, stage);
    }

    /// A flow that somebody has started is a run, too; it may have ended since.
    fn notice(&mut self, life: Option<Arc<dyn Life>>, now: Now) {
        let Some(life) = life.filter(|life| Some(life.id()) > self.seen_life) else { return };
        self.seen_life = Some(life.id());
        let due = Due::at(Cause::Manual, now.wall_us);
        self.open(due, Flow::On(life), now);
    }

    fn watch(
        &mut self,
        mut on: On,
        newest: Option<Arc<dyn Life>>,
        now: Now,
        stage: &mut dyn Stage,
    ) {
        let Flow::On(life) = &on.flow else { return self.on = Some(on) };
        self.seen_life = self.seen_life.max(Some(life.id()));
        let is_newest = newest.as_ref().is_some_and(|newest| newest.id() == life.id());
        if is_newest && life.at_work() {
            let over = on.ends_us.is_some_and(|ends| now.wall_us >= ends);
            let gives_way = self.plan.overlap == Overlap::Restart && self.queued.is_some();
            if (over || gives_way) && on.ending.is_none() {
                on.ending = Some(if over { Outcome::Expired } else { Outcome::Restarted });
                drop(stage.begin(&self.name, Wish::Stop));
            }
            return self.on = Some(on);
        }
        let errors = life.errors();
        let result = match on.ending {
            _ if !errors.is_empty() => Outcome::Failed,
            Some(ending) => ending,
            None if !is_newest => Outcome::Replaced,
            None if life.told_to_end() => Outcome::Stopped,
            None => Outcome::Completed,
        };
        let counts = life.counts();
        if is_newest && matches!(result, Outcome::Completed | Outcome::Failed) {
            // Its memory is for others now.
            drop(stage.begin(&self.name, Wish::Stop));
        }
        self.close(result, now, counts, errors);
        if !is_newest {
            self.notice(newest, now);
        }
    }

    /// What is due now, once.
    fn due(&mut self, now: Now) -> Option<Due> {
        let set_back = now.wall_us < self.seen_wall_us - MISSED_US;
        self.seen_wall_us = now.wall_us;
        if self.book.suspended {
            return None;
        }
        let due = match &self.plan.trigger {
            Trigger::Cron(_) => self.due_time(now, set_back),
            Trigger::Files { .. } => self.due_files(now),
            // Messages are heard one by one.
            Trigger::Mqtt(_) => None,
        };
        self.begun = true;
        due
    }

    fn due_time(&mut self, now: Now, set_back: bool) -> Option<Due> {
        let times = self.times.as_ref()?;
        let last = times.upto(now.wall_us);
        let due = match (self.begun, self.next_us) {
            (false, _) => last.filter(|last| self.is_missed(*last, now)),
            (true, Some(next)) if next <= now.wall_us => {
                let due = last.unwrap_or(next);
                let late = now.wall_us - due > MISSED_US;
                let inside = self.plan.duration_us.is_some() && self.ends_us(due) > now.wall_us;
                (!late || inside || self.plan.misfire == Misfire::Once).then_some(due)
            }
            _ => None,
        };
        let passed = self.next_us.is_none_or(|next| next <= now.wall_us);
        if passed || set_back {
            self.next_us = times.after(now.wall_us);
            self.book.last_due_us = last.or(self.book.last_due_us);
            self.changed();
        }
        due.map(|at_us| Due::at(Cause::Time, at_us))
    }

    /// Whether the last time before the start of the daemon is to be made up
    /// for. In a window the flow runs whenever the window was entered.
    fn is_missed(&self, last: i64, now: Now) -> bool {
        if self.plan.duration_us.is_some() && self.ends_us(last) > now.wall_us {
            return !self.book.is_done(last);
        }
        let known = self.book.last_due_us;
        self.plan.misfire == Misfire::Once && known.is_some_and(|known| known < last)
    }

    fn due_files(&mut self, now: Now) -> Option<Due> {
        if now.mono_us < self.look_at_us {
            return None;
        }
        self.look_at_us = now.mono_us + LOOK_EVERY_US;
        let Trigger::Files { globs, settle_us } = &self.plan.trigger else { return None };
        let passes_over = std::mem::take(&mut self.passes_over);
        let (nothing, settle_us) = (Known::new(), if passes_over { 0 } else { *settle_us });
        let known = self.book.known.as_ref().unwrap_or(&nothing);
        let found = look(globs, settle_us, now.wall_us, known);
        if self.book.known.as_ref() != Some(&found.known) {
            self.book.known = Some(found.known);
            self.unsaved = true;
        }
        (found.new > 0 && !passes_over).then(|| Due::at(Cause::File, now.wall_us))
    }

    fn trigger(&mut self, due: Due, now: Now, stage: &mut dyn Stage) {
        if self.on.is_none() {
            return self.begin(due, now, stage);
        }
        self.news = true;
        match self.plan.overlap {
            Overlap::Skip => {
                self.book.skipped += 1;
                self.receipts.extend(due.receipt);
            }
            Overlap::Queue | Overlap::Restart => {
                // The one that waits stands for the others: it is acknowledged
                // when its run is in the book.
                let before = self.queued.replace(due);
                self.receipts.extend(before.and_then(|due| due.receipt));
            }
        }
    }

    fn begin(&mut self, due: Due, now: Now, stage: &mut dyn Stage) {
        let answer = stage.begin(&self.name, Wish::Run);
        self.open(due, Flow::Starting(answer), now);
    }

    fn open(&mut self, due: Due, flow: Flow, now: Now) {
        let from_us = if due.cause == Cause::Time { due.at_us } else { now.wall_us };
        // A time that is made up for has its duration all the same.
        let from_us = if self.ends_us(from_us) > now.wall_us { from_us } else { now.wall_us };
        let scheduled = due.cause != Cause::Manual && self.plan.duration_us.is_some();
        let ends_us = scheduled.then(|| self.ends_us(from_us));
        self.book.begin((due.cause, due.topic), due.at_us, now.wall_us, self.plan.history);
        self.receipts.extend(due.receipt);
        self.on = Some(On { flow, ends_us, ending: None });
        self.changed();
    }

    fn ends_us(&self, from_us: i64) -> i64 {
        let us = i64::try_from(self.plan.duration_us.unwrap_or(0)).unwrap_or(i64::MAX);
        from_us.saturating_add(us)
    }

    fn close(&mut self, result: Outcome, now: Now, counts: Counts, errors: Vec<String>) {
        let name = &self.name;
        let Counts { messages_in, messages_out, dropped, dead } = counts;
        tracing::info!(
            "{name}: run ended ({result:?}): in {messages_in}, out {messages_out}, dropped \
             {dropped}, dead {dead}"
        );
        self.book.end(result, now.wall_us, counts, errors);
        self.changed();
    }

    pub(super) fn end(&mut self, now: Now) {
        let Some(on) = self.on.take() else { return };
        let (counts, result) = match &on.flow {
            Flow::On(life) if !life.errors().is_empty() => (life.counts(), Outcome::Failed),
            Flow::On(life) => (life.counts(), on.ending.unwrap_or(Outcome::DaemonEnded)),
            Flow::Starting(_) => (Counts::default(), Outcome::DaemonEnded),
        };
        self.close(result, now, counts, Vec::new());
    }
}
