//! Many Lua operators behind one another on one shard: each is compiled, stays
//! compiled and costs what it costs alone.
//!
//! LuaJIT keeps so many traces per state; a daemon that gave all operators one
//! state would throw traces away and compile for ever. Measured: the flow by
//! its own clock, with 1, 10 and 50 operators that each count a field up; what
//! an operator costs is the difference to the flow with one. Verified: another
//! operator at the end refuses every message that was not counted by all.

use super::Round;
use crate::daemon::Daemon;
use crate::measure::{Env, Wrong, mix, verify};
use crate::report::Figure;

const COUNTS: [usize; 3] = [1, 10, 50];
/// An operator of 50 against one of 10.
const TARGET_RATIO: f64 = 1.3;
const GUESS_PER_S: f64 = 5e5;
const OPERATOR: &str =
    "return function(msg) if msg.rpm > 20 then msg.n = msg.n + 1 end return msg end";

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    let count = env.amount.messages(GUESS_PER_S);
    Ok(Box::new(move |env| {
        let mut figures = Vec::new();
        let mut ns = Vec::new();
        for operators in COUNTS {
            let ended = Daemon::start(env, "operators", &flow(count, operators), "0")?.end()?;
            let checked = ended.summary.of("check")?;
            verify("messages that all have counted", checked.rows_out, count)?;
            let rate = count as f64 / ended.summary.seconds / 1e6;
            let name = format!("{operators} operators");
            figures.push(Figure::rate(&name, rate).proof(count, mix(count, operators as u64)));
            ns.push(1e9 * ended.cpu_s / count as f64);
        }
        let each = |many: usize, few: usize| {
            (ns[many] - ns[few]).max(0.0) / (COUNTS[many] - COUNTS[few]) as f64
        };
        let (ten, fifty) = (each(1, 0), each(2, 0));
        figures.push(Figure::new("CPU time of each of 10 operators", ten, "ns/msg"));
        figures.push(Figure::new("CPU time of each of 50 operators", fifty, "ns/msg"));
        figures.push(Figure::new("  50 / 10", fifty / ten.max(1e-3), "x").at_most(TARGET_RATIO));
        Ok(figures)
    }))
}

fn flow(count: u64, operators: usize) -> String {
    let mut flow = format!(
        "name = \"operators\"
[sources.in]
type = \"generator\"
count = {count}
seed = 7
[sources.in.fields]
device = {{ type = \"name\", prefix = \"motor-\", count = 1000, digits = 4 }}
rpm = {{ type = \"float\", min = 40, max = 160, decimals = 1 }}
n = 0
"
    );
    let mut before = "in".to_owned();
    let mut operator = |name: &str, source: &str, before: &str| {
        flow.push_str(&format!(
            "[operators.{name}]\ntype = \"lua\"\ninputs = [\"{before}\"]\nsource = '''\n{source}\n'''\n"
        ));
    };
    for at in 1..=operators {
        let name = format!("op{at}");
        operator(&name, OPERATOR, &before);
        before = name;
    }
    let check = format!(
        "return function(msg) if msg.n ~= {operators} then error('counted ' .. msg.n) end return msg end"
    );
    operator("check", &check, &before);
    flow + "[sinks.out]\ntype = \"blackhole\"\ninputs = [\"check\"]\n"
}
