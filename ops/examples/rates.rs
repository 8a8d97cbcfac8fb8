//! What the native operators cost per row: `cargo run --release -p
//! ringmain-ops --example rates [PART OF A NAME]`.

use std::hint::black_box;
use std::time::Instant;

use ringmain_base::{Now, Reason};
use ringmain_ops::{Context, Operator, Refuse, native};
use ringmain_slab::{Budget, RowRef, Scratch, SharedSchema, Slab};

struct Ignore;

impl Refuse for Ignore {
    fn refuse(&mut self, row: RowRef<'_>, _: Reason, detail: &str) {
        black_box((row.ts(), detail));
    }
}

const FIELDS: u16 = 4;

fn fill(slab: &mut Slab, scratch: &mut Scratch) {
    let mut n = 0u64;
    while slab.room() > 1024 {
        let mut row = slab.build(FIELDS, FIELDS, scratch);
        row.set_str(0, "m1");
        // Every other row passes `rpm > 100`, in no order to be predicted.
        row.set_int(1, ((n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) * 13) as i64);
        row.set_float(2, n as f64 * 0.25);
        if row.finish(0).is_err() {
            break;
        }
        n += 1;
    }
}

/// Nanoseconds per row, fastest of several runs: filling, and what the
/// operators add.
fn measure(operators: &mut [Box<dyn Operator>]) -> (f64, f64) {
    const ROUNDS: u32 = 2_000;
    let mut slab = Slab::new(64 << 10, &Budget::new(0));
    let mut scratch = Scratch::default();
    let now = Now { mono_us: 0, wall_us: 0 };
    let mut best = [f64::MAX; 2];
    for _ in 0..7 {
        for (with, best) in best.iter_mut().enumerate() {
            let mut rows = 0;
            let start = Instant::now();
            for _ in 0..ROUNDS {
                slab.clear();
                fill(&mut slab, &mut scratch);
                rows += slab.len();
                for operator in operators.iter_mut().filter(|_| with == 1) {
                    let mut cx = Context { now, refuse: &mut Ignore, ports: &mut [] };
                    operator.process(&mut slab, &mut cx);
                }
                black_box(slab.len());
            }
            *best = best.min(start.elapsed().as_secs_f64() * 1e9 / rows as f64);
        }
    }
    (best[0], best[1] - best[0])
}

fn main() {
    let schema = SharedSchema::new();
    for name in ["device", "rpm", "temp", "severity"] {
        schema.intern(name).expect("four fields have slots");
    }
    let filter = |expr| native::filter("f", expr, &schema).expect("a native form");
    let set = |expr: &str| {
        let set = [("severity".to_owned(), expr.to_owned())];
        native::map("m", &set, &[], &[], &[], &schema).expect("a native form")
    };
    println!("{:46} {:>10} {:>10}", "ns per row that comes in", "fill", "operators");
    let cases: Vec<(&str, Vec<Box<dyn Operator>>)> = vec![
        ("rpm > 100", vec![filter("rpm > 100")]),
        ("device == 'm1'", vec![filter("device == 'm1'")]),
        ("rpm > 100 and device ~= 'm2'", vec![filter("rpm > 100 and device ~= 'm2'")]),
        ("rpm * 2 > temp", vec![filter("rpm * 2 > temp")]),
        ("severity = 'high'", vec![set("'high'")]),
        ("severity = temp * 1.8 + 32", vec![set("temp * 1.8 + 32")]),
        ("severity = temp", vec![set("temp")]),
        ("severity = rpm > 100 and 'high' or 'low'", vec![set("rpm > 100 and 'high' or 'low'")]),
        ("severity = device .. '-' .. rpm", vec![set("device .. '-' .. rpm")]),
        ("rpm > 100, severity = 'high'", vec![filter("rpm > 100"), set("'high'")]),
        (
            "rpm > 100, severity = temp * 1.8 + 32",
            vec![filter("rpm > 100"), set("temp * 1.8 + 32")],
        ),
    ];
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, mut operators) in cases.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let (fill, extra) = measure(&mut operators);
        println!("{name:46} {fill:10.2} {extra:10.2}");
    }
}
