use std::collections::BTreeSet;

use ringmain_base::Now;
use ringmain_config::Spanned;
use ringmain_config::plan::TimeUnit;
use ringmain_slab::{Budget, RowRef, ValueRef};

use super::*;
use crate::place::Claims;
use crate::testing::Bench;

fn plan(count: Option<u64>, rate: Option<u64>, fields: &[(&str, GenField)]) -> SourceKind {
    let fields = fields
        .iter()
        .map(|(name, field)| (Spanned::new((*name).to_owned(), Default::default()), field.clone()))
        .collect();
    SourceKind::Generator { count, rate, fields, size_bytes: None, seed: 7 }
}

fn int(row: RowRef<'_>, slot: u16) -> i64 {
    match row.get(slot) {
        ValueRef::Int(value) => value,
        other => panic!("{other:?} is no integer"),
    }
}

/// Polls until the end and hands every row to `each`.
fn drain(source: &mut Generator, mut each: impl FnMut(RowRef<'_>)) -> u64 {
    let mut bench = Bench::new();
    let mut slab = Slab::new(4_096, &Budget::new(1 << 20));
    let mut rows = 0;
    loop {
        slab.clear();
        let pull = source.poll(&mut slab, &mut bench.cx(Now { mono_us: 0, wall_us: 5_000_000 }));
        rows += slab.len() as u64;
        slab.rows().for_each(&mut each);
        if pull == Pull::Ended {
            return rows;
        }
    }
}

#[test]
fn exactly_the_count_is_made_over_all_shards_and_no_sequence_number_twice() {
    for (count, shards) in [(1_000, 1), (1_000, 3), (2, 4), (0, 2)] {
        let kind = plan(Some(count), None, &[("n", GenField::Sequence { start: 10, step: 2 })]);
        let schema = SharedSchema::new();
        let mut seen = BTreeSet::new();
        for shard in 0..shards {
            let place = Placement::new(shard, shards, &Claims::default());
            let mut source = Generator::new(&kind, &schema, &place).unwrap();
            drain(&mut source, |row| assert!(seen.insert(int(row, 0))));
        }
        let want: BTreeSet<i64> = (0..count as i64).map(|n| 10 + 2 * n).collect();
        assert_eq!(seen, want, "{count} over {shards}");
    }
}

#[test]
fn the_same_seed_makes_the_same_messages() {
    let fields = [
        ("i", GenField::Int { min: -5, max: 5 }),
        ("f", GenField::Float { min: 0.0, max: 100.0, decimals: 1 }),
        ("b", GenField::Bool { probability: 0.5 }),
        ("s", GenField::String { length: 9 }),
        ("n", GenField::Name { prefix: "motor-".into(), count: 50, digits: 4 }),
        ("c", GenField::Choice { values: vec![Scalar::String("a".into()), Scalar::Integer(1)] }),
        ("t", GenField::Timestamp { unit: TimeUnit::S }),
    ];
    let run = || {
        let kind = plan(Some(300), None, &fields);
        let mut source = Generator::new(&kind, &SharedSchema::new(), &Placement::alone()).unwrap();
        let mut rows = Vec::new();
        drain(&mut source, |row| rows.push(format!("{row:?}")));
        rows
    };
    let first = run();
    assert_eq!(first.len(), 300);
    assert_eq!(first, run());
    assert!(first.iter().all(|row| row.ends_with("Int(5)]")), "{}", first[0]);
}

#[test]
fn values_stay_in_their_bounds() {
    let fields = [
        ("i", GenField::Int { min: -2, max: 2 }),
        ("f", GenField::Float { min: 1.0, max: 1.5, decimals: 2 }),
        ("n", GenField::Name { prefix: "m".into(), count: 3, digits: 1 }),
        ("no", GenField::Bool { probability: 0.0 }),
        ("yes", GenField::Bool { probability: 1.0 }),
    ];
    let kind = plan(Some(500), None, &fields);
    let mut source = Generator::new(&kind, &SharedSchema::new(), &Placement::alone()).unwrap();
    let rows = drain(&mut source, |row| {
        assert!((-2..=2).contains(&int(row, 0)));
        let ValueRef::Float(float) = row.get(1) else { panic!("no float") };
        assert!((1.0..=1.5).contains(&float) && format!("{float}").len() <= 4, "{float}");
        assert!(matches!(row.get(2), ValueRef::Str("m0" | "m1" | "m2")));
        assert!(matches!(row.get(3), ValueRef::Bool(false)));
        assert!(matches!(row.get(4), ValueRef::Bool(true)));
    });
    assert_eq!(rows, 500);
}

#[test]
fn a_size_pads_the_message() {
    let mut kind = plan(Some(1), None, &[("n", GenField::Sequence { start: 0, step: 1 })]);
    if let SourceKind::Generator { size_bytes, .. } = &mut kind {
        *size_bytes = Some(20_000);
    }
    let mut source = Generator::new(&kind, &SharedSchema::new(), &Placement::alone()).unwrap();
    let mut pad = 0;
    assert_eq!(
        drain(&mut source, |row| match row.get(1) {
            ValueRef::Str(text) => pad = text.len(),
            other => panic!("{other:?}"),
        }),
        1
    );
    assert!((19_900..20_000).contains(&pad), "{pad}");
}

#[test]
fn a_message_that_no_slab_holds_is_refused_and_counted() {
    let kind = plan(Some(3), None, &[("s", GenField::String { length: 1 << 20 })]);
    let mut source = Generator::new(&kind, &SharedSchema::new(), &Placement::alone()).unwrap();
    let mut bench = Bench::new();
    let mut slab = Slab::new(4_096, &Budget::new(0));
    while source.poll(&mut slab, &mut bench.cx(Now::default())) != Pull::Ended {}
    assert_eq!(bench.refused.len(), 3);
    assert!(slab.is_empty());
}

#[test]
fn a_rate_is_kept_and_announced() {
    let kind = plan(None, Some(10), &[("n", GenField::Sequence { start: 0, step: 1 })]);
    let mut source = Generator::new(&kind, &SharedSchema::new(), &Placement::alone()).unwrap();
    let mut bench = Bench::new();
    let mut slab = Slab::new(4_096, &Budget::new(0));
    let mut now_us = 0;
    for message in 1..=20 {
        assert_eq!(
            source.poll(&mut slab, &mut bench.cx(Now { mono_us: now_us, wall_us: 0 })),
            Pull::More
        );
        assert_eq!(slab.len(), message);
        assert_eq!(
            source.poll(&mut slab, &mut bench.cx(Now { mono_us: now_us, wall_us: 0 })),
            Pull::Idle
        );
        now_us = source.wake_at_us().unwrap();
    }
    assert_eq!(now_us, 2_000_000);
}

#[test]
fn a_stopped_generator_ends_at_once() {
    let kind = plan(None, None, &[]);
    let mut source = Generator::new(&kind, &SharedSchema::new(), &Placement::alone()).unwrap();
    let mut bench = Bench::new();
    source.stop(&mut bench.cx(Now::default()));
    let mut slab = Slab::new(4_096, &Budget::new(0));
    assert_eq!(source.poll(&mut slab, &mut bench.cx(Now::default())), Pull::Ended);
}

/// `cargo test --release -p ringmain-connectors speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a promise"]
fn speed_of_rows() {
    let sequence = ("seq", GenField::Sequence { start: 0, step: 1 });
    let text = |text: &str| Scalar::String(text.into());
    let five = [
        ("ts", GenField::Timestamp { unit: TimeUnit::Us }),
        ("device", GenField::Name { prefix: "motor-".into(), count: 1_000, digits: 4 }),
        ("rpm", GenField::Float { min: 0.0, max: 200.0, decimals: 1 }),
        sequence.clone(),
        ("state", GenField::Choice { values: vec![text("on"), text("off")] }),
    ];
    let numbers: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|name| (name, GenField::Int { min: 0, max: 200 })).into();
    for (name, fields) in [
        ("sequence", std::slice::from_ref(&sequence)),
        ("five integers", &numbers),
        ("time, name, float, sequence, choice", &five),
    ] {
        let kind = plan(Some(20_000_000), None, fields);
        let mut source = Generator::new(&kind, &SharedSchema::new(), &Placement::alone()).unwrap();
        let mut bench = Bench::new();
        let mut slab = Slab::new(65_536, &Budget::new(1 << 20));
        let (start, mut rows) = (std::time::Instant::now(), 0);
        while source.poll(&mut slab, &mut bench.cx(Now::default())) != Pull::Ended {
            rows += slab.len();
            slab.clear();
        }
        println!("{name}: {:.1} ns per row", start.elapsed().as_nanos() as f64 / rows as f64);
    }
}
