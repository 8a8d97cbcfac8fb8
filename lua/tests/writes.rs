//! Random writes of scripts against a model: the rows afterwards are what the
//! model says, whatever grew, moved or failed on the way.

mod common;

use std::collections::BTreeMap;

use common::{push, run};
use proptest::collection::vec;
use proptest::prelude::*;
use ringmain_base::Reason;
use ringmain_lua::{ScriptOptions, script};
use ringmain_slab::{Budget, Scalar, SharedSchema, Slab};

const NAMES: [&str; 6] = ["a", "b", "c", "d-e", "ü", "key"];

#[derive(Clone, Debug)]
enum Value {
    Nil,
    Bool(bool),
    Number(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<i32>),
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, Value),
    Copy(usize, usize),
    Put(usize, Vec<String>),
    Fail,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Nil),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => (-1000i32..1000).prop_map(|n| Value::Number(f64::from(n) / 4.0)),
        1 => any::<f64>().prop_filter("has a literal", |n| n.is_finite()).prop_map(Value::Number),
        3 => "[a-zü€]{0,40}".prop_map(Value::Text),
        1 => vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        1 => (100usize..3000).prop_map(|n| Value::Text("long".repeat(n / 4))),
        1 => vec(any::<i32>(), 1..5).prop_map(Value::List),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        6 => (name(), value()).prop_map(|(name, value)| Step::Set(name, value)),
        2 => (name(), name()).prop_map(|(from, to)| Step::Copy(from, to)),
        1 => (name(), vec("[a-z]{0,9}", 1..10)).prop_map(|(name, parts)| Step::Put(name, parts)),
        1 => Just(Step::Fail),
    ]
}

fn quote(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
    format!("'{escaped}'")
}

fn literal(value: &Value) -> String {
    match value {
        Value::Nil => "nil".into(),
        Value::Bool(v) => v.to_string(),
        Value::Number(v) => format!("{v:e}"),
        Value::Text(v) => quote(v.as_bytes()),
        Value::Bytes(v) => quote(v),
        Value::List(v) => {
            format!("{{ {} }}", v.iter().map(i32::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

fn shown(value: &Value) -> Option<String> {
    Some(match value {
        Value::Nil => return None,
        Value::Bool(v) => v.to_string(),
        Value::Number(v) => {
            let whole = *v as i64;
            let exact = (whole as f64).to_bits() == v.to_bits() && v.abs() < (1u64 << 53) as f64;
            if exact { whole.to_string() } else { format!("{v:?}") }
        }
        Value::Text(v) => format!("{v:?}"),
        Value::Bytes(v) => match str::from_utf8(v) {
            Ok(text) => format!("{text:?}"),
            Err(_) => format!("b{v:?}"),
        },
        Value::List(v) => {
            format!("[{}]", v.iter().map(i32::to_string).collect::<Vec<_>>().join(","))
        }
    })
}

type Row = BTreeMap<usize, String>;

/// The row after the steps, or nothing if they fail.
fn model(steps: &[Step], mut row: Row) -> Option<Row> {
    for step in steps {
        let (name, value) = match step {
            Step::Set(name, value) => (*name, shown(value)),
            Step::Copy(from, to) => (*to, row.get(from).cloned()),
            Step::Put(name, parts) => (*name, Some(format!("{:?}", parts.concat()))),
            Step::Fail => return None,
        };
        match value {
            Some(value) => row.insert(name, value),
            None => row.remove(&name),
        };
    }
    Some(row)
}

fn source(steps: &[Step]) -> String {
    let name = |at: &usize| quote(NAMES[*at].as_bytes());
    let line = |step: &Step| match step {
        Step::Set(at, value) => format!("msg[{}] = {}", name(at), literal(value)),
        Step::Copy(from, to) => format!("msg[{}] = msg:get({})", name(to), name(from)),
        Step::Put(at, parts) => {
            let parts: Vec<String> = parts.iter().map(|part| quote(part.as_bytes())).collect();
            format!("msg:put({}, {})", name(at), parts.join(", "))
        }
        Step::Fail => "error('failed')".into(),
    };
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn text(row: &Row, slots: &SharedSchema) -> String {
    let names = slots.snapshot();
    let mut fields: Vec<(u16, String)> = row
        .iter()
        .map(|(at, value)| {
            (names.slot(NAMES[*at]).unwrap_or(99), format!("{}={value}", NAMES[*at]))
        })
        .collect();
    fields.sort();
    let mut beyond: Vec<String> =
        fields.iter().filter(|f| f.0 == 99).map(|f| format!("+{}", f.1)).collect();
    beyond.sort();
    let mut parts: Vec<String> = fields.into_iter().filter(|f| f.0 != 99).map(|f| f.1).collect();
    parts.extend(beyond);
    parts.join(" ")
}

/// The fields beyond the slots, in any order.
fn sorted(row: &str) -> String {
    let mut parts: Vec<&str> = row.split(" +").collect();
    parts[1..].sort_unstable();
    parts.join(" +")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_what_the_model_says(
        programs in vec(vec(step(), 0..8), 1..4),
        messages in vec((0usize..4, 0..NAMES.len()), 1..12),
        known in 0..=NAMES.len(),
        slab_bytes in 4096usize..16384,
        wide in any::<bool>(),
    ) {
        let schema = SharedSchema::new();
        for name in &NAMES[..known] {
            schema.intern(name).unwrap();
        }
        let program = schema.intern("program").unwrap();
        if wide {
            // Leaves no slots: what is not known lives in the rest.
            for at in schema.snapshot().version()..64 {
                schema.intern(&format!("filler{at}")).unwrap();
            }
        }
        let mut slab = Slab::new(slab_bytes, &Budget::new(64 << 20));
        let mut expected = Vec::new();
        let mut dead = Vec::new();
        for (number, (which, field)) in messages.iter().enumerate() {
            let which = which % programs.len();
            let mut fields = vec![("program", Scalar::Int(which as i64))];
            let mut row = Row::new();
            let value = format!("v{number}");
            if *field < known {
                fields.push((NAMES[*field], Scalar::Str(&value)));
                row.insert(*field, format!("{value:?}"));
            }
            if slab.room() < 4000 {
                slab.reserve(8000).unwrap();
            }
            push(&mut slab, &schema, number as i64, &fields);
            match model(&programs[which], row.clone()) {
                Some(row) => expected.push((which, row)),
                None => dead.push((which, row)),
            }
        }
        let branches: Vec<String> = programs
            .iter()
            .enumerate()
            .map(|(at, steps)| format!("if p == {at} then\n{}\nend", source(steps)))
            .collect();
        let source = format!(
            "return function(msg) local p = msg.program\n{}\nreturn msg end",
            branches.join("\n")
        );
        let mut operator =
            script(&source, "p.lua", &ScriptOptions::default(), &schema).unwrap();
        let out = run(&mut *operator, &mut slab, &schema);
        let with_program = |(which, row): &(usize, Row)| {
            let text = text(row, &schema);
            let names = schema.snapshot();
            let before = row
                .keys()
                .filter(|at| names.slot(NAMES[**at]).is_some_and(|slot| slot < program))
                .count();
            let mut parts: Vec<String> = split_fields(&text);
            parts.insert(before, format!("program={which}"));
            sorted(&parts.join(" "))
        };
        let rows: Vec<String> = out.rows.iter().map(|row| sorted(row)).collect();
        prop_assert_eq!(rows, expected.iter().map(with_program).collect::<Vec<_>>());
        let letters: Vec<String> = out.dead.iter().map(|letter| sorted(&letter.0)).collect();
        prop_assert_eq!(letters, dead.iter().map(with_program).collect::<Vec<_>>());
        prop_assert!(out.dead.iter().all(|letter| letter.1 == Reason::Script));
    }
}

/// The fields of a shown row; no value of these tests has a blank in it except
/// between the elements of bytes.
fn split_fields(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(' ').filter(|part| !part.is_empty()) {
        match parts.last_mut() {
            Some(last) if !part.contains('=') || (last.contains("=b[") && !last.ends_with(']')) => {
                last.push(' ');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts
}
