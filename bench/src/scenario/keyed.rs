//! Operators by key: rows made up, each with one of 1,000 or of 1,000,000 keys,
//! through one operator.
//!
//! Measured: making the rows (shown alone), the operator, its table. Every key
//! is known before the clock runs. Not measured: the chain, queues, I/O. What
//! the operator keeps is compared with a model that is a plain map.

use std::collections::HashMap;

use ringmain_base::{Now, Reason};
use ringmain_ops::native::keyed::{self, ByKey, Clock, Limit, Over};
use ringmain_ops::{Context, Operator, Refuse};
use ringmain_slab::{Budget, RowRef, Scratch, SharedSchema, Slab, ValueRef};

use super::Round;
use crate::measure::{Amount, Env, Timed, Wrong, laps, on_core, verify};
use crate::report::Figure;

const SLAB_BYTES: usize = 64 << 10;
const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;
const FEW_TARGET_M_PER_S: f64 = 5.0;
const MANY_TARGET_M_PER_S: f64 = 2.0;
/// Slabs of one lap.
const SLABS: usize = 256;
const MINUTE_US: u64 = 60_000_000;

#[derive(Clone, Copy)]
enum Kind {
    Sample,
    Throttle,
    Change,
}

const KINDS: [(Kind, &str); 3] =
    [(Kind::Sample, "sample"), (Kind::Throttle, "throttle"), (Kind::Change, "change_detector")];

pub(super) fn prepare(_: &Env) -> Result<Round, Wrong> {
    for (kind, name) in KINDS {
        prove(kind, name)?;
    }
    Ok(Box::new(|env| {
        let core = env.cores.first().copied();
        let mut figures = Vec::new();
        // A trial run of a few messages is not to take a million keys.
        let many = if matches!(env.amount, Amount::Messages(_)) { MANY / 50 } else { MANY };
        for (keys, shown, target) in
            [(FEW, "1,000 keys", FEW_TARGET_M_PER_S), (many, "1 M keys", MANY_TARGET_M_PER_S)]
        {
            let alone = on_core(core, || alone(env, keys))?;
            figures.push(Figure::rate(format!("rows alone, {shown}"), alone));
            for (kind, name) in KINDS {
                let (timed, bytes) = on_core(core, || measured(env, kind, keys))?;
                let figure =
                    Figure::rate(format!("{name}, {shown}"), timed.rate()).at_least(target);
                figures.push(figure.proof(timed.messages, keys));
                if keys == many {
                    figures.push(Figure::new(format!("  {name}: RSS per key"), bytes, "B"));
                    let bound = bound(kind) as f64;
                    figures.push(Figure::new(format!("  {name}: bound per key"), bound, "B"));
                }
            }
        }
        Ok(figures)
    }))
}

fn bound(kind: Kind) -> u64 {
    match kind {
        Kind::Sample => keyed::SAMPLE_KEY_BYTES,
        Kind::Throttle => keyed::THROTTLE_KEY_BYTES,
        Kind::Change => keyed::change_key_bytes(1, false),
    }
}

/// Rows of which the key and the value follow from their number.
struct Rows {
    keys: u64,
    state: u64,
    scratch: Scratch,
}

impl Rows {
    fn new(keys: u64) -> Self {
        Self { keys, state: 1, scratch: Scratch::default() }
    }

    /// The next key, in no order that a cache could like.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.state >> 33) * self.keys) >> 31
    }

    fn push(&mut self, slab: &mut Slab, key: u64, value: i64) -> bool {
        let mut name = *b"motor-0000000";
        let mut rest = key;
        for digit in name[6..].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        let name = str::from_utf8(&name).expect("digits are UTF-8");
        let mut row = slab.build(2, 2, &mut self.scratch);
        row.set_str(0, name);
        row.set_int(1, value);
        row.finish(0).is_ok()
    }

    fn fill(&mut self, slab: &mut Slab) {
        slab.clear();
        loop {
            let key = self.next();
            if !self.push(slab, key, (self.state >> 62) as i64) {
                return;
            }
        }
    }
}

struct Ignore(u64);

impl Refuse for Ignore {
    fn refuse(&mut self, _: RowRef<'_>, _: Reason, _: &str) {
        self.0 += 1;
    }
}

fn operator(kind: Kind, keys: u64) -> Result<Box<dyn Operator>, Wrong> {
    let schema = SharedSchema::new();
    let key = ["device".to_owned()];
    let by =
        ByKey { key: &key, partitions: 64, max_keys: keys as usize, ttl_us: None, schema: &schema };
    let limit = Limit { rate: 2.0, per_us: MINUTE_US, burst: 2 };
    let made = match kind {
        Kind::Sample => keyed::sample(&by, MINUTE_US, &Clock::Server),
        Kind::Throttle => keyed::throttle(&by, limit, HashMap::new(), Over::Drop),
        Kind::Change => keyed::change_detector(&by, &["value".to_owned()], true, None),
    };
    made.map_err(Wrong::fail)
}

fn run(operator: &mut dyn Operator, slab: &mut Slab, now: Now) -> Result<(), Wrong> {
    let mut refused = Ignore(0);
    operator.process(slab, &mut Context { now, refuse: &mut refused, ports: &mut [] });
    verify("refused rows", refused.0, 0)
}

fn alone(env: &Env, keys: u64) -> Result<f64, Wrong> {
    let (mut rows, mut slab) = (Rows::new(keys), Slab::new(SLAB_BYTES, &Budget::new(0)));
    let timed = laps(env.amount, || {
        let mut made = 0;
        for _ in 0..SLABS {
            rows.fill(&mut slab);
            made += slab.len() as u64;
        }
        Ok(made)
    })?;
    Ok(timed.rate())
}

/// The rate, and the memory that the keys took.
fn measured(env: &Env, kind: Kind, keys: u64) -> Result<(Timed, f64), Wrong> {
    let (mut rows, mut slab) = (Rows::new(keys), Slab::new(SLAB_BYTES, &Budget::new(0)));
    let before = resident_bytes()?;
    let mut operator = operator(kind, keys)?;
    let mut now = Now { mono_us: 1, wall_us: 1_700_000_000_000_000 };
    let mut key = 0;
    while key < keys {
        slab.clear();
        while key < keys && rows.push(&mut slab, key, 0) {
            key += 1;
        }
        run(&mut *operator, &mut slab, now)?;
    }
    let bytes = resident_bytes()?.saturating_sub(before) as f64 / keys as f64;
    let known = operator.tally().map_or(0, |tally| tally.keys);
    verify("keys that are known", known, keys)?;
    let timed = laps(env.amount, || {
        let mut seen = 0;
        for _ in 0..SLABS {
            rows.fill(&mut slab);
            seen += slab.len() as u64;
            now.mono_us += 100;
            run(&mut *operator, &mut slab, now)?;
        }
        Ok(seen)
    })?;
    verify("keys that were evicted", operator.tally().map_or(0, |tally| tally.evicted), 0)?;
    Ok((timed, bytes))
}

fn resident_bytes() -> Result<u64, Wrong> {
    const PAGE: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").map_err(Wrong::fail)?;
    let pages = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.unwrap_or(0) * PAGE)
}

/// What passes is what a map says.
fn prove(kind: Kind, name: &str) -> Result<(), Wrong> {
    const KEYS: u64 = 500;
    let (mut rows, mut slab) = (Rows::new(KEYS), Slab::new(SLAB_BYTES, &Budget::new(0)));
    let mut operator = operator(kind, KEYS)?;
    let mut model: HashMap<Vec<u8>, (u64, i64, u64)> = HashMap::new();
    let mut now = Now { mono_us: 1, wall_us: 1_700_000_000_000_000 };
    for _ in 0..200 {
        rows.fill(&mut slab);
        let mut must = 0;
        for row in slab.rows() {
            let (ValueRef::Str(device), ValueRef::Int(value)) = (row.get(0), row.get(1)) else {
                return Err(Wrong::fail("a row without its fields"));
            };
            let known = model.get(device.as_bytes()).copied();
            let passes = match (kind, known) {
                (_, None) => true,
                (Kind::Sample, Some((at, ..))) => now.mono_us - at >= MINUTE_US,
                (Kind::Change, Some((_, last, _))) => last != value,
                // Two at once, then one every half minute.
                (Kind::Throttle, Some((.., next))) => {
                    next.saturating_sub(MINUTE_US / 2) <= now.mono_us
                }
            };
            if passes {
                let next = known.map_or(now.mono_us, |(.., next)| next.max(now.mono_us));
                let state = (now.mono_us, value, next + MINUTE_US / 2);
                model.insert(device.as_bytes().to_vec(), state);
                must += 1;
            }
        }
        run(&mut *operator, &mut slab, now)?;
        verify(&format!("rows that {name} passes"), slab.len(), must)?;
        now.mono_us += MINUTE_US / 9;
    }
    Ok(())
}
