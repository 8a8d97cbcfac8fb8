//! What the tests of slabs share: values as plain Rust, building them,
//! reading them back.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use ringmain_slab::{Full, REST_SLOT, RowRef, Scalar, Scratch, Slab, TreeBuilder, ValueRef};

/// A value, owned. Floats by their bits, so that NaN equals itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(u64),
    Number(String),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// A row: its fields by slot. What is not there is absent.
pub type Fields = BTreeMap<u16, Value>;

/// How often a property is tried. Miri is a thousand times slower.
pub fn config(cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 3 } else { cases };
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4096,
        ..Default::default()
    }
}

/// Not from regular expressions, which are parsed anew for each value: Miri
/// takes minutes over it.
fn chars(of: &'static [char], len: Range<usize>) -> impl Strategy<Value = String> {
    vec(proptest::sample::select(of), len).prop_map(String::from_iter)
}

const LETTERS: &[char] = &['a', 'b', 'c', 'x', 'y', 'z', '0', ' '];
const WIDE: &[char] = &['a', '"', '\\', '\0', '\n', 'é', '€', '\u{1F600}'];

pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => chars(LETTERS, 0..9),
        2 => chars(WIDE, 0..40),
        1 => (0usize..if cfg!(miri) { 60 } else { 600 }).prop_map(|len| "x".repeat(len)),
    ]
}

/// A value without children.
pub fn scalar() -> impl Strategy<Value = Value> {
    let number = (1..i64::MAX, 1usize..9, -99i32..99).prop_map(|(whole, zeroes, exponent)| {
        Value::Number(format!("{whole}{}.5e{exponent}", "0".repeat(zeroes)))
    });
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Float),
        number,
        text().prop_map(Value::Str),
        vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
    ]
}

/// Any value.
pub fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![vec(inner.clone(), 0..5).prop_map(Value::List), map(inner)]
    })
}

fn map(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    vec((chars(LETTERS, 0..5), inner), 0..5).prop_map(Value::Map)
}

/// The fields of a row of `slots` slots, with a rest if that has a slot.
pub fn fields(slots: u16) -> impl Strategy<Value = Fields> {
    let named = slots.min(REST_SLOT);
    let rest = proptest::option::of(map(value()));
    (proptest::collection::btree_map(0..named.max(1), value(), 0..8), rest).prop_map(
        move |(mut fields, rest)| {
            fields.retain(|slot, _| *slot < named);
            if let Some(rest) = rest.filter(|_| slots > REST_SLOT) {
                fields.insert(REST_SLOT, rest);
            }
            fields
        },
    )
}

/// The value for [`ringmain_slab::RowMut::set`]; nothing for nested ones.
pub fn as_scalar(value: &Value) -> Option<Scalar<'_>> {
    Some(match value {
        Value::Null => Scalar::Null,
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Int(value) => Scalar::Int(*value),
        Value::Float(bits) => Scalar::Float(f64::from_bits(*bits)),
        Value::Number(text) => Scalar::Number(text),
        Value::Str(text) => Scalar::Str(text),
        Value::Bytes(bytes) => Scalar::Bytes(bytes),
        Value::List(_) | Value::Map(_) => return None,
    })
}

pub fn build_tree(tree: &mut TreeBuilder<'_, '_>, value: &Value) {
    match value {
        Value::List(items) => {
            assert!(tree.list());
            items.iter().for_each(|item| build_tree(tree, item));
            tree.close();
        }
        Value::Map(entries) => {
            assert!(tree.map());
            for (key, value) in entries {
                tree.key(key);
                build_tree(tree, value);
            }
            tree.close();
        }
        other => tree.scalar(as_scalar(other).expect("not nested")),
    }
}

pub fn build(
    slab: &mut Slab,
    scratch: &mut Scratch,
    slots: u16,
    fields: &Fields,
    ts: i64,
) -> Result<(), Full> {
    let mut row = slab.build(slots.min(REST_SLOT), slots, scratch);
    for (slot, value) in fields {
        match as_scalar(value) {
            Some(scalar) => row.set(*slot, scalar),
            None => {
                let mut tree = row.tree(*slot);
                build_tree(&mut tree, value);
                tree.finish();
            }
        }
    }
    row.finish(ts)
}

/// The addresses that values of a slab may have.
pub fn range(slab: &mut Slab) -> Range<usize> {
    let parts = slab.raw_parts();
    parts.data as usize..parts.data as usize + parts.used
}

/// Reads a row completely; panics if a value lies outside `within`.
pub fn read(row: RowRef<'_>, within: &Range<usize>) -> Fields {
    (0..row.slots()).filter_map(|slot| Some((slot, own(row.get(slot), within)?))).collect()
}

fn inside(bytes: &[u8], within: &Range<usize>) {
    let start = bytes.as_ptr() as usize;
    assert!(within.start <= start && start + bytes.len() <= within.end, "outside of the slab");
    // Touches all of it.
    assert_eq!(bytes.iter().map(|byte| byte >> 7).filter(|bit| *bit > 1).count(), 0);
}

fn own(value: ValueRef<'_>, within: &Range<usize>) -> Option<Value> {
    let text = |text: &str| {
        inside(text.as_bytes(), within);
        assert!(str::from_utf8(text.as_bytes()).is_ok());
        text.to_owned()
    };
    Some(match value {
        ValueRef::Absent => return None,
        ValueRef::Null => Value::Null,
        ValueRef::Bool(value) => Value::Bool(value),
        ValueRef::Int(value) => Value::Int(value),
        ValueRef::Float(value) => Value::Float(value.to_bits()),
        ValueRef::Number(number) => Value::Number(text(number)),
        ValueRef::Str(value) => Value::Str(text(value)),
        ValueRef::Bytes(bytes) => {
            inside(bytes, within);
            Value::Bytes(bytes.to_vec())
        }
        ValueRef::List(list) => Value::List(list.iter().filter_map(|v| own(v, within)).collect()),
        ValueRef::Map(map) => {
            let entry = |(key, value)| Some((text(key), own(value, within)?));
            Value::Map(map.iter().filter_map(entry).collect())
        }
    })
}
