//! What the controller and a flow's shards say to each other: a phase down, a
//! report up. Control rate; a few words, no queue.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringmain_connectors::Health;
use ringmain_ops::{Code, CodeVersion};

use crate::replay::Replays;
use crate::tap::TapList;

/// What the controller wants of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Open, and wait for the others.
    Open,
    /// Carry messages.
    Run,
    /// Take no more in, empty what is there, then end.
    Drain,
    /// End now.
    Abort,
}

/// A version of an operator's script.
#[derive(Clone, Debug)]
pub struct ScriptVersion {
    /// Counts every script of the flow; a higher one is newer.
    pub version: u64,
    /// Which of the flow's operators.
    pub operator: usize,
    /// The code, with all that it requires.
    pub code: Code,
}

/// What became of a [`ScriptVersion`] on one shard.
#[derive(Clone, Debug)]
pub struct ScriptReport {
    /// The shard.
    pub shard: u16,
    /// Which of the flow's operators.
    pub operator: usize,
    /// The version.
    pub version: u64,
    /// How long messages waited for the swap.
    pub swap_us: u64,
    /// What runs now: the new version, or the old one.
    pub code: Option<CodeVersion>,
    /// Why the shard goes on with the old one.
    pub result: Result<(), String>,
}

/// Which version of a script an operator runs, and what became of the last
/// change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptStatus {
    /// Which of the flow's operators.
    pub operator: usize,
    /// What runs: a hash of the text and what the script calls itself.
    pub code: CodeVersion,
    /// When it was swapped in on the last shard that did, or first loaded, in
    /// microseconds since 1970.
    pub swapped_at_us: i64,
    /// Swaps since the start, each counted once however many shards took part.
    pub swaps: u64,
    /// The longest that messages of a shard waited for the last swap.
    pub swap_us: u64,
    /// The same of all swaps.
    pub swap_us_max: u64,
    /// Why the last change was not taken up; `None` once one was.
    pub last_error: Option<String>,
    /// The version that `swap_us` is of.
    version: u64,
}

/// Shared by the controller and the shards of one flow.
#[derive(Debug)]
pub struct FlowControl {
    /// Names of the components, for errors.
    pub components: Vec<String>,
    phase: AtomicU8,
    /// It has carried messages.
    ran: AtomicBool,
    opened: AtomicUsize,
    ended: AtomicUsize,
    removed: AtomicUsize,
    errors: Mutex<Vec<String>>,
    health: Mutex<Vec<Health>>,
    /// The newest version of any script; what a shard looks at every turn.
    newest: AtomicU64,
    /// The newest version of each script that was ever replaced.
    scripts: Mutex<Vec<ScriptVersion>>,
    reports: Mutex<Vec<ScriptReport>>,
    statuses: Mutex<Vec<ScriptStatus>>,
    /// Its operators keep state; known once it is open.
    stateful: AtomicBool,
    /// The newest checkpoint that was asked for, and the newest that is safe.
    asked: AtomicU64,
    stored: AtomicU64,
    /// Who looks at its messages.
    pub(crate) taps: TapList,
    /// Dead letters that go in again.
    pub(crate) replays: Replays,
    /// Counts the versions of a flow that took each other's place.
    pub(crate) version: u64,
    pub(crate) takeover: Takeover,
}

/// How far a version has come that takes the place of one which runs.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    /// Sources that leave are to come to their end.
    parting: AtomicBool,
    /// Shards on which they have.
    parted: AtomicUsize,
    /// The last checkpoint that the version before was asked for.
    floor: AtomicU64,
    /// Sinks that have left are not to be waited for any more.
    hurry: AtomicBool,
    /// Shards that run it, and on which nothing else is left.
    settled: AtomicUsize,
    /// Messages that went with sinks which had not accepted them.
    discarded: AtomicU64,
    /// Messages that sinks left to their successors.
    handed_over: AtomicU64,
    /// Shards on which queues of the version before are being emptied yet.
    legacies: AtomicUsize,
    /// Why it can only be started anew.
    unfit: Mutex<Option<String>>,
}

impl FlowControl {
    /// A flow that is about to open.
    #[must_use]
    pub fn new(components: Vec<String>) -> Self {
        let health = Mutex::new(vec![Health::Good; components.len()]);
        Self {
            components,
            phase: AtomicU8::new(Phase::Open as u8),
            ran: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            removed: AtomicUsize::new(0),
            errors: Mutex::new(Vec::new()),
            health,
            newest: AtomicU64::new(0),
            scripts: Mutex::new(Vec::new()),
            reports: Mutex::new(Vec::new()),
            statuses: Mutex::new(Vec::new()),
            stateful: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            taps: TapList::default(),
            replays: Replays::default(),
            version: 0,
            takeover: Takeover::default(),
        }
    }

    /// One that takes the place of another that runs.
    pub(crate) fn after(before: &Self, components: Vec<String>) -> Self {
        Self { version: before.version + 1, ..Self::new(components) }
    }

    /// Has sources that leave come to their end.
    pub fn part(&self) {
        self.takeover.parting.store(true, Ordering::Release);
    }

    pub(crate) fn is_parting(&self) -> bool {
        self.takeover.parting.load(Ordering::Acquire)
    }

    /// Shards on which the sources that leave have come to their end.
    #[must_use]
    pub fn parted(&self) -> usize {
        self.takeover.parted.load(Ordering::Acquire)
    }

    pub(crate) fn note_parted(&self) {
        self.takeover.parted.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes the place of `before`: all shards run it from their next turn on.
    /// `kept` are the numbers of operators that go on, old and new.
    pub fn take_over(&self, before: &Self, kept: impl Iterator<Item = (usize, usize)>) {
        let old = before.scripts();
        let mut statuses = lock(&self.statuses);
        for (old_at, operator) in kept {
            let status = old.iter().find(|status| status.operator == old_at);
            if let Some(status) = status {
                statuses.retain(|status| status.operator != operator);
                statuses.push(ScriptStatus { operator, version: 0, ..status.clone() });
            }
        }
        statuses.sort_by_key(|status| status.operator);
        drop(statuses);
        self.takeover.floor.store(before.asked(), Ordering::Release);
        self.asked.store(before.asked(), Ordering::Release);
        self.stored.store(before.stored(), Ordering::Release);
        self.set_phase(Phase::Run);
    }

    pub(crate) fn floor(&self) -> u64 {
        self.takeover.floor.load(Ordering::Acquire)
    }

    /// Sinks that leave are taken out, whatever they have not accepted.
    pub fn hurry(&self) {
        self.takeover.hurry.store(true, Ordering::Release);
    }

    pub(crate) fn is_in_a_hurry(&self) -> bool {
        self.takeover.hurry.load(Ordering::Acquire)
    }

    /// Shards that run it, and on which nothing is left of the version before.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.takeover.settled.load(Ordering::Acquire)
    }

    pub(crate) fn note_settled(&self) {
        self.takeover.settled.fetch_add(1, Ordering::AcqRel);
    }

    /// Messages that went with sinks that left and had not accepted them.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.takeover.discarded.load(Ordering::Acquire)
    }

    pub(crate) fn note_discarded(&self, rows: u64) {
        self.takeover.discarded.fetch_add(rows, Ordering::AcqRel);
    }

    /// Messages that sinks left to their successors, which send them first.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.takeover.handed_over.load(Ordering::Acquire)
    }

    pub(crate) fn note_handed_over(&self, rows: u64) {
        self.takeover.handed_over.fetch_add(rows, Ordering::AcqRel);
    }

    /// Whether queues of the version before are still there.
    #[must_use]
    pub fn has_legacy(&self) -> bool {
        self.takeover.legacies.load(Ordering::Acquire) > 0
    }

    pub(crate) fn begin_legacy(&self) {
        self.takeover.legacies.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end_legacy(&self) {
        self.takeover.legacies.fetch_sub(1, Ordering::AcqRel);
    }

    /// Why it cannot take the other's place and has to be started anew.
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        lock(&self.takeover.unfit).clone()
    }

    pub(crate) fn note_unfit(&self, why: String) {
        *lock(&self.takeover.unfit) = Some(why);
        self.note_opened(Ok(()));
    }

    /// Whether the flow needs checkpoints: its operators keep state, and there
    /// is a place to store it.
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.stateful.load(Ordering::Acquire)
    }

    pub(crate) fn note_stateful(&self) {
        self.stateful.store(true, Ordering::Release);
    }

    /// Asks every shard for its part of a new checkpoint; its epoch.
    pub fn ask_checkpoint(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// The checkpoint of this epoch is on disk.
    pub fn note_stored(&self, epoch: u64) {
        self.stored.fetch_max(epoch, Ordering::AcqRel);
    }

    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    /// Has every shard replace an operator's script between two batches.
    /// Returns the version's number.
    pub fn replace_script(&self, operator: usize, code: Code) -> u64 {
        let mut scripts = lock(&self.scripts);
        let version = self.newest.load(Ordering::Relaxed) + 1;
        scripts.retain(|script| script.operator != operator);
        scripts.push(ScriptVersion { version, operator, code });
        self.newest.store(version, Ordering::Release);
        version
    }

    /// What the shards have to say about new scripts since the last call.
    #[must_use]
    pub fn take_reports(&self) -> Vec<ScriptReport> {
        std::mem::take(&mut *lock(&self.reports))
    }

    pub(crate) fn newest_script(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Versions that are newer than `seen`, the oldest first.
    pub(crate) fn scripts_since(&self, seen: u64) -> Vec<ScriptVersion> {
        let mut new: Vec<_> =
            lock(&self.scripts).iter().filter(|s| s.version > seen).cloned().collect();
        new.sort_by_key(|script| script.version);
        new
    }

    /// What each script of the flow is, by operator.
    #[must_use]
    pub fn scripts(&self) -> Vec<ScriptStatus> {
        lock(&self.statuses).clone()
    }

    /// A change of a script did not come as far as the shards.
    pub fn refuse_script(&self, operator: usize, error: &str) {
        let mut statuses = lock(&self.statuses);
        if let Some(status) = statuses.iter_mut().find(|s| s.operator == operator) {
            status.last_error = Some(error.to_owned());
        }
    }

    /// What a shard has loaded to begin with.
    pub(crate) fn note_code(&self, operator: usize, code: CodeVersion, now_us: i64) {
        let mut statuses = lock(&self.statuses);
        if statuses.iter().all(|status| status.operator != operator) {
            statuses.push(ScriptStatus {
                operator,
                code,
                swapped_at_us: now_us,
                swaps: 0,
                swap_us: 0,
                swap_us_max: 0,
                last_error: None,
                version: 0,
            });
            statuses.sort_by_key(|status| status.operator);
        }
    }

    pub(crate) fn report_script(&self, report: ScriptReport, now_us: i64) {
        let mut statuses = lock(&self.statuses);
        if let Some(status) = statuses.iter_mut().find(|s| s.operator == report.operator) {
            status.take(&report, now_us);
        }
        drop(statuses);
        lock(&self.reports).push(report);
    }

    /// What is wanted now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Run,
            2 => Phase::Drain,
            _ => Phase::Abort,
        }
    }

    /// Says what is wanted. Phases only go forward.
    pub fn set_phase(&self, phase: Phase) {
        if phase == Phase::Run {
            self.ran.store(true, Ordering::Release);
        }
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Whether it was ever let run.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.ran.load(Ordering::Acquire)
    }

    /// Shards on which everything has been opened.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Acquire)
    }

    /// Shards on which the flow has come to its end.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Acquire)
    }

    /// What kept the flow from starting.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        lock(&self.errors).clone()
    }

    /// How each component is doing; the worst of all shards that reported
    /// last.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        lock(&self.health).clone()
    }

    /// Notes why it does not run.
    pub fn note_error(&self, error: String) {
        lock(&self.errors).push(error);
    }

    pub(crate) fn note_opened(&self, result: Result<(), String>) {
        if let Err(error) = result {
            lock(&self.errors).push(error);
        }
        self.opened.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn note_ended(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Shards on which nothing is left of the flow: its memory is free and
    /// what it had open is closed.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.removed.load(Ordering::Acquire)
    }

    pub(crate) fn note_removed(&self) {
        self.removed.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn note_health(&self, now: impl Iterator<Item = (usize, Health)>) {
        let mut health = lock(&self.health);
        for (component, state) in now {
            if health[component] != state {
                health[component] = state;
            }
        }
    }
}

impl ScriptStatus {
    fn take(&mut self, report: &ScriptReport, now_us: i64) {
        let first = report.version > self.version;
        self.version = self.version.max(report.version);
        match (&report.result, &report.code) {
            (Ok(()), Some(code)) => {
                if first {
                    (self.swap_us, self.last_error) = (0, None);
                    self.swaps += 1;
                }
                self.code = code.clone();
                self.swapped_at_us = now_us;
                self.swap_us = self.swap_us.max(report.swap_us);
                self.swap_us_max = self.swap_us_max.max(report.swap_us);
            }
            (Err(error), _) => self.last_error = Some(error.clone()),
            (Ok(()), None) => {}
        }
    }
}

/// Nothing that holds these locks panics half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
