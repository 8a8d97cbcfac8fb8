//! Messages per second through the real operators, over rotating slabs of
//! 64 KiB: `cargo run --release -p ringmain-lua --example rates`.
//!
//! T1 filter on a number, T2 two fields with a text compared, T3 set a field,
//! T4 last value per key, T5 new text per message. Medians of seven rounds,
//! interleaved.

use std::time::Duration;

use ringmain_base::prng::{Prng, Xoshiro};
use ringmain_base::{Now, Reason};
use ringmain_lua::{Map, ScriptOptions};
use ringmain_ops::{Context, Operator, Refuse};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab};

const SLABS: usize = 16;
const FIELDS: [&str; 6] = ["device", "rpm", "temp", "ts", "status", "flags"];

struct Count(usize, String);

impl Refuse for Count {
    fn refuse(&mut self, _: RowRef<'_>, reason: Reason, detail: &str) {
        self.0 += 1;
        self.1 = format!("{reason:?} {detail}");
    }
}

fn fill(schema: &SharedSchema, rng: &mut Xoshiro, budget: &Budget, fill_bytes: usize) -> Slab {
    let mut slab = Slab::new(64 << 10, budget);
    let version = schema.snapshot().version();
    let mut scratch = Scratch::default();
    loop {
        let mut row = slab.build(version, version, &mut scratch);
        let device = format!("device-{:05}", rng.below(100));
        row.set_str(0, &device);
        row.set_float(1, rng.below(2000) as f64 / 10.0);
        row.set_float(2, rng.below(1000) as f64 / 10.0);
        row.set_int(3, 1_790_000_000_000_000);
        row.set_str(4, ["ok", "warn", "alarm"][rng.below(3) as usize]);
        row.set(5, Scalar::Bool(rng.below(2) == 0));
        if row.finish(0).is_err() || slab.used() > fill_bytes {
            return slab;
        }
    }
}

/// The thread's own time, because these machines are shared.
fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the one structure.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

struct Task {
    name: &'static str,
    operator: Box<dyn Operator>,
    rates: Vec<f64>,
}

fn round(task: &mut Task, sources: &[Slab], work: &mut [Slab]) {
    let (mut rows, mut spent) = (0, Duration::ZERO);
    let mut refused = Count(0, String::new());
    while spent < Duration::from_millis(60) {
        for (source, slab) in sources.iter().zip(&mut *work) {
            slab.clear();
            slab.push_all(source).expect("within the budget");
        }
        let start = cpu_time();
        for slab in &mut *work {
            rows += slab.len();
            let mut cx = Context { now: Now::default(), refuse: &mut refused, ports: &mut [] };
            task.operator.process(slab, &mut cx);
        }
        spent += cpu_time() - start;
    }
    assert!(refused.0 == 0 || task.name.starts_with("errors"), "{}: {}", task.name, refused.1);
    task.rates.push(rows as f64 / spent.as_secs_f64() / 1e6);
}

fn main() {
    let schema = SharedSchema::new();
    for name in FIELDS {
        schema.intern(name).expect("a slot");
    }
    let script = |source: &str| -> Box<dyn Operator> {
        ringmain_lua::script(source, "rates.lua", &ScriptOptions::default(), &schema)
            .expect("compiles")
    };
    let set = [("severity".to_owned(), "rpm > 100 and 'high' or severity".to_owned())];
    let map = Map { set: &set, ..Map::default() };
    let tasks: Vec<(&'static str, Box<dyn Operator>)> = vec![
        ("T1", script("return function(msg) if msg.rpm > 100 then return msg end end")),
        (
            "T2",
            script(
                "return function(msg) if msg.rpm > 50 and msg.status == 'alarm' then return msg end end",
            ),
        ),
        (
            "T3",
            script(
                "return function(msg) if msg.rpm > 100 then msg.severity = 'high' end return msg end",
            ),
        ),
        (
            "T4",
            script(
                "local last = {} return function(msg) local d, f = msg.device, msg.flags
                 if last[d] ~= f then last[d] = f return msg end end",
            ),
        ),
        (
            "T5",
            script(
                "local floor = math.floor return function(msg)
                 msg.label = msg.device .. ':' .. msg.status .. ':' .. floor(msg.rpm) return msg end",
            ),
        ),
        (
            "T5 put",
            script(
                "local floor = math.floor return function(msg)
                 msg:put('label', msg.device, ':', msg.status, ':', floor(msg.rpm)) return msg end",
            ),
        ),
        (
            "match",
            script(
                "return function(msg) if msg.device:match('^device%-(%d+)$') == '00042' then return msg end end",
            ),
        ),
        ("where rpm", ringmain_lua::filter("f", "rpm > 100", &schema).expect("compiles")),
        (
            "where and",
            ringmain_lua::filter("f", "rpm > 50 and status == 'alarm'", &schema).expect("compiles"),
        ),
        ("map set", ringmain_lua::map("m", &map, &schema).expect("compiles")),
        ("errors 1 %", script("return function(msg) if msg.temp < 1 then error('x') end return msg end")),
    ];
    let mut tasks: Vec<Task> = tasks
        .into_iter()
        .map(|(name, operator)| Task { name, operator, rates: Vec::new() })
        .collect();
    // An argument, in KiB: how full the slabs are. What scripts append goes
    // behind the rows, and a slab that must grow for it costs an allocation.
    let kib: usize =
        std::env::args().nth(1).map_or(40, |kib| kib.parse().expect("a number of KiB"));
    let fill_bytes = kib << 10;
    let mut rng = Xoshiro::new(7);
    let budget = Budget::new(64 << 20);
    // After the operators, as in a flow: rows have the slots that they write.
    let sources: Vec<Slab> =
        (0..SLABS).map(|_| fill(&schema, &mut rng, &budget, fill_bytes)).collect();
    let mut work: Vec<Slab> = (0..SLABS).map(|_| Slab::new(64 << 10, &budget)).collect();
    println!("{} rows in a slab", sources[0].len());
    // A second argument: only tasks whose names begin so.
    let only = std::env::args().nth(2).unwrap_or_default();
    tasks.retain(|task| task.name.starts_with(&only));
    for _ in 0..7 {
        for task in &mut tasks {
            round(task, &sources, &mut work);
        }
    }
    for task in &mut tasks {
        task.rates.sort_by(f64::total_cmp);
        println!("{:10} {:7.1} M msg/s", task.name, task.rates[task.rates.len() / 2]);
    }
}
