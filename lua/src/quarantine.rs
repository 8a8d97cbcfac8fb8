//! An operator that runs away again and again is taken out of the flow.
//!
//! One stop costs a whole time limit, so a script that is stopped often would
//! take its shard with it. After so many stops within a window its input is
//! refused without a try, until a new version of the script is loaded.

use std::collections::VecDeque;

/// How far back stops count, in microseconds.
const WINDOW_US: u64 = 60_000_000;

/// Counts stops. Bound: as many times as stops are allowed.
#[derive(Debug)]
pub(crate) struct Quarantine {
    stops_max: usize,
    stops_us: VecDeque<u64>,
    closed: bool,
}

impl Quarantine {
    pub(crate) fn new(stops_max: u32) -> Self {
        let stops_max = stops_max.max(1) as usize;
        Self { stops_max, stops_us: VecDeque::with_capacity(stops_max), closed: false }
    }

    /// The operator was stopped `count` times just now.
    pub(crate) fn note(&mut self, count: u64, now_us: u64) {
        for _ in 0..count {
            if self.stops_us.len() == self.stops_max {
                self.stops_us.pop_front();
            }
            self.stops_us.push_back(now_us);
        }
        let first = self.stops_us.front().copied().unwrap_or(0);
        let full = self.stops_us.len() == self.stops_max;
        self.closed |= full && now_us.saturating_sub(first) <= WINDOW_US;
    }

    /// Whether its input is refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A new version was loaded.
    pub(crate) fn reset(&mut self) {
        self.closed = false;
        self.stops_us.clear();
    }

    /// Why its input is refused.
    pub(crate) fn why(&self) -> String {
        let (stops, seconds) = (self.stops_max, WINDOW_US / 1_000_000);
        format!("in quarantine after {stops} stops within {seconds} s: load a new version")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_close_it_only_within_the_window() {
        let mut quarantine = Quarantine::new(3);
        for second in [0, 31, 62] {
            quarantine.note(1, second * 1_000_000);
            assert!(!quarantine.is_closed());
        }
        quarantine.note(1, 80_000_000);
        assert!(quarantine.is_closed(), "31 to 80 s are three stops within the window");
        quarantine.note(0, 900_000_000);
        assert!(quarantine.is_closed(), "time alone does not open it");
        quarantine.reset();
        assert!(!quarantine.is_closed());
    }

    #[test]
    fn stops_of_one_batch_count_each() {
        let mut quarantine = Quarantine::new(3);
        quarantine.note(3, 5);
        assert!(quarantine.is_closed());
    }
}
