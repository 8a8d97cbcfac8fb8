//! For how long a producer had no credit.
//!
//! Owns one word per edge that says it all: the sum of the closed intervals
//! and, while one is open, its beginning, folded into a single number. So a
//! reader on another thread never sees half a transition, and the reading
//! never runs backwards as the clock goes on.
//!
//! The clock is the caller's: its value is handed in and looked at only when
//! credit runs out or comes back.
//!
//! Deliberately absent: averages over time. A reader samples twice and takes
//! the difference.

use crate::sync::{Arc, AtomicU64, Ordering};

/// Bits of a time in microseconds: 292,000 years.
const MASK: u64 = u64::MAX >> 1;

/// The readable side; shared with whoever exports metrics.
pub struct Meter {
    /// `time << 1 | open`. Closed: `time` is the sum. Open: `time` is the sum
    /// minus the interval's beginning, so that adding "now" gives the total.
    state: AtomicU64,
    misses: AtomicU64,
    stalls: AtomicU64,
    queued: AtomicU64,
}

/// One reading; two of them give a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MeterSample {
    /// When it was read, on the clock that drives the edge.
    pub now_us: u64,
    /// Time without credit until then.
    pub blocked_us: u64,
}

impl Meter {
    /// Time without credit until `now_us`, the open interval included. `now_us`
    /// must come from the clock that drives the edge.
    #[must_use]
    pub fn blocked_us(&self, now_us: u64) -> u64 {
        let state = self.state.load(Ordering::Relaxed);
        if state & 1 == 0 {
            return state >> 1;
        }
        let total = (state >> 1).wrapping_add(now_us) & MASK;
        // A reader's clock value may be older than the interval's beginning.
        if total > MASK / 2 { 0 } else { total }
    }

    /// How often a slab was asked for in vain.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// How often credit ran out; at most [`Meter::misses`].
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Slabs that were on their way, or being filled, when the producer last
    /// looked.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// A reading to compare with a later one.
    #[must_use]
    pub fn sample(&self, now_us: u64) -> MeterSample {
        MeterSample { now_us, blocked_us: self.blocked_us(now_us) }
    }
}

impl MeterSample {
    /// The part of the time since `earlier` without credit, 0.0 to 1.0.
    #[must_use]
    pub fn fraction_since(self, earlier: Self) -> f64 {
        let elapsed = self.now_us.saturating_sub(earlier.now_us);
        if elapsed == 0 {
            return 0.0;
        }
        let blocked = self.blocked_us.saturating_sub(earlier.blocked_us);
        (blocked as f64 / elapsed as f64).min(1.0)
    }
}

/// The writing side; one per edge, on the producer's thread.
pub(crate) struct Gauge {
    meter: Arc<Meter>,
    total_us: u64,
    since_us: Option<u64>,
    misses: u64,
    stalls: u64,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let meter =
            Arc::new(Meter { state: zero(), misses: zero(), stalls: zero(), queued: zero() });
        Self { meter, total_us: 0, since_us: None, misses: 0, stalls: 0 }
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// A slab was asked for and there was one.
    #[inline(always)]
    pub(crate) fn hit(&mut self, now_us: u64) {
        if let Some(since_us) = self.since_us {
            self.close(since_us, now_us);
        }
    }

    /// A slab was asked for in vain.
    pub(crate) fn miss(&mut self, now_us: u64) {
        self.misses += 1;
        self.meter.misses.store(self.misses, Ordering::Relaxed);
        if self.since_us.is_none() {
            self.since_us = Some(now_us);
            self.stalls += 1;
            self.meter.stalls.store(self.stalls, Ordering::Relaxed);
            let folded = self.total_us.wrapping_sub(now_us);
            self.meter.state.store(folded << 1 | 1, Ordering::Relaxed);
        }
    }

    /// How many slabs are out.
    pub(crate) fn note_queued(&self, slabs: usize) {
        self.meter.queued.store(slabs as u64, Ordering::Relaxed);
    }

    /// Whether an interval without credit is open.
    pub(crate) fn is_open(&self) -> bool {
        self.since_us.is_some()
    }

    #[cold]
    fn close(&mut self, since_us: u64, now_us: u64) {
        self.since_us = None;
        self.total_us += now_us.saturating_sub(since_us);
        self.meter.state.store(self.total_us << 1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_time_without_credit_counts_and_the_open_interval_does() {
        let mut gauge = Gauge::new();
        let meter = gauge.meter().clone();
        gauge.hit(10);
        assert_eq!(meter.blocked_us(1_000), 0);
        gauge.miss(1_000);
        gauge.miss(1_200);
        assert_eq!(meter.blocked_us(1_300), 300);
        gauge.hit(1_500);
        assert_eq!(meter.blocked_us(9_000), 500);
        gauge.miss(10_000);
        assert_eq!(meter.blocked_us(10_001), 501);
        gauge.hit(10_250);
        assert_eq!(meter.blocked_us(20_000), 750);
        assert_eq!((meter.misses(), meter.stalls()), (3, 2));
    }

    #[test]
    fn a_clock_value_from_before_the_stall_reads_as_nothing() {
        let mut gauge = Gauge::new();
        gauge.miss(5_000);
        assert_eq!(gauge.meter().blocked_us(4_000), 0);
        assert_eq!(gauge.meter().blocked_us(5_000), 0);
    }

    #[test]
    fn two_samples_give_the_fraction() {
        let mut gauge = Gauge::new();
        let meter = gauge.meter().clone();
        let start = meter.sample(0);
        gauge.miss(250);
        gauge.hit(1_000);
        assert_eq!(meter.sample(1_000).fraction_since(start), 0.75);
        assert_eq!(start.fraction_since(start), 0.0);
    }
}
