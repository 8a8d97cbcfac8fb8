//! What the controller and a flow's shards say to each other: a phase down, a
//! report up. Control rate; a few words, no queue.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringmain_connectors::Health;

/// What the controller wants of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The code.
    pub code: Arc<str>,
    /// What messages call it.
    pub chunk: Arc<str>,
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
    /// Why the shard goes on with the old one.
    pub result: Result<(), String>,
}

/// Shared by the controller and the shards of one flow.
#[derive(Debug)]
pub struct FlowControl {
    /// Names of the components, for errors.
    pub components: Vec<String>,
    phase: AtomicU8,
    opened: AtomicUsize,
    ended: AtomicUsize,
    errors: Mutex<Vec<String>>,
    health: Mutex<Vec<Health>>,
    /// The newest version of any script; what a shard looks at every turn.
    newest: AtomicU64,
    /// The newest version of each script that was ever replaced.
    scripts: Mutex<Vec<ScriptVersion>>,
    reports: Mutex<Vec<ScriptReport>>,
    /// Its operators keep state; known once it is open.
    stateful: AtomicBool,
    /// The newest checkpoint that was asked for, and the newest that is safe.
    asked: AtomicU64,
    stored: AtomicU64,
}

impl FlowControl {
    /// A flow that is about to open.
    #[must_use]
    pub fn new(components: Vec<String>) -> Self {
        let health = Mutex::new(vec![Health::Good; components.len()]);
        Self {
            components,
            phase: AtomicU8::new(Phase::Open as u8),
            opened: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            errors: Mutex::new(Vec::new()),
            health,
            newest: AtomicU64::new(0),
            scripts: Mutex::new(Vec::new()),
            reports: Mutex::new(Vec::new()),
            stateful: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            stored: AtomicU64::new(0),
        }
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
    pub fn replace_script(&self, operator: usize, code: &str, chunk: &str) -> u64 {
        let mut scripts = lock(&self.scripts);
        let version = self.newest.load(Ordering::Relaxed) + 1;
        scripts.retain(|script| script.operator != operator);
        scripts.push(ScriptVersion { version, operator, code: code.into(), chunk: chunk.into() });
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

    pub(crate) fn report_script(&self, report: ScriptReport) {
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
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
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

    pub(crate) fn note_opened(&self, result: Result<(), String>) {
        if let Err(error) = result {
            lock(&self.errors).push(error);
        }
        self.opened.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn note_ended(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
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

/// Nothing that holds these locks panics half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
