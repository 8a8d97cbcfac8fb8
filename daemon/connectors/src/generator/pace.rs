//! Messages per second, as a token bucket on the turn's clock.
//!
//! Integers only: a message costs `1_000_000 * shards` and a microsecond earns
//! `rate`, so that the twins together make exactly `rate`. Bound: what a
//! stalled flow did not take is made up for [`BURST_US`] and one message at most.

const BURST_US: u64 = 100_000;
/// A rate so high that tokens come faster is served in batches.
const WAKE_US: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    cost: u64,
    credit: u64,
    last_us: Option<u64>,
}

impl Pace {
    pub(crate) fn new(rate: u64, shards: u16) -> Self {
        let cost = 1_000_000 * u64::from(shards);
        // The first message need not wait.
        Self { rate: rate.max(1), cost, credit: cost, last_us: None }
    }

    /// Messages that may be made now.
    pub(crate) fn allowed(&mut self, now_us: u64) -> u64 {
        let elapsed = now_us.saturating_sub(self.last_us.unwrap_or(now_us));
        self.last_us = Some(now_us);
        let most = self.rate.saturating_mul(BURST_US).saturating_add(self.cost);
        self.credit = self.credit.saturating_add(self.rate.saturating_mul(elapsed)).min(most);
        self.credit / self.cost
    }

    /// So many were made, no more than allowed.
    pub(crate) fn take(&mut self, messages: u64) {
        self.credit = self.credit.saturating_sub(messages.saturating_mul(self.cost));
    }

    /// When there is something to do again.
    pub(crate) fn next_us(&self) -> u64 {
        let missing = self.cost.saturating_sub(self.credit);
        let wait = missing.div_ceil(self.rate);
        let wait = if wait == 0 { 0 } else { wait.max(WAKE_US) };
        self.last_us.unwrap_or(0).saturating_add(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rate: u64, shards: u16, step_us: u64, end_us: u64) -> u64 {
        let mut pace = Pace::new(rate, shards);
        let mut made = 0;
        for now in (0..=end_us).step_by(usize::try_from(step_us).unwrap()) {
            let allowed = pace.allowed(now);
            pace.take(allowed);
            made += allowed;
        }
        made
    }

    #[test]
    fn a_second_yields_the_rate_whatever_the_steps() {
        for step in [1_000, 2_500, 50_000, 100_000] {
            assert_eq!(run(1_000, 1, step, 1_000_000), 1_001, "step {step}");
            assert_eq!(run(7, 1, step, 1_000_000), 8, "step {step}");
        }
    }

    #[test]
    fn shards_share_the_rate() {
        assert_eq!(run(900, 3, 1_000, 1_000_000), 301);
    }

    #[test]
    fn a_pause_is_made_up_for_only_in_part() {
        let mut pace = Pace::new(1_000, 1);
        pace.allowed(0);
        assert_eq!(pace.allowed(60_000_000), 101);
    }

    #[test]
    fn the_next_message_is_announced() {
        let mut pace = Pace::new(2, 1);
        assert_eq!(pace.allowed(0), 1);
        pace.take(1);
        assert_eq!(pace.next_us(), 500_000);
        assert_eq!(pace.allowed(499_999), 0);
        assert_eq!(pace.allowed(500_000), 1);
    }
}
