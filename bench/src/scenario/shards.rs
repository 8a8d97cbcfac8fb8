//! The whole daemon, partitioned by key, on one core, two, four ...: generator,
//! exchange, filter, Lua with state per key, JSON, a file for each shard.
//!
//! The generator divides its numbers between the shards, so with two of them
//! half of all messages cross over, with four three quarters. Verified: the counts, and the sum of the
//! sequence numbers in all files together. The ratio means nothing when others
//! use the cores; "cores had" says how much of them the daemon got, and "by CPU
//! time" what the ratio would be with both cores for itself.
//!
//! The kernel's threads that carry out writes may use the second core already
//! with one shard, which makes the measured ratio smaller.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Round;
use crate::daemon::{Daemon, Ended, quoted};
use crate::measure::{Env, Wrong, mix, verify};
use crate::report::Figure;
use crate::sensors::split;

const TARGET_RATIO: f64 = 1.7;
const GUESS_PER_S: f64 = 3e6;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    env.two_cores()?;
    let count = env.amount.messages(GUESS_PER_S);
    Ok(Box::new(move |env| {
        let (one, hash) = run(env, count, "0")?;
        let rate = |ended: &Ended| count as f64 / ended.summary.seconds / 1e6;
        let had = |ended: &Ended| 100.0 * ended.cpu_s / ended.wall_s;
        let mut figures = vec![
            Figure::rate("1 shard", rate(&one)).proof(count, hash),
            Figure::new("  cores had", had(&one), "%"),
        ];
        for shards in (1..=env.cores.len().ilog2()).map(|power| 1 << power) {
            let cores: Vec<_> = (0..shards).map(|core: usize| core.to_string()).collect();
            let (all, all_hash) = run(env, count, &cores.join(","))?;
            verify(&format!("what {shards} shards wrote, against one"), all_hash, hash)?;
            let of = |what: &str| format!("  {shards} shards: {what}");
            let ratio = Figure::new(of("times one"), rate(&all) / rate(&one), "x");
            let cpu = shards as f64 * one.cpu_s / all.cpu_s;
            let by_cpu = Figure::new(of("times one, by CPU time"), cpu, "x");
            // What two have to be, more have to be for each doubling.
            let target = TARGET_RATIO.powi(shards.ilog2() as i32);
            figures.extend([
                Figure::rate(format!("{shards} shards"), rate(&all)).proof(count, all_hash),
                Figure::new(of("cores had"), had(&all), "%"),
                ratio.at_least(target),
                by_cpu.at_least(target),
            ]);
        }
        Ok(figures)
    }))
}

fn run(env: &Env, count: u64, cores: &str) -> Result<(Ended, u64), Wrong> {
    let dir = env.dir().join("shards");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).map_err(Wrong::fail)?;
    let flow = flow(count, &dir.join("out-{shard}.ndjson"));
    let ended = Daemon::start(env, "shards", &flow, cores)?.end()?;
    verify("messages made", ended.summary.of("in")?.rows_out, count)?;
    let (rows, sum) = read(&dir)?;
    // `number % 4 ~= 0` passes: of every four numbers three.
    let must: u64 = (0..count).filter(|n| n % 4 != 0).sum();
    verify("messages written", rows, count - count.div_ceil(4))?;
    verify("sum of their numbers", sum, must)?;
    fs::remove_dir_all(&dir).map_err(Wrong::fail)?;
    Ok((ended, mix(rows, sum)))
}

fn flow(count: u64, output: &Path) -> String {
    let output = quoted(output);
    format!(
        "name = \"shards\"
[sources.in]
type = \"generator\"
count = {count}
seed = 7
[sources.in.fields]
number = {{ type = \"sequence\" }}
device = {{ type = \"name\", prefix = \"motor-\", count = 1000, digits = 4 }}
rpm = {{ type = \"float\", min = 40, max = 160, decimals = 1 }}
temp = {{ type = \"float\", min = 20, max = 110, decimals = 2 }}
status = {{ type = \"choice\", values = [\"ok\", \"ok\", \"ok\", \"warn\"] }}
[partition]
key = [\"device\"]
[operators.some]
type = \"filter\"
inputs = [\"in\"]
where = \"number % 4 ~= 0\"
[operators.mean]
type = \"lua\"
inputs = [\"some\"]
source = '''
local mean = {{}}
return function(msg)
  local device, rpm = msg.device, msg.rpm
  local m = mean[device] or rpm
  m = m + (rpm - m) * 0.1
  mean[device] = m
  msg.mean = m
  return msg
end
'''
[sinks.out]
type = \"file\"
inputs = [\"mean\"]
path = {output}
mode = \"truncate\"
"
    )
}

#[derive(Deserialize)]
struct Line {
    number: u64,
}

/// Rows of all files, and the sum of their numbers.
fn read(dir: &Path) -> Result<(u64, u64), Wrong> {
    let (mut rows, mut sum) = (0, 0);
    for entry in fs::read_dir(dir).map_err(Wrong::fail)? {
        let path: PathBuf = entry.map_err(Wrong::fail)?.path();
        for line in split(&fs::read(path).map_err(Wrong::fail)?) {
            let line: Line = serde_json::from_slice(line).map_err(Wrong::fail)?;
            rows += 1;
            sum += line.number;
        }
    }
    Ok((rows, sum))
}
