//! Lists that become messages.

use ringmain_base::Reason;
use ringmain_slab::{RowRef, Scalar, Slab, TreeBuilder, ValueRef};

use super::{Rig, names};
use crate::Operator;
use crate::native::keyed::{Quality, SeriesOptions, SplitOptions, TimeUnit, split, time_series};

/// A row with the list that `fill` makes in `v`.
fn push(rig: &mut Rig, fill: impl Fn(&mut TreeBuilder<'_, '_>)) {
    let mut scratch = ringmain_slab::Scratch::default();
    let _ = rig.slab.reserve(90_000);
    let mut row = rig.slab.build(3, 3, &mut scratch);
    row.set_str(0, "outer");
    row.set_int(2, 5);
    let mut tree = row.tree(1);
    assert!(tree.list());
    fill(&mut tree);
    tree.close();
    tree.finish();
    row.finish(77).unwrap();
    let last = rig.slab.len() - 1;
    rig.slab.edit(last).set_key_hash(99);
}

fn record(tree: &mut TreeBuilder<'_, '_>, fields: &[(&str, Scalar<'_>)]) {
    assert!(tree.map());
    for (name, value) in fields {
        tree.key(name);
        tree.scalar(*value);
    }
    tree.close();
}

fn run(rig: &mut Rig, operator: &mut dyn Operator) -> Vec<String> {
    let mut cx =
        crate::Context { now: rig.now, refuse: &mut rig.refused, ports: &mut rig.ports[..] };
    operator.process(&mut rig.slab, &mut cx);
    let shown = rig.slab.rows().map(|row| show(rig, row)).collect();
    assert!(rig.slab.rows().all(|row| row.header().key_hash.to_native() == 99));
    assert!(rig.slab.rows().all(|row| row.ts() == 77));
    rig.slab.clear();
    shown
}

fn show(rig: &Rig, row: RowRef<'_>) -> String {
    let schema = rig.schema.snapshot();
    let mut text = String::new();
    for slot in 0..row.slots().min(schema.version()) {
        if !matches!(row.get(slot), ValueRef::Absent) {
            text += &format!("{}={:?} ", schema.name(slot).unwrap_or("?"), row.get(slot));
        }
    }
    if let Some(rest) = row.rest() {
        text += &format!("rest={rest:?} ");
    }
    text.trim_end().to_owned()
}

const PLAIN: SplitOptions<'static> =
    SplitOptions { field: "v", into: None, index: None, keep: None };

#[test]
fn each_element_becomes_a_message_with_the_other_fields() {
    let mut rig = Rig::new();
    let mut operator = split(&SplitOptions { index: Some("i"), ..PLAIN }, &rig.schema).unwrap();
    push(&mut rig, |tree| {
        record(tree, &[("a", Scalar::Int(1)), ("id", Scalar::Str("inner"))]);
        tree.scalar(Scalar::Int(2));
        record(tree, &[("b", Scalar::Bool(true)), ("a", Scalar::Int(3))]);
    });
    push(&mut rig, |_| {});
    let expected = [
        "id=Str(\"inner\") n=Int(5) i=Int(0) a=Int(1)",
        "id=Str(\"outer\") v=Int(2) n=Int(5) i=Int(1)",
        "id=Str(\"outer\") n=Int(5) i=Int(2) a=Int(3) b=Bool(true)",
    ];
    assert_eq!(run(&mut rig, &mut *operator), expected);
    let options = SplitOptions { into: Some("part"), keep: Some(&names(&["n"])), ..PLAIN };
    let mut operator = split(&options, &rig.schema).unwrap();
    push(&mut rig, |tree| record(tree, &[("a", Scalar::Int(1))]));
    assert_eq!(run(&mut rig, &mut *operator), ["n=Int(5) part=Map({\"a\": Int(1)})"]);
}

#[test]
fn a_message_without_a_list_is_refused() {
    let mut rig = Rig::new();
    let mut operator = split(&PLAIN, &rig.schema).unwrap();
    rig.push(Scalar::Str("a"), Scalar::Int(1));
    rig.push(Scalar::Str("a"), Scalar::Absent);
    assert!(rig.run(&mut *operator).is_empty());
    let why = ["'v' is no list: Int(1)", "the message has no 'v'"];
    assert_eq!(rig.refused.0, why.map(|why| (Reason::Field, why.to_owned())));
}

#[test]
fn fields_that_find_no_slot_go_to_the_rest() {
    let mut rig = Rig::new();
    for n in 0..60 {
        rig.schema.intern(&format!("f{n}")).unwrap();
    }
    let mut operator = split(&PLAIN, &rig.schema).unwrap();
    push(&mut rig, |tree| {
        let names: Vec<String> = (0..4).map(|n| format!("x{n}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), Scalar::Int(1))).collect();
        record(tree, &fields);
    });
    let expected = "id=Str(\"outer\") n=Int(5) x0=Int(1) rest={\"x1\": Int(1), \"x2\": Int(1), \"x3\": Int(1)}";
    assert_eq!(run(&mut rig, &mut *operator), [expected]);
}

#[test]
fn a_list_that_is_too_large_for_memory_is_refused_whole() {
    let mut rig = Rig::new();
    let budget = ringmain_slab::Budget::new(200_000);
    rig.slab = Slab::new(1 << 16, &budget);
    let mut operator = split(&PLAIN, &rig.schema).unwrap();
    push(&mut rig, |tree| (0..100).for_each(|n| tree.scalar(Scalar::Int(n))));
    push(&mut rig, |tree| (0..5_000).for_each(|n| tree.scalar(Scalar::Int(n))));
    push(&mut rig, |tree| (0..7).for_each(|n| tree.scalar(Scalar::Int(n))));
    assert_eq!(run(&mut rig, &mut *operator).len(), 107);
    assert_eq!((rig.refused.0.len(), rig.refused.0[0].0), (1, Reason::Memory));
}

#[test]
fn records_of_a_time_series_become_messages_and_a_bad_one_is_refused_alone() {
    for (quality, second) in [
        (
            Quality::Keep,
            "id=Str(\"outer\") n=Int(5) t=Int(1528369560000) \
             rpm=Int(7) _time=Str(\"2018-06-07T11:06:00Z\") rpm_qc=Int(64) temp=Int(8)",
        ),
        (
            Quality::Remove,
            "id=Str(\"outer\") n=Int(5) t=Int(1528369560000) \
             rpm=Int(7) _time=Str(\"2018-06-07T11:06:00Z\") temp=Int(8)",
        ),
        (
            Quality::Good,
            "id=Str(\"outer\") n=Int(5) t=Int(1528369560000) \
             _time=Str(\"2018-06-07T11:06:00Z\") temp=Int(8)",
        ),
    ] {
        let mut rig = Rig::new();
        let options = SeriesOptions {
            field: "v",
            time_field: "_time",
            timestamp: Some("t"),
            unit: TimeUnit::Millis,
            suffix: "_qc",
            quality,
        };
        let mut operator = time_series(&options, &rig.schema).unwrap();
        push(&mut rig, |tree| {
            record(tree, &[("rpm", Scalar::Int(1))]);
            record(
                tree,
                &[
                    ("_time", Scalar::Str("2018-06-07T11:06:00Z")),
                    ("rpm", Scalar::Int(7)),
                    ("rpm_qc", Scalar::Int(64)),
                    ("temp", Scalar::Int(8)),
                ],
            );
            tree.scalar(Scalar::Int(3));
            record(tree, &[("_time", Scalar::Str("noon"))]);
        });
        assert_eq!(run(&mut rig, &mut *operator), [second]);
        let why = [
            "record 0 has no '_time', its time",
            "record 2 is no object",
            "'_time' of record 3 is no time: Str(\"noon\")",
        ];
        assert_eq!(rig.refused.0, why.map(|why| (Reason::Field, why.to_owned())));
    }
}
