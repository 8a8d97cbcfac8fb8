//! JSON -> filter and one new field -> JSON in memory: what the daemon does
//! between reading a file and writing one, without either.
//!
//! The rival is what a program without rows does: `serde_json::Value` in and
//! out.

use ringmain_base::{Now, Reason};
use ringmain_lua::{Map, ScriptOptions};
use ringmain_ops::{Context, Operator, Refuse, native};
use ringmain_slab::{RowRef, SharedSchema};
use serde_json::Value;

use super::Round;
use super::codec::{Reader, Writer};
use crate::measure::{Amount, Env, Timed, Wrong, laps, on_core, verify};
use crate::report::Figure;
use crate::sensors::{Tally, lines, split};

const LINES: u64 = 8_192;
/// The aim of the whole daemon, with I/O.
const TARGET_M_PER_S: f64 = 8.0;
const WHERE: &str = "rpm > 100";
const SCRIPT: &str = "return function(msg)
  if msg.rpm > 100 then msg.severity = 'high' return msg end
end";

pub(super) fn prepare(_: &Env) -> Result<Round, Wrong> {
    let (text, expected) = lines(LINES);
    Ok(Box::new(move |env| {
        let mut figures = Vec::new();
        let core = env.cores.first().copied();
        let marked = expected.marked;
        let forms: [(&str, Build); 3] = [
            ("native expressions", native_form),
            ("Lua expressions", lua_form),
            ("Lua script", script_form),
        ];
        for (name, build) in forms {
            let timed = on_core(core, || ours(&text, build, env.amount, marked))?;
            let figure = Figure::rate(name, timed.rate()).at_least(TARGET_M_PER_S);
            figures.push(figure.proof(timed.messages, marked.ordered));
        }
        let timed = on_core(core, || rival(&text, env.amount, marked))?;
        let figure = Figure::rate("serde_json::Value", timed.rate());
        figures.push(figure.proof(timed.messages, marked.ordered));
        Ok(figures)
    }))
}

type Operators = Vec<Box<dyn Operator>>;
type Build = fn(&SharedSchema) -> Result<Operators, Wrong>;

fn set() -> [(String, String); 1] {
    [("severity".to_owned(), "'high'".to_owned())]
}

fn native_form(schema: &SharedSchema) -> Result<Operators, Wrong> {
    let none = || Wrong::fail("no native form");
    let map = native::map("mark", &set(), &[], &[], &[], schema);
    Ok(vec![native::filter("fast", WHERE, schema).ok_or_else(none)?, map.ok_or_else(none)?])
}

fn lua_form(schema: &SharedSchema) -> Result<Operators, Wrong> {
    let set = set();
    let map = Map { set: &set, ..Map::default() };
    let filter = ringmain_lua::filter("fast", WHERE, schema).map_err(Wrong::debug)?;
    Ok(vec![filter, ringmain_lua::map("mark", &map, schema).map_err(Wrong::debug)?])
}

fn script_form(schema: &SharedSchema) -> Result<Operators, Wrong> {
    let options = ScriptOptions::default();
    let script = ringmain_lua::script(SCRIPT, "script.lua", &options, schema);
    Ok(vec![script.map_err(Wrong::debug)?])
}

fn ours(text: &[u8], build: Build, amount: Amount, marked: Tally) -> Result<Timed, Wrong> {
    let schema = SharedSchema::new();
    let mut operators = build(&schema)?;
    let mut reader = Reader::with(schema.clone());
    let mut writer = Writer::new(schema);
    let mut lap = |keep: &mut Option<Vec<u8>>| {
        let mut written = Ok(0);
        reader.read(text, |slab| {
            let mut refused = Refused(0);
            for operator in &mut operators {
                let now = Now::default();
                operator.process(slab, &mut Context { now, refuse: &mut refused, ports: &mut [] });
            }
            written = written.clone().and_then(|rows| {
                verify("rows refused", refused.0, 0)?;
                let (more, out) = writer.write(slab)?;
                if let Some(keep) = keep {
                    keep.extend_from_slice(out);
                }
                Ok(rows + more)
            });
        })?;
        written
    };
    let mut kept = Some(Vec::new());
    lap(&mut kept)?;
    let out = Tally::of(&kept.unwrap_or_default()).map_err(Wrong::fail)?;
    verify("what came out", out, marked)?;
    laps(amount, || {
        verify("rows that came out", lap(&mut None)?, marked.rows)?;
        Ok(LINES)
    })
}

fn rival(text: &[u8], amount: Amount, marked: Tally) -> Result<Timed, Wrong> {
    let mut out = Vec::new();
    marking(text, &mut out)?;
    let tally = Tally::of(&out).map_err(Wrong::fail)?;
    verify("what came out of serde_json", tally, marked)?;
    laps(amount, || {
        marking(text, &mut out)?;
        std::hint::black_box(&out);
        Ok(LINES)
    })
}

fn marking(text: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    out.clear();
    for line in split(text) {
        let mut value: Value = serde_json::from_slice(line).map_err(Wrong::fail)?;
        if value["rpm"].as_f64().is_some_and(|rpm| rpm > 100.0) {
            value["severity"] = "high".into();
            serde_json::to_writer(&mut *out, &value).map_err(Wrong::fail)?;
            out.push(b'\n');
        }
    }
    Ok(())
}

struct Refused(u64);

impl Refuse for Refused {
    fn refuse(&mut self, _: RowRef<'_>, _: Reason, _: &str) {
        self.0 += 1;
    }
}
