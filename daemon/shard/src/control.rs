//! What the controller and a flow's shards say to each other: a phase down, a
//! report up. Control rate; a few words, no queue.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

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
        }
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
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each component is doing; the worst of all shards that reported
    /// last.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_opened(&self, result: Result<(), String>) {
        if let Err(error) = result {
            self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
        }
        self.opened.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn note_ended(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn note_health(&self, now: impl Iterator<Item = (usize, Health)>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        for (component, state) in now {
            if health[component] != state {
                health[component] = state;
            }
        }
    }
}
