//! Summaries of many values in little memory: percentiles and distinct values.
//!
//! Both are a few lines of their own rather than a crate's, because they are
//! part of checkpoints: they must be read back from any bytes, validated, and
//! merged, and the crates keep their bins to themselves. Percentiles are
//! logarithmic bins, as in DDSketch; distinct values the smallest of their
//! hashes.

use rkyv::{Archive, Deserialize, Serialize};

/// Bins are this much wider than the one before, which makes a percentile
/// right within 1 %.
const GAMMA: f64 = 1.02;

/// Above the logarithm of any number, so that signs and sizes fit one number.
const OFFSET: i32 = 40_000;

/// Bins at most; beyond, the lowest become one.
pub(crate) const BINS_MAX: usize = 512;

/// Hashes at most: so many values are counted exactly.
pub(crate) const HASHES_MAX: usize = 1024;

/// Numbers by size.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct Quantiles {
    /// Bin and count, in order.
    bins: Vec<(i32, u64)>,
    least: f64,
    most: f64,
}

fn bin(value: f64) -> i32 {
    let size = |value: f64| (value.ln() / GAMMA.ln()).ceil() as i32 + OFFSET;
    match value {
        value if value > 0.0 => size(value),
        value if value < 0.0 => -size(-value),
        _ => 0,
    }
}

fn middle(bin: i32) -> f64 {
    let size = |bin: i32| 2.0 * GAMMA.powi(bin - OFFSET) / (GAMMA + 1.0);
    match bin {
        0 => 0.0,
        bin if bin > 0 => size(bin),
        bin => -size(-bin),
    }
}

impl Quantiles {
    pub(crate) fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        (self.least, self.most) = match self.bins.is_empty() {
            true => (value, value),
            false => (self.least.min(value), self.most.max(value)),
        };
        self.add_bin(bin(value), 1);
    }

    fn add_bin(&mut self, bin: i32, count: u64) {
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => self.bins[at].1 += count,
            Err(at) => self.bins.insert(at, (bin, count)),
        }
        if self.bins.len() > BINS_MAX {
            let (_, count) = self.bins.remove(0);
            self.bins[0].1 += count;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.bins.is_empty() {
            return;
        }
        (self.least, self.most) = match self.bins.is_empty() {
            true => (other.least, other.most),
            false => (self.least.min(other.least), self.most.max(other.most)),
        };
        other.bins.iter().for_each(|(bin, count)| self.add_bin(*bin, *count));
    }

    pub(crate) fn clear(&mut self) {
        self.bins.clear();
    }

    /// The value below which `part` of the values lie.
    pub(crate) fn at(&self, part: f64) -> Option<f64> {
        let count: u64 = self.bins.iter().map(|(_, count)| count).sum();
        let rank = (part * count.checked_sub(1)? as f64).round() as u64;
        let mut below = 0;
        let found = self.bins.iter().find(|(_, count)| {
            below += count;
            below > rank
        });
        found.map(|(bin, _)| middle(*bin).clamp(self.least, self.most))
    }

    /// Whether it is one that [`Quantiles::add`] could have made.
    pub(crate) fn is_valid(&self) -> bool {
        let ordered = self.bins.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let count = self.bins.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count));
        let range = self.least.is_finite() && self.most.is_finite() && self.least <= self.most;
        let bins = self.bins.iter().all(|(bin, count)| {
            bin.unsigned_abs() < 2 * OFFSET.unsigned_abs() && (1..1 << 48).contains(count)
        });
        ordered && range && bins && count.is_some() && self.bins.len() <= BINS_MAX
    }
}

/// The smallest hashes of what came.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct Distinct {
    /// In order, each once.
    hashes: Vec<u64>,
}

impl Distinct {
    pub(crate) fn add(&mut self, hash: u64) {
        let full = self.hashes.len() == HASHES_MAX;
        if full && self.hashes.last().is_some_and(|last| *last <= hash) {
            return;
        }
        if let Err(at) = self.hashes.binary_search(&hash) {
            if full {
                self.hashes.pop();
            }
            self.hashes.insert(at, hash);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.hashes.iter().for_each(|hash| self.add(*hash));
    }

    pub(crate) fn clear(&mut self) {
        self.hashes.clear();
    }

    /// How many different values there were: exact as long as all hashes are
    /// here, then from how dense the smallest ones lie.
    pub(crate) fn count(&self) -> u64 {
        match self.hashes.last() {
            Some(last) if self.hashes.len() == HASHES_MAX => {
                let part = *last as f64 / u64::MAX as f64;
                ((HASHES_MAX - 1) as f64 / part) as u64
            }
            _ => self.hashes.len() as u64,
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.hashes.len() <= HASHES_MAX && self.hashes.windows(2).all(|pair| pair[0] < pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_percentile_is_right_within_one_percent(
            mut values in prop::collection::vec(-1e6f64..1e6, 1..400),
            part in 0.0f64..=1.0,
            cut in any::<prop::sample::Index>(),
        ) {
            // As many sizes as there are bins for.
            values.iter_mut().for_each(|v| if v.abs() < 50.0 { *v = 0.0 });
            let (mut whole, mut other) = (Quantiles::default(), Quantiles::default());
            let cut = cut.index(values.len());
            values[..cut].iter().for_each(|v| whole.add(*v));
            values[cut..].iter().for_each(|v| other.add(*v));
            whole.merge(&other);
            prop_assert!(whole.is_valid());
            values.sort_by(f64::total_cmp);
            let exact = values[(part * (values.len() - 1) as f64).round() as usize];
            let found = whole.at(part).unwrap();
            prop_assert!((found - exact).abs() <= exact.abs() * 0.0101, "{found} for {exact}");
        }

        #[test]
        fn distinct_values_are_exact_and_then_within_ten_percent(count in 1u64..50_000) {
            let mut distinct = Distinct::default();
            for n in 0..count {
                distinct.add(xxhash_rust::xxh3::xxh3_64(&(n / 2).to_le_bytes()));
                distinct.add(xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()));
            }
            prop_assert!(distinct.is_valid());
            let error = (distinct.count() as f64 - count as f64).abs() / count as f64;
            let allowed = if count < HASHES_MAX as u64 { 0.0 } else { 0.12 };
            prop_assert!(error <= allowed, "{error} at {count}");
        }
    }
}
