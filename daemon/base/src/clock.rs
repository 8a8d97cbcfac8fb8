//! Time as a value: a turn reads the clock once and hands it on.

use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of the clock; what a turn of a shard works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Microseconds since an arbitrary start; never goes back.
    pub mono_us: u64,
    /// Microseconds since the Unix epoch; may jump when the host's clock does.
    pub wall_us: i64,
}

/// Where time comes from. The virtual twin is [`ManualClock`].
pub trait Clock {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// The host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic side starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono_us: u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
            wall_us: i64::try_from(wall.as_micros()).unwrap_or(i64::MAX),
        }
    }
}

/// A clock that moves only when told to: for unit tests of flows and for the
/// simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Cell<Now>,
}

impl ManualClock {
    /// Starts both clocks at the given wall time in microseconds.
    #[must_use]
    pub fn at(wall_us: i64) -> Self {
        Self { now: Cell::new(Now { mono_us: 0, wall_us }) }
    }

    /// Moves both clocks on by `us` microseconds.
    pub fn advance(&self, us: u64) {
        let now = self.now.get();
        let wall_us = now.wall_us.saturating_add(i64::try_from(us).unwrap_or(i64::MAX));
        self.now.set(Now { mono_us: now.mono_us.saturating_add(us), wall_us });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        self.now.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(1_000);
        assert_eq!(clock.now(), Now { mono_us: 0, wall_us: 1_000 });
        clock.advance(250);
        assert_eq!(clock.now(), Now { mono_us: 250, wall_us: 1_250 });
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(clock.now().mono_us >= first.mono_us);
        assert!(first.wall_us > 1_600_000_000_000_000);
    }
}
