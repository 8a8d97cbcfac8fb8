//! What a window computes.

use ringmain_slab::{RowBuilder, RowRef, ValueRef};
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::sketch::{BINS_MAX, Distinct, HASHES_MAX, Quantiles};
use crate::native::keyed::key::{self, KEY_BYTES_MAX, Reader};
use crate::native::keyed::time::shown;

/// A function over the messages of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compute {
    /// Messages, or with a field, those that have it.
    Count,
    /// Sum of a number.
    Sum,
    /// Least number.
    Min,
    /// Greatest number.
    Max,
    /// Arithmetic mean.
    Mean,
    /// Standard deviation of a sample.
    Stddev,
    /// The value below which a part (0 to 1) of the values lie.
    Percentile(f64),
    /// The value of the earliest message.
    First,
    /// The value of the latest message.
    Last,
    /// Different values.
    Distinct,
}

impl Compute {
    const fn needs_number(self) -> bool {
        use Compute::{Max, Mean, Min, Percentile, Stddev, Sum};
        matches!(self, Sum | Min | Max | Mean | Stddev | Percentile(_))
    }

    /// Bytes that its memory of one window takes at most, besides an [`Acc`].
    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::Percentile(_) => 2 * 16 * BINS_MAX as u64,
            Self::Distinct => 2 * 8 * HASHES_MAX as u64,
            // Mostly numbers and short texts; a longer one is refused.
            Self::First | Self::Last => 256,
            _ => 0,
        }
    }
}

/// A function of a field into another.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) compute: Compute,
    /// Slot and name of the field; none for counting messages.
    pub(crate) of: Option<(u16, String)>,
    pub(crate) into: u16,
}

/// What is known of a window, by function.
#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Acc {
    Count(u64),
    /// The sum, and what its last digits lost.
    Sum(f64, f64),
    Least(Option<f64>),
    Most(Option<f64>),
    /// Count, mean, sum of squares about it.
    Moments(u64, f64, f64),
    Quantiles(Box<Quantiles>),
    /// Time, and the value's encoding; nothing is empty.
    Edge(i64, Vec<u8>),
    Distinct(Distinct),
}

/// Longest value that first and last keep.
const EDGE_BYTES_MAX: usize = 256;
const _: () = assert!(EDGE_BYTES_MAX <= KEY_BYTES_MAX);

fn add(sum: &mut f64, lost: &mut f64, value: f64) {
    // Neumaier's form of Kahan's sum.
    let next = *sum + value;
    *lost += if sum.abs() >= value.abs() { (*sum - next) + value } else { (value - next) + *sum };
    *sum = next;
}

impl Function {
    pub(crate) fn start(&self) -> Acc {
        match self.compute {
            Compute::Count => Acc::Count(0),
            Compute::Sum => Acc::Sum(0.0, 0.0),
            Compute::Min => Acc::Least(None),
            Compute::Max => Acc::Most(None),
            Compute::Mean | Compute::Stddev => Acc::Moments(0, 0.0, 0.0),
            Compute::Percentile(_) => Acc::Quantiles(Box::default()),
            Compute::First | Compute::Last => Acc::Edge(0, Vec::new()),
            Compute::Distinct => Acc::Distinct(Distinct::default()),
        }
    }

    /// The number that a row has for it: none is passed over.
    fn number(row: RowRef<'_>, slot: u16) -> Result<Option<f64>, ()> {
        match row.number(slot) {
            Some(number) => Ok(Some(number)),
            None => match row.get(slot) {
                ValueRef::Absent | ValueRef::Null => Ok(None),
                ValueRef::Number(text) => text.parse().map(Some).map_err(|_| ()),
                _ => Err(()),
            },
        }
    }

    /// Why a row cannot be taken.
    #[inline]
    pub(crate) fn objects(&self, row: RowRef<'_>, bytes: &mut Vec<u8>) -> Option<String> {
        let (slot, name) = self.of.as_ref()?;
        if self.compute.needs_number() {
            let wrong = || format!("'{name}' is no number: {}", shown(row.get(*slot)));
            return Self::number(row, *slot).err().map(|()| wrong());
        }
        if matches!(self.compute, Compute::First | Compute::Last) {
            bytes.clear();
            key::put(row.get(*slot), bytes);
            let len = bytes.len();
            return (len > EDGE_BYTES_MAX).then(|| {
                format!("'{name}' has {len} bytes; first and last keep {EDGE_BYTES_MAX}")
            });
        }
        None
    }

    /// Takes a row that has no objections.
    #[inline]
    pub(crate) fn take(&self, acc: &mut Acc, row: RowRef<'_>, time_us: i64, bytes: &mut Vec<u8>) {
        let Some((slot, _)) = &self.of else {
            if let Acc::Count(count) = acc {
                *count += 1;
            }
            return;
        };
        if self.compute.needs_number() {
            if let Ok(Some(value)) = Self::number(row, *slot) {
                take_number(acc, value);
            }
            return;
        }
        let value = row.get(*slot);
        if matches!(value, ValueRef::Absent | ValueRef::Null) {
            return;
        }
        match acc {
            Acc::Count(count) => *count += 1,
            Acc::Edge(at_us, kept) => {
                let later = self.compute == Compute::Last && time_us >= *at_us;
                let earlier = self.compute == Compute::First && time_us < *at_us;
                if kept.is_empty() || later || earlier {
                    kept.clear();
                    key::put(value, kept);
                    *at_us = time_us;
                }
            }
            Acc::Distinct(distinct) => {
                bytes.clear();
                key::put(value, bytes);
                distinct.add(xxh3_64(bytes));
            }
            _ => {}
        }
    }

    /// Adds what another part of the window knows.
    pub(crate) fn merge(&self, acc: &mut Acc, other: &Acc) {
        match (acc, other) {
            (Acc::Count(a), Acc::Count(b)) => *a += b,
            (Acc::Sum(sum, lost), Acc::Sum(more, more_lost)) => {
                add(sum, lost, *more);
                *lost += more_lost;
            }
            (Acc::Least(a), Acc::Least(b)) => *a = [*a, *b].into_iter().flatten().reduce(f64::min),
            (Acc::Most(a), Acc::Most(b)) => *a = [*a, *b].into_iter().flatten().reduce(f64::max),
            (Acc::Moments(n, mean, m2), Acc::Moments(k, other_mean, other_m2)) if *k > 0 => {
                let (a, b) = (*n as f64, *k as f64);
                let delta = other_mean - *mean;
                *mean += delta * b / (a + b);
                *m2 += other_m2 + delta * delta * a * b / (a + b);
                *n += k;
            }
            (Acc::Quantiles(a), Acc::Quantiles(b)) => a.merge(b),
            (Acc::Edge(at, value), Acc::Edge(other_at, other)) if !other.is_empty() => {
                let later = self.compute == Compute::Last && other_at >= at;
                let earlier = self.compute == Compute::First && other_at < at;
                if value.is_empty() || later || earlier {
                    value.clone_from(other);
                    *at = *other_at;
                }
            }
            (Acc::Distinct(a), Acc::Distinct(b)) => a.merge(b),
            _ => {}
        }
    }

    /// Writes the result; what has none stays absent.
    pub(crate) fn write(&self, acc: &Acc, row: &mut RowBuilder<'_>) {
        let result = match acc {
            Acc::Count(count) => return row.set_int(self.into, count.cast_signed()),
            Acc::Sum(sum, lost) => Some(sum + lost),
            Acc::Least(value) | Acc::Most(value) => *value,
            Acc::Moments(n, mean, m2) => match self.compute {
                Compute::Mean => (*n > 0).then_some(*mean),
                _ => (*n > 1).then(|| (m2 / (*n - 1) as f64).max(0.0).sqrt()),
            },
            Acc::Quantiles(quantiles) => match self.compute {
                Compute::Percentile(part) => quantiles.at(part),
                _ => None,
            },
            Acc::Edge(_, value) => {
                return Reader::new(value).set(row, self.into);
            }
            Acc::Distinct(distinct) => {
                return row.set_int(self.into, distinct.count().cast_signed());
            }
        };
        if let Some(value) = result {
            let scalar = crate::native::map::scalar(value);
            row.set(self.into, scalar);
        }
    }

    /// Whether a stored memory is one of this function.
    pub(crate) fn is_valid(&self, acc: &Acc) -> bool {
        let same = std::mem::discriminant(acc) == std::mem::discriminant(&self.start());
        same && match acc {
            Acc::Quantiles(quantiles) => quantiles.is_valid(),
            Acc::Distinct(distinct) => distinct.is_valid(),
            Acc::Edge(_, value) => {
                value.is_empty()
                    || (value.len() <= EDGE_BYTES_MAX && Reader::new(value).is_valid(1))
            }
            Acc::Moments(n, ..) | Acc::Count(n) => *n < 1 << 60,
            _ => true,
        }
    }
}

fn take_number(acc: &mut Acc, value: f64) {
    match acc {
        Acc::Sum(sum, lost) => add(sum, lost, value),
        Acc::Least(least) => *least = Some(least.map_or(value, |least| least.min(value))),
        Acc::Most(most) => *most = Some(most.map_or(value, |most| most.max(value))),
        Acc::Moments(n, mean, m2) => {
            *n += 1;
            let delta = value - *mean;
            *mean += delta / *n as f64;
            *m2 += delta * (value - *mean);
        }
        Acc::Quantiles(quantiles) => quantiles.add(value),
        _ => {}
    }
}

/// As at the beginning, with its memory kept.
pub(crate) fn reset(acc: &mut Acc) {
    match acc {
        Acc::Count(count) => *count = 0,
        Acc::Sum(sum, lost) => (*sum, *lost) = (0.0, 0.0),
        Acc::Least(value) | Acc::Most(value) => *value = None,
        Acc::Moments(n, mean, m2) => (*n, *mean, *m2) = (0, 0.0, 0.0),
        Acc::Quantiles(quantiles) => quantiles.clear(),
        Acc::Edge(_, value) => value.clear(),
        Acc::Distinct(distinct) => distinct.clear(),
    }
}
