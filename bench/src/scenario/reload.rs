//! The whole daemon while a Lua script is replaced again and again: a generator
//! as fast as it can, a script that counts per key, and behind it one that
//! refuses every message that does not have the next count of its key.
//!
//! Measured: how long the shard stands still for a version, as it says itself;
//! what a reload takes from the new file until the shard has it; memory. Verified:
//! every message was counted once over all versions, in order.

use std::fs;
use std::time::Instant;

use super::Round;
use crate::daemon::{Daemon, poll, quoted, status_kib};
use crate::measure::{Amount, Env, Wrong, mix, verify};
use crate::report::{CurveKind, Figure};

const TARGET_PAUSE_US: f64 = 5_000.0;
const TARGET_GROWTH_MIB: f64 = 16.0;
const RELOADS: f64 = 1_000.0;
/// The full number from half a second on.
const RELOADS_PER_S: f64 = 2_000.0;
const RELOADS_MIN: u32 = 12;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(round))
}

fn round(env: &Env) -> Result<Vec<Figure>, Wrong> {
    let script = env.dir().join("reload.lua");
    let reloads = match env.amount {
        Amount::Seconds(seconds) => (seconds * RELOADS_PER_S).min(RELOADS) as u32,
        Amount::Messages(_) => 0,
    };
    let reloads = reloads.max(RELOADS_MIN);
    fs::write(&script, version(0)).map_err(Wrong::fail)?;
    let daemon = Daemon::start(env, "reload", &flow(&quoted(&script)), "0")?;
    poll("the daemon does not start", || daemon.said().contains("running").then_some(())).or_else(
        |_| {
            if daemon.said().contains("error") { Err(Wrong::Failed(daemon.said())) } else { Ok(()) }
        },
    )?;
    let (start, pid) = (Instant::now(), daemon.pid());
    let mut memory = Vec::new();
    let mut log = Log::default();
    for number in 1..=reloads {
        let new = script.with_extension("new");
        fs::write(&new, version(number)).map_err(Wrong::fail)?;
        fs::rename(&new, &script).map_err(Wrong::fail)?;
        daemon.reload()?;
        log.wait_for(&daemon, number)?;
        let mib = status_kib(pid, "VmRSS:").unwrap_or(0) as f64 / 1024.0;
        memory.push((start.elapsed().as_secs_f64(), mib));
    }
    let seconds = start.elapsed().as_secs_f64();
    daemon.stop()?;
    let ended = daemon.end()?;
    let (made, counted) = (ended.summary.of("in")?, ended.summary.of("check")?);
    verify("messages refused because of their count", counted.dead, 0)?;
    verify("messages counted", counted.rows_out, made.rows_out)?;
    let mut swaps = log.swaps_us.clone();
    verify("versions", swaps.len(), reloads as usize)?;
    swaps.sort_unstable();
    let [median, longest] = [swaps[swaps.len() / 2], swaps[swaps.len() - 1]].map(|us| us as f64);
    let early = memory[memory.len() / 4].1;
    let late = memory[memory.len() - 1].1;
    let rate = made.rows_out as f64 / ended.summary.seconds / 1e6;
    Ok(vec![
        Figure::new("longest pause", longest, "us").at_most(TARGET_PAUSE_US),
        Figure::new("median pause", median, "us"),
        Figure::new("reloads", f64::from(reloads), ""),
        Figure::new("from a new file until it runs", 1e3 * seconds / f64::from(reloads), "ms"),
        Figure::rate("messages meanwhile", rate)
            .proof(made.rows_out, mix(u64::from(reloads), counted.dead)),
        Figure::new("growth of memory from the first quarter on", late - early, "MiB")
            .at_most(TARGET_GROWTH_MIB)
            .curve(CurveKind::Memory, memory),
    ])
}

/// What the daemon said of its swaps so far.
#[derive(Default)]
struct Log {
    swaps_us: Vec<u64>,
}

impl Log {
    fn wait_for(&mut self, daemon: &Daemon, number: u32) -> Result<(), Wrong> {
        let calls_itself = format!("calls itself {number})");
        let text = poll("a new version does not come", || {
            let text = daemon.said();
            text.contains(&calls_itself).then_some(text)
        })?;
        let after = text.lines().filter_map(|line| line.split_once("swapped in "));
        self.swaps_us =
            after.filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok()).collect();
        Ok(())
    }
}

fn version(number: u32) -> String {
    format!(
        "local M = {{ version = {number} }}
function M.init() return {{ count = {{}} }} end
function M.process(msg, state)
  local count, device = state.count, msg.device
  local n = (count[device] or 0) + 1
  count[device] = n
  msg.n = n
  msg.v = {number}
  return msg
end
return M
"
    )
}

fn flow(script: &str) -> String {
    format!(
        "name = \"reload\"
[sources.in]
type = \"generator\"
seed = 7
[sources.in.fields]
device = {{ type = \"name\", prefix = \"motor-\", count = 1000, digits = 4 }}
rpm = {{ type = \"float\", min = 40, max = 160, decimals = 1 }}
[operators.count]
type = \"lua\"
inputs = [\"in\"]
script = {script}
[operators.check]
type = \"lua\"
inputs = [\"count\"]
source = '''
local M = {{}}
function M.init() return {{ last = {{}}, v = 0 }} end
function M.process(msg, state)
  local device = msg.device
  local n = (state.last[device] or 0) + 1
  if msg.n ~= n or msg.v < state.v then error('count ' .. msg.n .. ' of version ' .. msg.v) end
  state.last[device] = n
  state.v = msg.v
  return msg
end
return M
'''
[sinks.out]
type = \"blackhole\"
inputs = [\"check\"]
"
    )
}
