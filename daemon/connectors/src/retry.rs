//! When a sink whose other side fails tries again, and when it stops trying.
//!
//! Owns the three answers to a failed attempt, for every sink with another
//! side: a wait that doubles with jitter ([`Backoff`]), a limit of attempts
//! for the messages at hand ([`Tries`]), and a circuit breaker that leaves the
//! other side alone for a while ([`Breaker`]). [`Retry`] is all of them, for a
//! sink that has one attempt under way at a time:
//!
//! ```text
//! poll:     if retry.begin(now_us) { connect or send }
//! failed:   match retry.failed(at_hand, now_us) {
//!               Next::Wait => {}            // retry.wake_at_us() says when
//!               Next::GiveUp => refuse what is at hand as `undelivered`
//!           }
//! accepted: retry.worked()
//! health:   retry.describe()
//! ```
//!
//! A sink with several requests under way keeps one [`Breaker`] for the other
//! side and one [`Tries`] for each request.
//!
//! Invariants: messages are given up only where a limit is configured and
//! attempts have failed with them at hand so often in a row; while the breaker
//! is open nothing begins, and after its pause one attempt alone does.
//! Deliberately absent: what an attempt is, and whether a failure is the other
//! side's last word (then it is refused at once and does not come here).

use ringmain_config::plan::{BreakerPlan, RetryPlan};

use crate::backoff::Backoff;

/// What to do after an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another attempt with the same messages, when it may begin.
    Wait,
    /// The messages at hand are refused; the next attempt is for others.
    GiveUp,
}

/// Attempts with the same messages.
#[derive(Clone, Debug)]
pub(crate) struct Tries {
    backoff: Backoff,
    limit: Option<u32>,
    /// In a row with messages at hand.
    failed: u32,
    again_us: u64,
}

impl Tries {
    pub(crate) fn new(plan: &RetryPlan, seed: u64) -> Self {
        Self { backoff: Backoff::new(plan, seed), limit: plan.limit, failed: 0, again_us: 0 }
    }

    /// An attempt failed. `at_hand` says whether there were messages that
    /// could be given up.
    pub(crate) fn failed(&mut self, at_hand: bool, now_us: u64) -> Next {
        self.again_us = now_us.saturating_add(self.backoff.wait_us());
        if !at_hand {
            self.failed = 0;
            return Next::Wait;
        }
        self.failed = self.failed.saturating_add(1);
        if self.limit.is_none_or(|limit| self.failed < limit) {
            return Next::Wait;
        }
        self.failed = 0;
        Next::GiveUp
    }

    /// Something was accepted.
    pub(crate) fn worked(&mut self) {
        self.backoff.reset();
        self.failed = 0;
        self.again_us = 0;
    }

    /// When the next attempt may begin.
    pub(crate) fn again_us(&self) -> u64 {
        self.again_us
    }

    /// Attempts since it last worked.
    pub(crate) fn attempts(&self) -> u32 {
        self.backoff.attempts()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many attempts have failed in a row.
    Closed(u32),
    /// Nothing begins before this.
    Open(u64),
    /// One attempt is under way, which decides.
    Probing,
}

/// Leaves another side alone that keeps failing.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    plan: Option<BreakerPlan>,
    state: State,
}

impl Breaker {
    /// One that never opens, without a plan.
    pub(crate) fn new(plan: Option<&BreakerPlan>) -> Self {
        Self { plan: plan.cloned(), state: State::Closed(0) }
    }

    /// Whether an attempt may begin now. Whoever is told so must begin one,
    /// and say later whether it worked or failed.
    pub(crate) fn admits(&mut self, now_us: u64) -> bool {
        match self.state {
            State::Closed(_) => true,
            State::Open(until_us) if now_us >= until_us => {
                self.state = State::Probing;
                true
            }
            State::Open(_) | State::Probing => false,
        }
    }

    pub(crate) fn failed(&mut self, now_us: u64) {
        let Some(plan) = &self.plan else { return };
        let until_us = now_us.saturating_add(plan.pause_us);
        self.state = match self.state {
            State::Closed(failures) if failures + 1 < plan.failures => State::Closed(failures + 1),
            // An attempt that had begun before it opened tells nothing new.
            State::Open(until_us) => State::Open(until_us),
            State::Closed(_) | State::Probing => State::Open(until_us),
        };
    }

    pub(crate) fn worked(&mut self) {
        self.state = State::Closed(0);
    }

    /// An attempt that had begun told nothing about the other side.
    pub(crate) fn untold(&mut self) {
        if self.state == State::Probing {
            self.state = State::Open(0);
        }
    }

    /// While it is open: when the next attempt may begin.
    pub(crate) fn open_until_us(&self) -> Option<u64> {
        match self.state {
            State::Open(until_us) => Some(until_us),
            State::Closed(_) | State::Probing => None,
        }
    }
}

/// Everything together, for one attempt at a time.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    tries: Tries,
    breaker: Breaker,
    /// As it was at the last failure, for people.
    wait_us: u64,
}

impl Retry {
    /// `seed`: sinks of different daemons and shards must not wait alike.
    pub(crate) fn new(plan: &RetryPlan, seed: u64) -> Self {
        let breaker = Breaker::new(plan.circuit_breaker.as_ref());
        Self { tries: Tries::new(plan, seed), breaker, wait_us: 0 }
    }

    /// Whether an attempt may begin now; whoever is told so must begin one.
    pub(crate) fn begin(&mut self, now_us: u64) -> bool {
        now_us >= self.tries.again_us() && self.breaker.admits(now_us)
    }

    /// The attempt failed; see [`Tries::failed`].
    pub(crate) fn failed(&mut self, at_hand: bool, now_us: u64) -> Next {
        self.breaker.failed(now_us);
        let next = self.tries.failed(at_hand, now_us);
        self.wait_us = self.wake_at_us().saturating_sub(now_us);
        next
    }

    /// Something was accepted.
    pub(crate) fn worked(&mut self) {
        self.tries.worked();
        self.breaker.worked();
    }

    /// When the next attempt may begin.
    pub(crate) fn wake_at_us(&self) -> u64 {
        self.tries.again_us().max(self.breaker.open_until_us().unwrap_or(0))
    }

    /// What follows the failure, for people.
    pub(crate) fn describe(&self) -> String {
        let (attempts, wait_ms) = (self.tries.attempts(), self.wait_us / 1_000);
        let why = match self.breaker.open_until_us() {
            Some(_) => "; the circuit breaker is open",
            None => "",
        };
        format!("attempt {attempts} failed, the next is in {wait_ms} ms{why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(limit: Option<u32>, breaker: Option<(u32, u64)>) -> RetryPlan {
        let breaker = breaker.map(|(failures, pause_us)| BreakerPlan { failures, pause_us });
        RetryPlan { limit, circuit_breaker: breaker, ..RetryPlan::new(100, 1_000) }
    }

    #[test]
    fn messages_are_given_up_at_the_limit_and_the_next_have_as_many_attempts() {
        let mut tries = Tries::new(&plan(Some(3), None), 1);
        for _ in 0..2 {
            assert_eq!(tries.failed(true, 0), Next::Wait);
            assert_eq!(tries.failed(true, 0), Next::Wait);
            assert_eq!(tries.failed(true, 0), Next::GiveUp);
        }
    }

    #[test]
    fn without_a_limit_nothing_is_given_up() {
        let mut tries = Tries::new(&plan(None, None), 1);
        assert!((0..10_000).all(|_| tries.failed(true, 0) == Next::Wait));
    }

    #[test]
    fn attempts_without_messages_do_not_count_against_those_that_come_later() {
        let mut tries = Tries::new(&plan(Some(2), None), 1);
        for _ in 0..10 {
            assert_eq!(tries.failed(false, 0), Next::Wait);
        }
        assert_eq!(tries.failed(true, 0), Next::Wait);
        assert_eq!(tries.failed(true, 0), Next::GiveUp);
    }

    #[test]
    fn a_breaker_opens_pauses_and_lets_one_attempt_decide() {
        let mut breaker = Breaker::new(plan(None, Some((2, 1_000))).circuit_breaker.as_ref());
        breaker.failed(0);
        assert!(breaker.admits(0), "one failure is not two");
        breaker.failed(10);
        assert_eq!(breaker.open_until_us(), Some(1_010));
        assert!(!breaker.admits(1_009));
        assert!(breaker.admits(1_010), "the probe");
        assert!(!breaker.admits(5_000), "one probe alone");
        breaker.failed(6_000);
        assert!(!breaker.admits(6_999));
        assert!(breaker.admits(7_000));
        breaker.worked();
        assert!(breaker.admits(7_001) && breaker.admits(7_001));
    }

    #[test]
    fn what_fails_after_the_breaker_opened_does_not_prolong_the_pause() {
        let mut breaker = Breaker::new(plan(None, Some((1, 1_000))).circuit_breaker.as_ref());
        breaker.failed(0);
        breaker.failed(900);
        assert_eq!(breaker.open_until_us(), Some(1_000));
    }

    #[test]
    fn an_attempt_begins_after_the_wait_and_after_the_pause() {
        let mut retry = Retry::new(&plan(None, Some((2, 50_000))), 1);
        assert!(retry.begin(0));
        assert_eq!(retry.failed(true, 0), Next::Wait);
        assert!(!retry.begin(49) && retry.begin(100));
        assert_eq!(retry.failed(true, 100), Next::Wait);
        assert_eq!(retry.wake_at_us(), 50_100);
        assert!(retry.describe().ends_with("in 50 ms; the circuit breaker is open"));
        assert!(!retry.begin(50_099) && retry.begin(50_100));
        retry.worked();
        assert!(retry.begin(50_100));
    }
}
