//! Messages whose watched fields differ from the last ones that passed.
//!
//! What is kept of a key is a fingerprint of 128 bits of the values, not the
//! values; with a deadband, the numbers that are compared with it.

use ringmain_slab::{Slab, ValueRef};
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::key::{self, Fields};
use super::saved::{self, Known, Saved, Store};
use crate::{Context, Operator, Tally};

/// What is kept of a key.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct State {
    fingerprint: [u64; 2],
    /// One per watched field, NaN for what is no number; none without a
    /// deadband.
    numbers: Option<Box<Numbers>>,
}

/// Behind one pointer, for those who have no deadband.
#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
struct Numbers(Vec<f64>);

pub(crate) struct Change {
    store: Store<State>,
    /// All messages pass when there are none.
    fields: Fields,
    first_passes: bool,
    deadband: Option<f64>,
    values: Vec<u8>,
    numbers: Vec<f64>,
}

impl Change {
    pub(crate) fn new(
        store: Store<State>,
        fields: Fields,
        first_passes: bool,
        deadband: Option<f64>,
    ) -> Self {
        let (values, numbers) = (Vec::new(), Vec::new());
        Self { store, fields, first_passes, deadband, values, numbers }
    }
}

#[inline]
fn fingerprint(values: &[u8]) -> [u64; 2] {
    let hash = xxh3_128(values);
    [hash as u64, (hash >> 64) as u64]
}

/// Whether a number is further from the old one than the deadband. What became
/// a number, or is none any more, is in the fingerprint.
fn moved(old: &[f64], new: &[f64], deadband: f64) -> bool {
    old.len() != new.len() || old.iter().zip(new).any(|(old, new)| (old - new).abs() > deadband)
}

impl Operator for Change {
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        if self.fields.is_empty() {
            return;
        }
        self.store.begin(cx.now, slab);
        let (fields, first_passes, deadband) = (&self.fields, self.first_passes, self.deadband);
        let (values, numbers) = (&mut self.values, &mut self.numbers);
        let (store, refuse) = (&mut self.store, &mut *cx.refuse);
        slab.retain(|row| {
            values.clear();
            numbers.clear();
            for slot in fields.slots() {
                match deadband.and_then(|_| row.number(*slot)) {
                    Some(number) => {
                        numbers.push(number);
                        key::put(ValueRef::Bool(true), values);
                    }
                    None => {
                        numbers.push(f64::NAN);
                        key::put(row.get(*slot), values);
                    }
                }
            }
            let now = fingerprint(values);
            let Some(Known { state, fresh, .. }) = store.of(row, refuse) else { return false };
            let changed = fresh
                || state.fingerprint != now
                || deadband.is_some_and(|deadband| {
                    moved(state.numbers.as_ref().map_or(&[], |n| &n.0), numbers, deadband)
                });
            if changed {
                state.fingerprint = now;
                if deadband.is_some() {
                    match &mut state.numbers {
                        Some(old) => old.0.clone_from(numbers),
                        none => *none = Some(Box::new(Numbers(numbers.clone()))),
                    }
                }
            }
            changed && (first_passes || !fresh)
        });
    }

    fn state_format(&self) -> Option<&'static str> {
        (!self.fields.is_empty()).then_some("change_detector/1")
    }

    fn save(&mut self, partition: u16, into: &mut Vec<u8>) -> Result<(), String> {
        let saved = self.store.take(partition, State::clone);
        saved.map_or(Ok(()), |saved| saved::write(&saved, into))
    }

    fn restore(&mut self, partition: u16, bytes: &[u8]) -> Result<(), String> {
        let saved: Saved<State> = saved::read(bytes)?;
        self.store.give(partition, saved, Some)
    }

    fn tally(&self) -> Option<Tally> {
        Some(self.store.tables.tally())
    }
}
