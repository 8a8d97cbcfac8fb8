//! Signs of life: written by the shard with relaxed stores, read by anyone.
//!
//! The counters order nothing and protect nothing; a reader may see them a
//! turn late. Written once per turn, on lines that nothing else shares.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task;

use ringmain_base::{Clock, SystemClock};

use crate::waker::{Waker, is_readable};

/// No turn is under way.
const RESTING: u64 = u64::MAX;

/// Counters of one shard's turns.
#[derive(Debug)]
#[repr(align(128))]
pub struct Heartbeat {
    turns: AtomicU64,
    /// When the current turn began, or `RESTING`.
    began_us: AtomicU64,
    longest_us: AtomicU64,
}

/// What a heartbeat says at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatSample {
    /// Turns so far.
    pub turns: u64,
    /// When the current turn began on the shard's clock, if one is under way.
    pub turn_began_us: Option<u64>,
    /// The longest turn so far.
    pub longest_turn_us: u64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            turns: AtomicU64::new(0),
            began_us: AtomicU64::new(RESTING),
            longest_us: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    /// A turn begins, and with it ends the one before. Single writer.
    pub(crate) fn turn(&self, now_us: u64) {
        self.account(now_us);
        self.began_us.store(now_us, Ordering::Relaxed);
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The turn has ended and the thread is about to sleep.
    pub(crate) fn rest(&self, now_us: u64) {
        self.account(now_us);
        self.began_us.store(RESTING, Ordering::Relaxed);
    }

    fn account(&self, now_us: u64) {
        let began_us = self.began_us.load(Ordering::Relaxed);
        let length_us = if began_us == RESTING { 0 } else { now_us.saturating_sub(began_us) };
        if length_us > self.longest_us.load(Ordering::Relaxed) {
            self.longest_us.store(length_us, Ordering::Relaxed);
        }
    }

    /// Reads the counters.
    #[must_use]
    pub fn sample(&self) -> HeartbeatSample {
        let began_us = self.began_us.load(Ordering::Relaxed);
        HeartbeatSample {
            turns: self.turns.load(Ordering::Relaxed),
            turn_began_us: (began_us != RESTING).then_some(began_us),
            longest_turn_us: self.longest_us.load(Ordering::Relaxed),
        }
    }
}

/// What a kick reaches: the task's waker, and the event that it parks on.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) waker: task::Waker,
    pub(crate) park: OwnedFd,
}

/// Where a shard's task leaves its target. Stays filled: a kick clones nothing
/// and takes nothing away.
#[derive(Debug, Default)]
pub(crate) struct Kick {
    target: Mutex<Option<Target>>,
}

impl Kick {
    pub(crate) fn set(&self, target: Option<Target>) {
        *self.lock() = target;
    }

    pub(crate) fn kick(&self) {
        if let Some(target) = self.lock().as_ref() {
            target.waker.wake_by_ref();
        }
    }

    /// Whether the task was announced something that it has not taken.
    fn is_called(&self) -> bool {
        self.lock().as_ref().is_some_and(|target| is_readable(target.park.as_fd()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Target>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What another thread needs to watch over a shard.
#[derive(Clone, Debug)]
pub struct Monitor {
    pub(crate) name: Arc<str>,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) kick: Arc<Kick>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) clock: SystemClock,
}

impl Monitor {
    /// The shard's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the shard's counters.
    #[must_use]
    pub fn heartbeat(&self) -> HeartbeatSample {
        self.heartbeat.sample()
    }

    /// How long the current turn has lasted.
    #[must_use]
    pub fn turn_lasts_us(&self) -> u64 {
        let began_us = self.heartbeat.sample().turn_began_us;
        began_us.map_or(0, |began_us| self.clock.now().mono_us.saturating_sub(began_us))
    }

    /// Whether the shard rests although it was woken: either this is the very
    /// moment, or its executor has gone to sleep over it.
    #[must_use]
    pub fn rests_unheard(&self) -> bool {
        self.heartbeat.sample().turn_began_us.is_none()
            && (self.kick.is_called() || is_readable(self.waker.as_fd()))
    }

    /// Has the executor look at the shard's task, should it have gone to
    /// sleep with the task runnable. Harmless otherwise.
    pub fn kick(&self) {
        self.kick.kick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_lasts_until_the_next_begins_and_rest_is_not_counted() {
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.sample().turn_began_us, None);
        heartbeat.turn(100);
        heartbeat.turn(140);
        heartbeat.rest(150);
        heartbeat.turn(9_000);
        let sample = heartbeat.sample();
        assert_eq!(sample.turns, 3);
        assert_eq!(sample.longest_turn_us, 40);
        assert_eq!(sample.turn_began_us, Some(9_000));
    }
}
