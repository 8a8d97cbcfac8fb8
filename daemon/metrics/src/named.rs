//! Metrics that an operator's code makes up: a few names per operator and
//! shard, each a counter, a gauge or a histogram.
//!
//! Written by the shard alone, without a lock; read by anyone at any time. A
//! name is there for good once it has been used, and there are at most
//! [`NAMES_MAX`], so nothing here grows with what passes through a flow.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names of one operator on one shard.
pub const NAMES_MAX: usize = 64;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Buckets of a histogram: powers of two from 2^-20 to 2^42, and one for what
/// is above.
pub const BUCKETS: usize = 64;

/// Exponent of the first bucket's upper bound.
const FIRST_EXPONENT: i32 = -20;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Goes up.
    Counter,
    /// Is what it was set to last.
    Gauge,
    /// Values that were observed.
    Histogram,
}

impl Kind {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Why a name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is not one.
    Invalid,
    /// There are [`NAMES_MAX`] already.
    Full,
    /// It is another kind of metric.
    Is(Kind),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => write!(
                f,
                "a metric's name is up to {NAME_BYTES_MAX} letters, digits and '_', and does not \
                 begin with a digit"
            ),
            Self::Full => write!(f, "an operator has at most {NAMES_MAX} metrics"),
            Self::Is(kind) => write!(f, "the metric is a {}", kind.name()),
        }
    }
}

impl std::error::Error for NameError {}

/// The metrics of one operator on one shard.
#[derive(Debug)]
pub struct Named {
    entries: [OnceLock<Entry>; NAMES_MAX],
}

#[derive(Debug)]
struct Entry {
    name: Box<str>,
    kind: Kind,
    /// The bits of an `f64`.
    value: AtomicU64,
    histogram: Option<Box<Histogram>>,
}

#[derive(Debug)]
struct Histogram {
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Named {
    fn default() -> Self {
        Self { entries: [const { OnceLock::new() }; NAMES_MAX] }
    }
}

impl Named {
    /// The number of a name. Only the owning shard may call it.
    ///
    /// # Errors
    /// Why there can be no such metric.
    pub fn register(&self, name: &str, kind: Kind) -> Result<usize, NameError> {
        if !is_name(name) {
            return Err(NameError::Invalid);
        }
        for (at, entry) in self.entries.iter().enumerate() {
            let entry = entry.get_or_init(|| Entry::new(name, kind));
            if &*entry.name == name {
                return if entry.kind == kind { Ok(at) } else { Err(NameError::Is(entry.kind)) };
            }
        }
        Err(NameError::Full)
    }

    /// Where a counter or a gauge keeps its value, as the bits of an `f64`.
    ///
    /// # Panics
    /// When nothing was registered under that number.
    #[must_use]
    pub fn cell(&self, at: usize) -> &AtomicU64 {
        &self.entry(at).value
    }

    /// Adds to a counter. Only the owning shard may call it.
    ///
    /// # Panics
    /// When nothing was registered under that number.
    pub fn add(&self, at: usize, n: f64) {
        add(self.cell(at), n);
    }

    /// Sets a gauge. Only the owning shard may call it.
    ///
    /// # Panics
    /// When nothing was registered under that number.
    pub fn set(&self, at: usize, value: f64) {
        self.cell(at).store(value.to_bits(), Ordering::Relaxed);
    }

    /// Counts a value in a histogram; a number that is none counts nowhere.
    /// Only the owning shard may call it.
    ///
    /// # Panics
    /// When nothing was registered under that number.
    pub fn observe(&self, at: usize, value: f64) {
        if let (Some(histogram), false) = (&self.entry(at).histogram, value.is_nan()) {
            histogram.observe(value);
        }
    }

    fn entry(&self, at: usize) -> &Entry {
        self.entries[at].get().expect("a number comes from `register`")
    }

    /// Everything, read now, in the order of registration.
    #[must_use]
    pub fn snapshot(&self) -> Vec<NamedSnapshot> {
        self.entries.iter().map_while(OnceLock::get).map(Entry::snapshot).collect()
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

fn add(cell: &AtomicU64, n: f64) {
    let now = f64::from_bits(cell.load(Ordering::Relaxed)) + n;
    cell.store(now.to_bits(), Ordering::Relaxed);
}

impl Entry {
    fn new(name: &str, kind: Kind) -> Self {
        let histogram = (kind == Kind::Histogram).then(Box::default);
        Self { name: name.into(), kind, value: AtomicU64::new(0), histogram }
    }

    fn snapshot(&self) -> NamedSnapshot {
        NamedSnapshot {
            name: self.name.to_string(),
            kind: self.kind,
            value: f64::from_bits(self.value.load(Ordering::Relaxed)),
            histogram: self.histogram.as_deref().map(Histogram::snapshot),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(f64::INFINITY.to_bits()),
            max: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Histogram {
    fn observe(&self, value: f64) {
        let get = |cell: &AtomicU64| f64::from_bits(cell.load(Ordering::Relaxed));
        let count =
            |cell: &AtomicU64| cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.min.store(get(&self.min).min(value).to_bits(), Ordering::Relaxed);
        self.max.store(get(&self.max).max(value).to_bits(), Ordering::Relaxed);
        add(&self.sum, value);
        count(&self.buckets[bucket(value)]);
        count(&self.count);
    }

    fn snapshot(&self) -> HistogramSnapshot {
        let get = |cell: &AtomicU64| f64::from_bits(cell.load(Ordering::Relaxed));
        HistogramSnapshot {
            count: self.count.load(Ordering::Relaxed),
            sum: get(&self.sum),
            min: get(&self.min),
            max: get(&self.max),
            buckets: self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect(),
        }
    }
}

/// The first bucket whose bound is not below the value.
fn bucket(value: f64) -> usize {
    if value <= bound(0) {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let above = i32::from(bits & ((1 << 52) - 1) != 0);
    usize::try_from(exponent + above - FIRST_EXPONENT).unwrap_or(0).min(BUCKETS - 1)
}

/// Upper bound of a bucket: values up to it, itself included, are counted
/// there or below.
#[must_use]
pub fn bound(bucket: usize) -> f64 {
    if bucket + 1 >= BUCKETS {
        return f64::INFINITY;
    }
    2f64.powi(FIRST_EXPONENT + bucket as i32)
}

/// A metric at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSnapshot {
    /// The name that the code gave it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Of a counter or a gauge.
    pub value: f64,
    /// Of a histogram.
    pub histogram: Option<HistogramSnapshot>,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    /// Values that were observed.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least of them; infinity when there is none.
    pub min: f64,
    /// The greatest of them; minus infinity when there is none.
    pub max: f64,
    /// How many are in each bucket and in none below; see [`bound`].
    pub buckets: Vec<u64>,
}

/// The metrics of one operator over its shards, by name: counters, gauges and
/// histograms are added up.
pub(crate) fn merge(shards: impl Iterator<Item = Vec<NamedSnapshot>>) -> Vec<NamedSnapshot> {
    let mut all: Vec<NamedSnapshot> = Vec::new();
    for metric in shards.flatten() {
        match all.iter_mut().find(|m| m.name == metric.name && m.kind == metric.kind) {
            Some(sum) => sum.add(&metric),
            None => all.push(metric),
        }
    }
    all.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    all
}

impl NamedSnapshot {
    fn add(&mut self, other: &Self) {
        self.value += other.value;
        if let (Some(own), Some(other)) = (&mut self.histogram, &other.histogram) {
            own.count += other.count;
            own.sum += other.sum;
            own.min = own.min.min(other.min);
            own.max = own.max.max(other.max);
            for (own, other) in own.buckets.iter_mut().zip(&other.buckets) {
                *own += other;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_few_and_of_one_kind() {
        let named = Named::default();
        for at in 0..NAMES_MAX {
            assert_eq!(named.register(&format!("m{at}"), Kind::Counter), Ok(at));
        }
        assert_eq!(named.register("m3", Kind::Counter), Ok(3));
        assert_eq!(named.register("m3", Kind::Gauge), Err(NameError::Is(Kind::Counter)));
        assert_eq!(named.register("more", Kind::Counter), Err(NameError::Full));
        for name in ["", "1a", "a-b", "ä", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(named.register(name, Kind::Counter), Err(NameError::Invalid), "{name}");
        }
    }

    #[test]
    fn a_value_is_in_the_first_bucket_that_is_not_below_it() {
        for at in 0..BUCKETS - 1 {
            assert_eq!(bucket(bound(at)), at);
            assert_eq!(bucket(bound(at).next_up()), at + 1);
        }
        let ends = [f64::NEG_INFINITY, -1.0, -0.0, 0.0, f64::MIN_POSITIVE];
        assert_eq!(ends.map(bucket), [0; 5]);
        assert_eq!(bucket(f64::INFINITY), BUCKETS - 1);
        assert_eq!(bucket(f64::MAX), BUCKETS - 1);
    }

    #[test]
    fn shards_are_added_up() {
        let shard = |n: f64| {
            let named = Named::default();
            let counter = named.register("seen", Kind::Counter).unwrap();
            let histogram = named.register("size", Kind::Histogram).unwrap();
            named.add(counter, n);
            named.observe(histogram, n);
            named.observe(histogram, f64::NAN);
            named.snapshot()
        };
        let merged = merge([shard(2.0), shard(5.0)].into_iter());
        assert_eq!((merged[0].name.as_str(), merged[0].value), ("seen", 7.0));
        let size = merged[1].histogram.as_ref().unwrap();
        assert_eq!((size.count, size.sum, size.min, size.max), (2, 7.0, 2.0, 5.0));
        assert_eq!((size.buckets[21], size.buckets[23]), (1, 1));
    }
}
