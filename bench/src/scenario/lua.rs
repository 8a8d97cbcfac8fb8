//! The five scripts that Lua over rows is judged by, each beside Rust written
//! by hand over the same rows in the same round, and beside the same script
//! that gets a table per message.
//!
//! T1 filter on a number; T2 two fields, one a text compared; T3 set a field;
//! T4 last value per key; T5 a new text per message, with `..` and with
//! `msg:put`. Slabs are filled to 40 of
//! 64 KiB, so that what scripts append has room. Only `process` is measured:
//! the copy that gives a script fresh rows is not.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

use ringmain_base::{Now, Prng, Reason, Xoshiro};
use ringmain_lua::ScriptOptions;
use ringmain_ops::{Context, Operator, Refuse};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab, ValueRef};

use super::Round;
use super::lua_tables::PerTable;
use crate::measure::{Amount, Env, Timed, Wrong, mix, mix_bytes, on_core, thread_cpu_s, verify};
use crate::report::Figure;

const SLABS: usize = 16;
const SLAB_BYTES: usize = 64 << 10;
const FILL_BYTES: usize = 40 << 10;

const FIELDS: [&str; 8] = ["device", "rpm", "temp", "ts", "status", "flags", "severity", "label"];
const DEVICE: u16 = 0;
const RPM: u16 = 1;
const STATUS: u16 = 4;
const FLAGS: u16 = 5;
const SEVERITY: u16 = 6;
const LABEL: u16 = 7;

/// One script, what it costs by hand, and what the prototype's cursor reached.
struct Task {
    script: &'static str,
    /// The same without what a table has not; its target in M msg/s.
    put: Option<(&'static str, f64)>,
    by_hand: fn() -> ByHand,
    prototype: f64,
    /// Part of the prototype's figure that is the target.
    target: Option<f64>,
}

type ByHand = Box<dyn FnMut(&mut Slab)>;

const PART: f64 = 0.7;

const T1: Task = Task {
    script: "return function(msg) if msg.rpm > 100 then return msg end end",
    put: None,
    by_hand: || Box::new(|slab| slab.retain(|row| rpm(row) > 100.0)),
    prototype: 82.0,
    target: Some(PART),
};

const T2: Task = Task {
    script: "return function(msg)
  if msg.rpm > 50 and msg.status == 'alarm' then return msg end
end",
    put: None,
    by_hand: || Box::new(|slab| slab.retain(|row| rpm(row) > 50.0 && text(row, STATUS) == "alarm")),
    prototype: 60.0,
    target: Some(PART),
};

const T3: Task = Task {
    script: "return function(msg)
  if msg.rpm > 100 then msg.severity = 'high' end
  return msg
end",
    put: None,
    by_hand: || Box::new(set_by_hand),
    prototype: 87.0,
    target: Some(PART),
};

const T4: Task = Task {
    script: "local last = {}
return function(msg)
  local device, flags = msg.device, msg.flags
  if last[device] ~= flags then last[device] = flags return msg end
end",
    put: None,
    by_hand: || {
        let mut last: HashMap<String, bool, BuildHasherDefault<Fold>> = HashMap::default();
        Box::new(move |slab| {
            slab.retain(|row| {
                let device = text(row, DEVICE);
                let flags = matches!(row.get(FLAGS), ValueRef::Bool(true));
                match last.get_mut(device) {
                    Some(last) => std::mem::replace(last, flags) != flags,
                    None => last.insert(device.to_owned(), flags).is_none(),
                }
            });
        })
    },
    prototype: 31.0,
    target: Some(PART),
};

const T5: Task = Task {
    script: "local floor = math.floor
return function(msg)
  msg.label = msg.device .. ':' .. msg.status .. ':' .. floor(msg.rpm)
  return msg
end",
    put: Some((
        "local floor = math.floor
return function(msg)
  msg:put('label', msg.device, ':', msg.status, ':', floor(msg.rpm))
  return msg
end",
        12.0,
    )),
    by_hand: || {
        let mut label = String::new();
        Box::new(move |slab| label_by_hand(slab, &mut label))
    },
    prototype: 8.4,
    target: None,
};

pub(super) fn prepare_t1(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(T1))
}

pub(super) fn prepare_t2(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(T2))
}

pub(super) fn prepare_t3(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(T3))
}

pub(super) fn prepare_t4(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(T4))
}

pub(super) fn prepare_t5(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(T5))
}

fn prepare(task: Task) -> Round {
    Box::new(move |env| {
        let core = env.cores.first().copied();
        let (lua, lua_hash) = on_core(core, || lua(task.script, env.amount))?;
        let (rust, rust_hash) = on_core(core, || by_hand(&task, env.amount))?;
        verify("hash of what came out of Lua", lua_hash, rust_hash)?;
        let mut figure = Figure::rate("Lua", lua.rate()).prototype(task.prototype);
        if let Some(part) = task.target {
            figure = figure.at_least(task.prototype * part);
        }
        let mut figures = vec![figure.proof(lua.messages, lua_hash)];
        if let Some((script, target)) = task.put {
            let (put, hash) = on_core(core, || self::lua(script, env.amount))?;
            verify("hash of what came out of msg:put", hash, rust_hash)?;
            let figure = Figure::rate("Lua, msg:put", put.rate()).at_least(target);
            figures.push(figure.proof(put.messages, hash));
        }
        let (tables, hash) = on_core(core, || tables(&task, env.amount))?;
        verify("hash of what came out of tables", hash, rust_hash)?;
        figures.extend([
            Figure::rate("Lua, a table per message", tables.rate()).proof(tables.messages, hash),
            Figure::rate("Rust by hand", rust.rate()).proof(rust.messages, rust_hash),
            Figure::new("  Lua / tables", lua.rate() / tables.rate(), "x"),
            Figure::new("  Lua / Rust", lua.rate() / rust.rate(), "x"),
        ]);
        Ok(figures)
    })
}

fn lua(script: &str, amount: Amount) -> Result<(Timed, u64), Wrong> {
    let schema = SharedSchema::new();
    for name in FIELDS {
        schema.intern(name).map_err(Wrong::fail)?;
    }
    let options = ScriptOptions::default();
    let script = ringmain_lua::script(script, "task.lua", &options, &schema);
    let mut script = script.map_err(Wrong::debug)?;
    let mut refused = Refused(None);
    let result = measure(amount, |slab| {
        let now = Now::default();
        script.process(slab, &mut Context { now, refuse: &mut refused, ports: &mut [] });
    })?;
    verify("a message that was refused", refused.0, None)?;
    Ok(result)
}

fn tables(task: &Task, amount: Amount) -> Result<(Timed, u64), Wrong> {
    let mut script = PerTable::new(task.script, &FIELDS, SLAB_BYTES)?;
    let mut failed = None;
    let result = measure(amount, |slab| failed = script.process(slab).err().or(failed.take()))?;
    verify("a script that failed", failed.map(|error| error.to_string()), None)?;
    Ok(result)
}

fn by_hand(task: &Task, amount: Amount) -> Result<(Timed, u64), Wrong> {
    measure(amount, (task.by_hand)())
}

/// The hash is of what the first lap leaves, when there is no state yet; and of
/// how many rows the second one leaves, which every later one has to leave too.
fn measure(amount: Amount, process: impl FnMut(&mut Slab)) -> Result<(Timed, u64), Wrong> {
    let mut laps = Laps::new(process);
    let mut warm_up = Timed::default();
    laps.run(&mut warm_up);
    let hash = laps.work.iter().flat_map(Slab::rows).fold(0, digest);
    let steady = laps.run(&mut warm_up);
    let enough = |timed: &Timed, part: f64| match amount {
        Amount::Seconds(seconds) => timed.cpu_s >= seconds * part,
        Amount::Messages(count) => timed.messages >= count,
    };
    while !enough(&warm_up, 0.2) {
        laps.run(&mut warm_up);
    }
    let mut timed = Timed::default();
    while !enough(&timed, 1.0) {
        verify("rows that a lap leaves", laps.run(&mut timed), steady)?;
    }
    Ok((timed, mix(hash, steady as u64)))
}

struct Laps<F> {
    sources: Vec<Slab>,
    work: Vec<Slab>,
    process: F,
}

impl<F: FnMut(&mut Slab)> Laps<F> {
    fn new(process: F) -> Self {
        let sources = sources();
        let budget = Budget::new(64 << 20);
        let work = sources.iter().map(|_| Slab::new(SLAB_BYTES, &budget)).collect();
        Self { sources, work, process }
    }

    /// Processes all rows; how many are left.
    fn run(&mut self, timed: &mut Timed) -> usize {
        for (slab, source) in self.work.iter_mut().zip(&self.sources) {
            slab.clear();
            slab.push_all(source).expect("the budget is wide");
            timed.messages += slab.len() as u64;
        }
        let start = thread_cpu_s();
        self.work.iter_mut().for_each(&mut self.process);
        timed.cpu_s += thread_cpu_s() - start;
        self.work.iter().map(Slab::len).sum()
    }
}

fn digest(hash: u64, row: RowRef<'_>) -> u64 {
    let fields = [DEVICE, SEVERITY, LABEL].map(|slot| text(row, slot));
    let hash = fields.iter().fold(hash, |hash, text| mix_bytes(hash, text.as_bytes()));
    mix(hash, rpm(row).to_bits())
}

fn sources() -> Vec<Slab> {
    let mut rng = Xoshiro::new(7);
    let budget = Budget::new(64 << 20);
    (0..SLABS).map(|_| source(&mut rng, &budget)).collect()
}

fn source(rng: &mut Xoshiro, budget: &Budget) -> Slab {
    let mut slab = Slab::new(SLAB_BYTES, budget);
    let mut scratch = Scratch::default();
    let slots = FIELDS.len() as u16;
    while slab.used() < FILL_BYTES {
        let mut row = slab.build(slots, slots, &mut scratch);
        row.set_str(DEVICE, &format!("device-{:05}", rng.below(100)));
        row.set_float(RPM, rng.below(2000) as f64 / 10.0);
        row.set_float(2, rng.below(1000) as f64 / 10.0);
        row.set_int(3, 1_790_000_000_000_000);
        row.set_str(STATUS, ["ok", "warn", "alarm"][rng.below(3) as usize]);
        row.set(FLAGS, Scalar::Bool(rng.below(2) == 0));
        row.finish(0).expect("there is room behind what is filled");
    }
    slab
}

fn rpm(row: RowRef<'_>) -> f64 {
    row.number(RPM).unwrap_or(f64::NAN)
}

fn text(row: RowRef<'_>, slot: u16) -> &str {
    match row.get(slot) {
        ValueRef::Str(text) => text,
        _ => "",
    }
}

fn set_by_hand(slab: &mut Slab) {
    let high = slab.intern("high").expect("the budget is wide");
    for at in 0..slab.len() {
        if rpm(slab.row(at)) > 100.0 {
            slab.edit(at).set_shared(SEVERITY, high).expect("the budget is wide");
        }
    }
}

fn label_by_hand(slab: &mut Slab, label: &mut String) {
    for at in 0..slab.len() {
        let row = slab.row(at);
        label.clear();
        let (device, status, rpm) = (text(row, DEVICE), text(row, STATUS), rpm(row).floor());
        write!(label, "{device}:{status}:{rpm}").expect("a string takes everything");
        slab.edit(at).set(LABEL, Scalar::Str(label)).expect("the budget is wide");
    }
}

/// Hashes short keys well enough.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = mix_bytes(self.0, bytes);
    }
}

struct Refused(Option<String>);

impl Refuse for Refused {
    fn refuse(&mut self, _: RowRef<'_>, reason: Reason, detail: &str) {
        self.0 = Some(format!("{reason:?}: {detail}"));
    }
}
