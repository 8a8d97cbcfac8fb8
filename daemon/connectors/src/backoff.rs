//! Waits between attempts: doubling, with jitter, so that many sinks that lost
//! the same server do not come back at the same moment.

use ringmain_base::{Prng, Xoshiro};
use ringmain_config::plan::RetryPlan;

#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min_us: u64,
    max_us: u64,
    next_us: u64,
    attempts: u32,
    rng: Xoshiro,
}

impl Backoff {
    pub(crate) fn new(plan: &RetryPlan, seed: u64) -> Self {
        let min_us = plan.min_us.max(1);
        let max_us = plan.max_us.max(min_us);
        Self { min_us, max_us, next_us: min_us, attempts: 0, rng: Xoshiro::new(seed) }
    }

    /// For a resource of this machine: a full disk, a failing device.
    pub(crate) fn local(seed: u64) -> Self {
        Self::new(&RetryPlan::new(50_000, 5_000_000), seed)
    }

    /// The next wait: between half and all of the doubled one.
    pub(crate) fn wait_us(&mut self) -> u64 {
        let ceiling = self.next_us;
        self.next_us = ceiling.saturating_mul(2).min(self.max_us);
        self.attempts = self.attempts.saturating_add(1);
        ceiling - self.rng.below(ceiling / 2 + 1)
    }

    /// Attempts since it last worked.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It worked: the next failure waits the least again.
    pub(crate) fn reset(&mut self) {
        self.next_us = self.min_us;
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_over_after_success() {
        let mut backoff = Backoff::new(&RetryPlan::new(100, 1_000), 7);
        for ceiling in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.wait_us();
            assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait} of {ceiling}");
        }
        assert_eq!(backoff.attempts(), 6);
        backoff.reset();
        assert!(backoff.wait_us() <= 100);
    }

    #[test]
    fn seeds_give_different_waits() {
        let plan = RetryPlan::new(1_000_000, 1_000_000);
        let waits = |seed| {
            let mut backoff = Backoff::new(&plan, seed);
            (0..4).map(|_| backoff.wait_us()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
