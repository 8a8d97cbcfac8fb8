//! The operators alone: rows from the generator, or copied from slabs that
//! were built before, through a real chain to an exit that counts.
//!
//! A row has four slots and a text: 98 B. Half of the rows pass the filter.
//! Measured: making or copying the rows, the operators, the counters. Not
//! measured: threads, the shard's turn, queues, any sink.

use std::sync::Arc;

use ringmain_base::{Now, Reason};
use ringmain_config::{Plan, load_str};
use ringmain_connectors::{Cx, Placement, Pull, Refusals, Source, source};
use ringmain_lua::{Map, ScriptOptions};
use ringmain_metrics::{Cells, FlowMetrics, Role};
use ringmain_ops::chain::{Chain, Node, Outside, Target};
use ringmain_ops::{Operator, native};
use ringmain_runtime::MemoryIo;
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab, ValueRef};

use super::Round;
use crate::measure::{Env, Timed, Wrong, laps, mix, mix_bytes, on_core, verify};
use crate::report::Figure;

const SLAB_BYTES: usize = 64 << 10;
/// The seed of this project's predecessor: no I/O, 2.9 GHz.
const SEED_M_PER_S: f64 = 1.9;
const TARGET_M_PER_S: f64 = 60.0;
/// Hand-written Rust over rows in slabs.
const PROTOTYPE_M_PER_S: f64 = 92.0;
/// Prebuilt slabs: 1 MiB, so they stay in the second cache.
const PREBUILT: usize = 16;
/// Polls of the generator in a lap.
const POLLS: usize = 64;

const FLOW: &str = r#"
name = "chain"
[sources.in]
type = "generator"
seed = 7
[sources.in.fields]
ts = { type = "timestamp", unit = "ms" }
device = { type = "name", prefix = "motor-", count = 1000, digits = 4 }
rpm = { type = "float", min = 40, max = 160, decimals = 1 }
[sinks.out]
type = "blackhole"
inputs = ["in"]
"#;

const WHERE: &str = "rpm > 100";
const SCRIPT: &str = "return function(msg)
  if msg.rpm > 100 then msg.severity = 'high' return msg end
end";

#[derive(Clone, Copy)]
enum Form {
    Native,
    LuaExpressions,
    LuaScript,
}

const FORMS: [(Form, &str); 3] = [
    (Form::Native, "native expressions"),
    (Form::LuaExpressions, "Lua expressions"),
    (Form::LuaScript, "Lua script"),
];

pub(super) fn prepare(_: &Env) -> Result<Round, Wrong> {
    let plan = load_str("chain.toml", FLOW).map_err(Wrong::fail)?;
    Ok(Box::new(move |env| {
        let core = env.cores.first().copied();
        let alone = on_core(core, || generated_alone(env, &plan))?;
        let mut figures = vec![Figure::rate("generator alone", alone.rate())];
        for (form, name) in FORMS {
            let (timed, hash) = on_core(core, || generated(env, &plan, form))?;
            let figure = judged(form, Figure::rate(format!("generator, {name}"), timed.rate()));
            figures.push(figure.proof(timed.messages, hash));
            if matches!(form, Form::Native) {
                let times = timed.rate() / SEED_M_PER_S;
                figures.push(Figure::new("  times the seed's 1.9 M msg/s", times, "x"));
            }
        }
        let alone = on_core(core, || copied_alone(env, &plan))?;
        figures.push(Figure::rate("rows copied alone", alone.rate()));
        for (form, name) in FORMS {
            let (timed, hash) = on_core(core, || prebuilt(env, &plan, form))?;
            let figure = judged(form, Figure::rate(format!("rows copied, {name}"), timed.rate()));
            figures.push(figure.proof(timed.messages, hash));
        }
        Ok(figures)
    }))
}

/// The generator makes the rows of each lap.
fn generated(env: &Env, plan: &Plan, form: Form) -> Result<(Timed, u64), Wrong> {
    let mut rig = Rig::new(plan, form)?;
    let hash = rig.prove()?;
    let mut slab = Slab::new(SLAB_BYTES, &Budget::new(1 << 20));
    let timed = laps(env.amount, || {
        let before = rig.rows_in;
        for _ in 0..POLLS {
            rig.generate(&mut slab)?;
            rig.run(&mut slab);
        }
        Ok(rig.rows_in - before)
    })?;
    verify("rows that passed", rig.exit.rows, passing(plan, rig.rows_in)?)?;
    Ok((timed, hash))
}

/// The target is for the form that the daemon chooses for these expressions.
fn judged(form: Form, figure: Figure) -> Figure {
    let figure = figure.prototype(PROTOTYPE_M_PER_S);
    if matches!(form, Form::Native) { figure.at_least(TARGET_M_PER_S) } else { figure }
}

/// What of it is the generator.
fn generated_alone(env: &Env, plan: &Plan) -> Result<Timed, Wrong> {
    let mut rig = Rig::new(plan, Form::Native)?;
    let mut slab = Slab::new(SLAB_BYTES, &Budget::new(1 << 20));
    laps(env.amount, || {
        let before = rig.rows_in;
        for _ in 0..POLLS {
            slab.clear();
            rig.generate(&mut slab)?;
        }
        Ok(rig.rows_in - before)
    })
}

/// What of it is the copying.
fn copied_alone(env: &Env, plan: &Plan) -> Result<Timed, Wrong> {
    let sources = Rig::new(plan, Form::Native)?.prebuilt()?;
    let mut slab = Slab::new(SLAB_BYTES, &Budget::new(1 << 20));
    laps(env.amount, || {
        let mut rows = 0;
        for source in &sources {
            slab.clear();
            slab.push_all(source).map_err(Wrong::fail)?;
            rows += slab.len() as u64;
        }
        Ok(rows)
    })
}

/// The rows are made before and copied in each lap.
fn prebuilt(env: &Env, plan: &Plan, form: Form) -> Result<(Timed, u64), Wrong> {
    let mut rig = Rig::new(plan, form)?;
    let hash = rig.prove()?;
    let sources = rig.prebuilt()?;
    let rpm = rig.schema.snapshot().slot("rpm").expect("a field of the flow");
    let rows = sources.iter().flat_map(Slab::rows);
    let must = rows.filter(|row| row.number(rpm).is_some_and(|rpm| rpm > 100.0)).count() as u64;
    let mut slab = Slab::new(SLAB_BYTES, &Budget::new(1 << 20));
    let (mut ran, proven) = (0, rig.exit.rows);
    let timed = laps(env.amount, || {
        let mut rows = 0;
        for source in &sources {
            slab.push_all(source).map_err(Wrong::fail)?;
            rows += slab.len() as u64;
            rig.run(&mut slab);
        }
        ran += 1;
        Ok(rows)
    })?;
    verify("rows that passed", rig.exit.rows - proven, ran * must)?;
    Ok((timed, hash))
}

/// How many of the first rows of the generator pass, by reading them.
fn passing(plan: &Plan, rows: u64) -> Result<u64, Wrong> {
    let mut rig = Rig::new(plan, Form::Native)?;
    let rpm = rig.schema.snapshot().slot("rpm").expect("a field of the flow");
    let mut slab = Slab::new(SLAB_BYTES, &Budget::new(1 << 20));
    let mut passing = 0;
    while rig.rows_in < rows {
        rig.generate(&mut slab)?;
        passing += slab.rows().filter(|r| r.number(rpm).is_some_and(|v| v > 100.0)).count() as u64;
        slab.clear();
    }
    verify("rows made", rig.rows_in, rows)?;
    Ok(passing)
}

/// The generator and the chain, put together as a shard does it.
struct Rig {
    schema: SharedSchema,
    source: Box<dyn Source>,
    io: MemoryIo,
    chain: Chain,
    exit: Exit,
    rows_in: u64,
}

impl Rig {
    fn new(plan: &Plan, form: Form) -> Result<Self, Wrong> {
        let schema = SharedSchema::new();
        let operators = operators(form, &schema)?;
        let kind = &plan.flows[0].sources[0];
        let source = source(kind, &schema, &Placement::alone()).map_err(Wrong::fail)?;
        let chain = chain(operators);
        let io = MemoryIo::new(7);
        Ok(Self { schema, source, io, chain, exit: Exit::default(), rows_in: 0 })
    }

    fn generate(&mut self, slab: &mut Slab) -> Result<(), Wrong> {
        let (mut bytes, mut refusals) = (0, None);
        let mut cx = Cx {
            io: &mut self.io,
            now: Now::default(),
            owner: 0,
            refusals: &mut Refused(&mut refusals),
            bytes: &mut bytes,
        };
        let pull = self.source.poll(slab, &mut cx);
        self.rows_in += slab.len() as u64;
        verify("the generator", (pull, refusals), (Pull::More, None))
    }

    fn prebuilt(&mut self) -> Result<Vec<Slab>, Wrong> {
        let budget = Budget::new(1 << 20);
        let mut slabs = Vec::new();
        for _ in 0..PREBUILT {
            let mut slab = Slab::new(SLAB_BYTES, &budget);
            self.generate(&mut slab)?;
            slabs.push(slab);
        }
        Ok(slabs)
    }

    fn run(&mut self, slab: &mut Slab) {
        self.chain.run(&[Target::Operator(0)], slab, Now::default(), &mut self.exit);
    }

    /// Reads everything that comes out of one slab: the filter and the map do
    /// what they say. The hash is the same for every form.
    fn prove(&mut self) -> Result<u64, Wrong> {
        let schema = self.schema.snapshot();
        let slot = |name| schema.slot(name).expect("a field of the flow");
        let mut slab = Slab::new(SLAB_BYTES, &Budget::new(1 << 20));
        self.generate(&mut slab)?;
        self.exit.reads = Some(["severity", "device", "rpm"].map(slot));
        self.run(&mut slab);
        self.exit.reads = None;
        verify("rows without severity = 'high'", self.exit.wrong, 0)?;
        Ok(self.exit.hash)
    }
}

fn operators(form: Form, schema: &SharedSchema) -> Result<Vec<Box<dyn Operator>>, Wrong> {
    let set = [("severity".to_owned(), "'high'".to_owned())];
    let none = || Wrong::fail("no native form");
    Ok(match form {
        Form::Native => vec![
            native::filter("fast", WHERE, schema).ok_or_else(none)?,
            native::map("mark", &set, &[], &[], &[], schema).ok_or_else(none)?,
        ],
        Form::LuaExpressions => {
            let map = Map { set: &set, ..Map::default() };
            let filter = ringmain_lua::filter("fast", WHERE, schema).map_err(Wrong::debug)?;
            vec![filter, ringmain_lua::map("mark", &map, schema).map_err(Wrong::debug)?]
        }
        Form::LuaScript => {
            let options = ScriptOptions::default();
            let script = ringmain_lua::script(SCRIPT, "chain.lua", &options, schema);
            vec![script.map_err(Wrong::debug)?]
        }
    })
}

fn chain(operators: Vec<Box<dyn Operator>>) -> Chain {
    let last = operators.len() - 1;
    let roles = (0..=last).map(|at| (format!("operator-{at}"), Role::Operator)).collect();
    let metrics = FlowMetrics::new("chain", roles, 1);
    let cells: Arc<[Arc<Cells>]> = metrics.shards[0].clone();
    let node = |(at, operator)| {
        let next = if at == last { Target::Exit(0) } else { Target::Operator(at + 1) };
        Node { operator, component: at, outputs: vec![vec![next]] }
    };
    let nodes = operators.into_iter().enumerate().map(node).collect();
    Chain::new(nodes, cells, SLAB_BYTES, &Budget::new(1 << 20))
}

/// Counts rows and forgets them; for a proof it reads them.
#[derive(Default)]
struct Exit {
    rows: u64,
    /// Slots of severity, device and rpm.
    reads: Option<[u16; 3]>,
    wrong: u64,
    hash: u64,
}

impl Exit {
    fn read(&mut self, row: RowRef<'_>, [severity, device, rpm]: [u16; 3]) {
        let marked = matches!(row.get(severity), ValueRef::Str("high"));
        let rpm = row.number(rpm).unwrap_or(f64::NAN);
        self.wrong += u64::from(!marked || rpm.is_nan() || rpm <= 100.0);
        if let ValueRef::Str(device) = row.get(device) {
            self.hash = mix_bytes(mix(self.hash, rpm.to_bits()), device.as_bytes());
        }
    }
}

impl Outside for Exit {
    fn deliver(&mut self, _: usize, slab: &mut Slab) {
        self.rows += slab.len() as u64;
        if let Some(slots) = self.reads {
            slab.rows().for_each(|row| self.read(row, slots));
        }
        slab.clear();
    }

    fn component_behind(&self, _: usize) -> usize {
        0
    }

    fn refuse(&mut self, _: usize, _: RowRef<'_>, _: Reason, _: &str) {
        self.wrong += 1;
    }
}

struct Refused<'a>(&'a mut Option<String>);

impl Refusals for Refused<'_> {
    fn bytes(&mut self, reason: Reason, detail: &str, _: &str, _: u64, _: &[u8]) {
        *self.0 = Some(format!("{reason:?}: {detail}"));
    }

    fn row(&mut self, reason: Reason, detail: &str, _: RowRef<'_>) {
        *self.0 = Some(format!("{reason:?}: {detail}"));
    }
}
