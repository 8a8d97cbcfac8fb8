//! A slab does what a vector of maps does, whatever is done to it in whatever
//! order; and gives back all that it took from the budget.

mod common;

use common::{Fields, Value, as_scalar, build, config, fields, range, read, scalar, text};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringmain_slab::{Budget, Full, REST_SLOT, RowRef, Scalar, Scratch, Slab, Source};

#[derive(Clone, Debug)]
enum Step {
    Build(u16, Fields),
    Set(Index, u16, Option<Value>),
    Intern(String),
    SetShared(Index, u16),
    Assign(Index, Vec<(u16, New)>),
    Copy(Index, u16, u16),
    Rename(Index, u16, u16),
    Keep(Index, u64),
    Hash(Index, u32),
    Retain(u8),
    Divide(u8),
    Truncate(u8),
    PushCopy(Index),
    PushAll,
    Reserve(usize),
    Clear,
    Swap,
}

#[derive(Clone, Debug)]
enum New {
    Scalar(Value),
    Absent,
    Shared,
    Field(u16),
}

/// Mostly the first ones, so that they meet; sometimes the last.
fn slot() -> impl Strategy<Value = u16> {
    prop_oneof![9 => 0u16..10, 1 => 60u16..64]
}

fn slots() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0u16..10, 1 => Just(64u16), 1 => Just(65u16)]
}

fn step() -> impl Strategy<Value = Step> {
    let row = any::<Index>;
    let new = prop_oneof![
        scalar().prop_map(New::Scalar),
        Just(New::Absent),
        Just(New::Shared),
        slot().prop_map(New::Field),
    ];
    prop_oneof![
        8 => slots().prop_flat_map(|slots| (Just(slots), fields(slots)))
            .prop_map(|(slots, fields)| Step::Build(slots, fields)),
        8 => (row(), slot(), proptest::option::of(scalar()))
            .prop_map(|(row, slot, value)| Step::Set(row, slot, value)),
        2 => text().prop_map(Step::Intern),
        4 => (row(), slot()).prop_map(|(row, slot)| Step::SetShared(row, slot)),
        4 => (row(), vec((slot(), new), 0..7)).prop_map(|(row, sets)| Step::Assign(row, sets)),
        3 => (row(), slot(), slot()).prop_map(|(row, from, to)| Step::Copy(row, from, to)),
        3 => (row(), slot(), slot()).prop_map(|(row, from, to)| Step::Rename(row, from, to)),
        1 => (row(), any::<u64>()).prop_map(|(row, mask)| Step::Keep(row, mask)),
        1 => (row(), any::<u32>()).prop_map(|(row, hash)| Step::Hash(row, hash)),
        2 => (2u8..5).prop_map(Step::Retain),
        2 => (1u8..5).prop_map(Step::Divide),
        1 => any::<u8>().prop_map(Step::Truncate),
        4 => row().prop_map(Step::PushCopy),
        2 => Just(Step::PushAll),
        2 => (0usize..5000).prop_map(Step::Reserve),
        1 => Just(Step::Clear),
        3 => Just(Step::Swap),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    ts: i64,
    hash: u32,
    fields: Fields,
}

/// A slab and what should be in it.
struct Pair {
    slab: Slab,
    rows: Vec<Row>,
    interned: Option<(String, ringmain_slab::Shared)>,
}

impl Pair {
    fn new(budget: &Budget) -> Self {
        Self { slab: Slab::new(1024, budget), rows: Vec::new(), interned: None }
    }

    fn check(&mut self) {
        let within = range(&mut self.slab);
        let found: Vec<Row> = self
            .slab
            .rows()
            .map(|row| Row {
                ts: row.ts(),
                hash: row.header().key_hash.to_native(),
                fields: read(row, &within),
            })
            .collect();
        assert_eq!(found, self.rows);
    }

    /// What a step on one row does, first to the slab; only if that succeeds,
    /// to the model.
    fn edit(&mut self, step: &Step, at: usize) -> Result<(), Full> {
        let mut row = self.slab.edit(at);
        let fields = &mut self.rows[at].fields;
        match step {
            Step::Set(_, slot, value) => {
                let new = value.as_ref().and_then(as_scalar).unwrap_or(Scalar::Absent);
                row.set(*slot, new)?;
                put(fields, *slot, value.clone());
            }
            Step::SetShared(_, slot) => {
                let Some((text, shared)) = &self.interned else { return Ok(()) };
                row.set_shared(*slot, *shared)?;
                put(fields, *slot, Some(Value::Str(text.clone())));
            }
            Step::Assign(_, sets) => {
                let interned = &self.interned;
                let source = |new| match new {
                    &New::Field(slot) => Source::Field(slot),
                    New::Scalar(value) => Source::Scalar(as_scalar(value).expect("not nested")),
                    New::Shared => match interned {
                        Some((_, shared)) => Source::Shared(*shared),
                        None => Source::Scalar(Scalar::Absent),
                    },
                    New::Absent => Source::Scalar(Scalar::Absent),
                };
                row.assign(sets.iter().map(|(slot, new)| (*slot, source(new))))?;
                let before = fields.clone();
                for (slot, new) in sets {
                    let value = match new {
                        New::Field(from) => before.get(from).cloned(),
                        New::Scalar(value) => Some(value.clone()),
                        New::Shared => interned.as_ref().map(|(text, _)| Value::Str(text.clone())),
                        New::Absent => None,
                    };
                    put(fields, *slot, value);
                }
            }
            Step::Copy(_, from, to) => {
                row.copy(*from, *to)?;
                let value = fields.get(from).cloned();
                put(fields, *to, value);
            }
            Step::Rename(_, from, to) => {
                row.rename(*from, *to)?;
                if let Some(value) = fields.remove(from) {
                    fields.insert(*to, value);
                }
            }
            Step::Keep(_, mask) => {
                row.keep(*mask);
                fields.retain(|slot, _| *slot < REST_SLOT && mask & (1 << slot) != 0);
            }
            Step::Hash(_, hash) => {
                row.set_key_hash(*hash);
                self.rows[at].hash = *hash;
            }
            other => unreachable!("{other:?} is not about one row"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.slab.clear();
        self.rows.clear();
        self.interned = None;
    }
}

fn put(fields: &mut Fields, slot: u16, value: Option<Value>) {
    match value {
        Some(value) => fields.insert(slot, value),
        None => fields.remove(&slot),
    };
}

/// A row that was copied is whole: its bytes are a row elsewhere too.
fn accepted(row: RowRef<'_>, fields: &Fields) {
    let image = row.image();
    let mut slab = Slab::new(image.len() + 1024, &Budget::new(0));
    assert_eq!(slab.push_checked(image), Ok(()));
    let within = range(&mut slab);
    assert_eq!(&read(slab.row(0), &within), fields);
}

fn apply(step: Step, here: &mut Pair, there: &mut Pair, scratch: &mut Scratch, ts: i64) {
    match step {
        Step::Build(slots, fields) => {
            if build(&mut here.slab, scratch, slots, &fields, ts).is_ok() {
                here.rows.push(Row { ts, hash: 0, fields });
            }
        }
        Step::Intern(text) => {
            if let Ok(shared) = here.slab.intern(&text) {
                here.interned = Some((text, shared));
            }
        }
        Step::Set(row, ..)
        | Step::SetShared(row, _)
        | Step::Assign(row, _)
        | Step::Copy(row, ..)
        | Step::Rename(row, ..)
        | Step::Keep(row, _)
        | Step::Hash(row, _) => {
            if !here.rows.is_empty() {
                let _ = here.edit(&step, row.index(here.rows.len()));
            }
        }
        Step::Retain(nth) => {
            let keep = |at: usize| !at.is_multiple_of(usize::from(nth));
            let (mut at, mut at_model) = (0, 0);
            here.slab.retain(|_| (keep(at), at += 1).0);
            here.rows.retain(|_| (keep(at_model), at_model += 1).0);
        }
        Step::Divide(ways) => {
            let (ways, at) = (usize::from(ways), std::cell::Cell::new(0));
            let mut places = vec![Vec::new(); ways];
            here.slab.divide(&mut places, |_| at.replace(at.get() + 1) % ways);
            let of = |way: usize| (way..here.rows.len()).step_by(ways);
            for (way, places) in places.iter().enumerate() {
                assert!(places.iter().map(|place| *place as usize).eq(of(way)));
            }
            here.rows = of(0).map(|place| here.rows[place].clone()).collect();
            here.slab.select(&places[0]);
        }
        Step::Truncate(rows) => {
            here.slab.truncate(usize::from(rows));
            here.rows.truncate(usize::from(rows));
        }
        Step::PushCopy(row) => {
            if !here.rows.is_empty() {
                let at = row.index(here.rows.len());
                let source = here.slab.row(at);
                if there.slab.push_copy(source).is_ok() {
                    there.rows.push(here.rows[at].clone());
                    let copy = there.slab.row(there.slab.len() - 1);
                    assert!(copy.image().len() <= source.image_bound().next_multiple_of(8));
                    accepted(copy, &here.rows[at].fields);
                }
            }
        }
        Step::PushAll => {
            let _ = there.slab.push_all(&here.slab);
            let copied = there.slab.len() - there.rows.len();
            there.rows.extend_from_slice(&here.rows[..copied]);
        }
        Step::Reserve(bytes) => {
            if here.slab.reserve(bytes).is_ok() {
                assert!(here.slab.room() >= bytes);
            }
        }
        Step::Clear => here.clear(),
        Step::Swap => std::mem::swap(here, there),
    }
}

proptest! {
    #![proptest_config(config(384))]

    #[test]
    fn a_slab_is_a_vector_of_maps(
        steps in vec(step(), 1..if cfg!(miri) { 16 } else { 60 }),
        limit in prop_oneof![Just(0u64), Just(4096), Just(1 << 20)],
    ) {
        let budget = Budget::new(limit);
        let (mut here, mut there) = (Pair::new(&budget), Pair::new(&budget));
        let mut scratch = Scratch::default();
        for (at, step) in steps.into_iter().enumerate() {
            apply(step, &mut here, &mut there, &mut scratch, at as i64);
            here.check();
            there.check();
            let grown = here.slab.capacity() + there.slab.capacity() - 2 * 1024;
            prop_assert_eq!(budget.used_bytes(), grown as u64);
            prop_assert!(budget.used_bytes() <= limit);
        }
        drop(here);
        drop(there);
        prop_assert_eq!(budget.used_bytes(), 0);
    }
}
