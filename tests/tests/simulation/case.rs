//! What a seed stands for: a flow, its input, and how much goes wrong.

use std::fmt::Write;

use ringmain_base::{Prng, Xoshiro};
use ringmain_runtime::memory::Faults;

/// Partitions of the flows that have a key.
const PARTITIONS: u64 = 8;

/// One simulated story.
#[derive(Debug)]
pub struct Case {
    pub seed: u64,
    pub shards: usize,
    pub keyed: bool,
    /// Good messages.
    pub messages: u64,
    /// Lines that are no messages.
    pub garbage: u64,
    /// A Lua operator counts the messages of every key.
    pub counts: bool,
    pub second_sink: bool,
    pub input: String,
    pub flow: String,
    pub faults: Faults,
    pub chops: bool,
    /// Likelihood of a crash per step, and how many there may be.
    pub crash: f64,
    pub crashes_max: u32,
    pub checkpoint: f64,
    /// Likelihood of another version of the flow per step.
    pub reload: f64,
    /// Versions of the flow, which all do the same; the first comes first.
    pub versions: Vec<String>,
}

impl Case {
    pub fn of(seed: u64) -> Self {
        let mut rng = Xoshiro::new(seed);
        let mut one_in = |n: u64| rng.below(n) == 0;
        let keyed = !one_in(5);
        let counts = !one_in(3);
        let second_sink = one_in(3);
        let (dirty, calm, chops) = (one_in(3), one_in(6), !one_in(4));
        let shards = if keyed { 1 + rng.below(3) as usize } else { 1 };
        let (messages, keys) = (50 + rng.below(800), 1 + rng.below(12));
        let (input, garbage) = input(&mut rng, messages, keys, dirty);
        let mut up_to = |most: f64| if calm { 0.0 } else { rng.unit_f64() * most };
        let faults = Faults {
            delay: up_to(0.6),
            full: up_to(0.05),
            sync: up_to(0.1),
            refuse: up_to(0.3),
            reset: up_to(0.01),
        };
        let crash = up_to(0.01);
        let checkpoint = 0.01 + up_to(0.2);
        let crashes_max = if calm { 0 } else { 1 + rng.below(6) as u32 };
        let mut case = Self {
            seed,
            shards,
            keyed,

            messages,
            garbage,
            counts,
            second_sink,
            input,
            flow: String::new(),
            faults,
            chops,
            crash,
            crashes_max,
            checkpoint,
            reload: 0.0,
            versions: Vec::new(),
        };
        case.flow = case.flow(&mut rng);
        case
    }

    /// The same story, in which the flow changes now and then.
    pub fn with_reloads(seed: u64) -> Self {
        let mut case = Self::of(seed);
        let mut rng = Xoshiro::new(!seed);
        case.reload = 0.02 + rng.unit_f64() * 0.2;
        let filter = "\"filter\"\ninputs = [\"in\"]\nwhere = \"i >= 0\"";
        let first = "[operators.first]\ntype = \"filter\"\ninputs = [\"in\"]\nwhere = \"i > -9\"\n";
        let behind = |text: &str| {
            // Whoever reads the source reads the filter instead.
            text.replace("[\"in\"]", "[\"first\"]") + first
        };
        let copy = |text: &str, inputs: &str| {
            format!("{text}[sinks.more]\ntype = \"blackhole\"\ninputs = [{inputs}]\n")
        };
        let flow = &case.flow;
        case.versions = vec![
            flow.clone(),
            behind(flow),
            copy(flow, "\"in\""),
            copy(&behind(flow), "\"first\", \"in\""),
            flow.replace(filter, &filter.replace("i >= 0", "i > -1")),
            flow.replace("return M\n", "return M -- again\n"),
            flow.replace("buffer = \"64KiB\"", "buffer = \"65KiB\""),
            flow.replace("\"dead.ndjson\"\n", "\"dead.ndjson\"\nfsync = \"10ms\"\n"),
            behind(flow).replace("out.ndjson\"\n", "out.ndjson\"\nframe = \"newline\"\n"),
        ];
        case
    }

    fn flow(&self, rng: &mut Xoshiro) -> String {
        let mut flow = String::from("name = \"sim\"\n");
        if self.keyed {
            write!(flow, "[partition]\nkey = [\"k\"]\ncount = {PARTITIONS}\n").unwrap();
        }
        flow += "[sources.in]\ntype = \"file\"\npath = \"in.ndjson\"\n";
        let mut last = "in";
        if rng.below(2) == 0 {
            flow += "[operators.keep]\ntype = \"filter\"\ninputs = [\"in\"]\nwhere = \"i >= 0\"\n";
            last = "keep";
        }
        if self.counts {
            write!(
                flow,
                "[operators.count]\ntype = \"lua\"\ninputs = [{last:?}]\nsource = '''{COUNTER}'''\n"
            )
            .unwrap();
            last = "count";
        }
        let fsync = ["never", "always", "10ms"][rng.below(3) as usize];
        let mut sink = |name: &str| {
            write!(
                flow,
                "[sinks.{name}]\ntype = \"file\"\ninputs = [{last:?}]\npath = \"{name}.ndjson\"\n\
                 fsync = {fsync:?}\nbuffer = \"64KiB\"\n"
            )
            .unwrap();
        };
        sink("out");
        if self.second_sink {
            sink("copy");
        }
        flow += "[dead_letters]\ntype = \"file\"\npath = \"dead.ndjson\"\n";
        flow
    }
}

/// Counts per key; the count that a message carries says whether the state was
/// right when it came.
const COUNTER: &str = r"
local M = { version = 1 }
function M.init() return { n = {} } end
function M.process(msg, state)
  local c = (state.n[msg.k] or 0) + 1
  state.n[msg.k] = c
  msg.c = c
  return msg
end
return M
";

/// Messages of several keys, numbered per key, with lines in between that are
/// none.
fn input(rng: &mut Xoshiro, messages: u64, keys: u64, dirty: bool) -> (String, u64) {
    let mut text = String::new();
    let mut next = vec![0; keys as usize];
    let mut garbage = 0;
    for _ in 0..messages {
        let key = rng.below(keys) as usize;
        let pad = "x".repeat(rng.below(200) as usize);
        writeln!(text, "{{\"k\":\"key-{key}\",\"i\":{},\"pad\":\"{pad}\"}}", next[key]).unwrap();
        next[key] += 1;
        if dirty && rng.below(20) == 0 {
            writeln!(text, "{{\"garbage\":{garbage}").unwrap();
            garbage += 1;
        }
    }
    (text, garbage)
}
