//! How fast stored messages may go out: a bucket that fills with time.

/// What may have gathered while nothing went out, in microseconds of the rate.
const BURST_US: u64 = 100_000;

/// `resend_rate`, or no bound.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    per_s: Option<u64>,
    /// Millionths of messages.
    level: u64,
    filled_us: u64,
}

impl Rate {
    pub(super) fn new(per_s: Option<u64>) -> Self {
        Self { per_s, level: 0, filled_us: 0 }
    }

    /// Messages that may go out now.
    pub(super) fn allows(&mut self, now_us: u64) -> usize {
        let Some(per_s) = self.per_s else { return usize::MAX };
        let passed_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = now_us;
        let most = per_s.saturating_mul(BURST_US).max(1_000_000);
        self.level = self.level.saturating_add(per_s.saturating_mul(passed_us)).min(most);
        usize::try_from(self.level / 1_000_000).unwrap_or(usize::MAX)
    }

    pub(super) fn took(&mut self, messages: usize) {
        if self.per_s.is_some() {
            self.level = self.level.saturating_sub((messages as u64).saturating_mul(1_000_000));
        }
    }

    /// When at least one may go out.
    pub(super) fn again_us(&self) -> u64 {
        let Some(per_s) = self.per_s else { return 0 };
        let lacks = 1_000_000_u64.saturating_sub(self.level);
        self.filled_us.saturating_add(lacks.div_ceil(per_s.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_go_out_in_a_second_however_often_it_is_asked() {
        for step_us in [100, 999, 40_000] {
            let mut rate = Rate::new(Some(1_000));
            rate.allows(0);
            let (mut sent, mut now_us) = (0, 0);
            while now_us < 10_000_000 {
                now_us += step_us;
                let may = rate.allows(now_us);
                rate.took(may);
                sent += may;
            }
            assert!((9_900..=10_100).contains(&sent), "{sent} at {step_us}");
        }
    }

    #[test]
    fn it_says_when_the_next_may_go() {
        let mut rate = Rate::new(Some(10));
        let may = rate.allows(5_000_000);
        rate.took(may);
        assert_eq!(rate.again_us(), 5_100_000);
        assert_eq!((rate.allows(5_099_999), rate.allows(5_100_000)), (0, 1));
    }

    #[test]
    fn without_a_rate_all_may_go() {
        let mut rate = Rate::new(None);
        assert_eq!((rate.allows(0), rate.again_us()), (usize::MAX, 0));
    }
}
