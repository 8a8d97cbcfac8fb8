//! Scripts that are replaced while messages flow.

use std::collections::BTreeMap;
use std::fs;

use ringmain_tests::{Driver, Job, until};
use rustix::process::Signal;

const FLOW: &str = r#"
    [sources.in]
    type = "generator"
    rate = 20000
    fields = { i = { type = "sequence" } }
    [operators.script]
    type = "lua"
    inputs = ["in"]
    script = "op.lua"
    limits = { time = "20ms", kills = 2 }
    [sinks.out]
    type = "file"
    inputs = ["script"]
    path = "out.ndjson"
    [dead_letters]
    type = "file"
    path = "dead.ndjson"
"#;

fn version(number: u32, body: &str) -> String {
    format!(
        "local M = {{ version = {number} }}
function M.init() return {{ n = 0 }} end
function M.process(msg, state)
  state.n = state.n + 1
  msg.n = state.n
  {body}
  return msg
end
return M
"
    )
}

/// As editors do it: a new file takes the name of the old one.
fn replace(job: &Job, text: &str) {
    job.write("op.lua.new", text);
    fs::rename(job.path("op.lua.new"), job.path("op.lua")).unwrap();
}

fn last_line(job: &Job) -> String {
    let text = fs::read_to_string(job.path("out.ndjson")).unwrap_or_default();
    text.lines().next_back().unwrap_or_default().to_owned()
}

#[test]
fn a_new_version_takes_over_with_the_state_and_loses_no_message() {
    let job = Job::flow(Driver::Uring, FLOW).file("op.lua", version(1, "msg.v = 1"));
    let mut daemon = job.start();
    until("the first version runs", || last_line(&job).contains("\"v\":1"));
    replace(&job, &version(2, "msg.v = 2"));
    until("the second version runs", || last_line(&job).contains("\"v\":2"));
    replace(&job, &version(3, "msg.v = = 3"));
    daemon.wait_for("the old version goes on");
    replace(&job, &version(4, "msg.v = 4"));
    until("the fourth version runs", || last_line(&job).contains("\"v\":4"));
    let summary = daemon.drain();
    let made = summary.ok().rows("in")[1];
    let rows = job.json("out.ndjson");
    assert_eq!(rows.len() as u64, made);
    let mut versions = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        assert_eq!((row["i"].as_u64(), row["n"].as_u64()), (Some(at as u64), Some(at as u64 + 1)));
        versions.push(row["v"].as_u64().unwrap());
    }
    versions.dedup();
    assert_eq!(versions, [1, 2, 4]);
}

#[test]
fn a_script_in_quarantine_is_healed_by_a_new_version() {
    let runaway = "msg.v = 1\n  if msg.i % 100 == 99 then while true do end end";
    let job = Job::flow(Driver::Uring, FLOW).file("op.lua", version(1, runaway));
    let mut daemon = job.start();
    daemon.wait_for("in quarantine after 2 stops");
    replace(&job, &version(2, "msg.v = 2"));
    until("the second version runs", || last_line(&job).contains("\"v\":2"));
    daemon.wait_for("is well again");
    let done = daemon.drain();
    let summary = done.ok();
    let [rows_in, rows_out, dropped, dead] = summary.rows("script");
    assert_eq!((rows_in, dropped), (rows_out + dead, 0));
    assert_eq!(job.lines("out.ndjson").len() as u64, rows_out);
    let letters = job.json("dead.ndjson");
    assert_eq!(letters.len() as u64, dead);
    assert!(letters.iter().all(|letter| letter["reason"] == "limit"));
    let refused = letters.iter().filter(|l| l["detail"].as_str().unwrap().contains("quarantine"));
    assert!(refused.count() > 0);
    // Every message is in one of the two, with what it came in with.
    let mut numbers: Vec<u64> =
        letters.iter().map(|l| l["message"]["i"].as_u64().unwrap()).collect();
    numbers.extend(job.json("out.ndjson").iter().map(|row| row["i"].as_u64().unwrap()));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..rows_in).collect::<Vec<_>>());
}

/// Counts per device, in a state per partition.
fn counting(number: u32) -> String {
    format!(
        "local M = {{ version = {number} }}
function M.init() return {{ count = {{}} }} end
function M.process(msg, state)
  local count = state.count
  local n = (count[msg.device] or 0) + 1
  count[msg.device] = n
  msg.n = n
  msg.v = {number}
  return msg
end
return M
"
    )
}

/// What the daemon said of its swaps, in microseconds.
fn swaps_us(said: &str) -> Vec<u64> {
    let after = said.lines().filter_map(|line| line.split_once("swapped in "));
    after.filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn a_thousand_versions_under_load_count_every_message_once_in_flat_memory() {
    const VERSIONS: u32 = 1000;
    let job = Job::flow(
        Driver::Uring,
        r#"
    [partition]
    key = ["device"]
    count = 8
    [sources.in]
    type = "generator"
    rate = 5000
    fields = { device = { type = "name", count = 50 }, i = { type = "sequence" } }
    [operators.script]
    type = "lua"
    inputs = ["in"]
    script = "op.lua"
    [sinks.out]
    type = "file"
    inputs = ["script"]
    path = "out.ndjson"
"#,
    )
    .file("op.lua", counting(0));
    let mut daemon = job.start();
    until("the first version runs", || last_line(&job).contains("\"v\":0"));
    let mut early_kib = 0;
    for number in 1..=VERSIONS {
        replace(&job, &counting(number));
        daemon.signal(Signal::HUP);
        daemon.wait_for(&format!("calls itself {number}) on shard 0"));
        if number == VERSIONS / 4 {
            early_kib = daemon.rss_kib();
        }
    }
    let late_kib = daemon.rss_kib();
    let last = format!("\"v\":{VERSIONS}");
    until("the last version runs", || last_line(&job).contains(&last));
    let done = daemon.drain();
    let swaps = swaps_us(&done.stderr);
    println!("longest pause of {} swaps: {:?} us", swaps.len(), swaps.iter().max());
    assert!(swaps.len() >= VERSIONS as usize);
    assert!(late_kib < early_kib + (16 << 10), "{early_kib} KiB, then {late_kib} KiB");
    let made = done.ok().rows("in")[1];
    let rows = job.json("out.ndjson");
    assert_eq!(rows.len() as u64, made);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut version = 0;
    for row in &rows {
        let count = counts.entry(row["device"].as_str().unwrap().to_owned()).or_default();
        *count += 1;
        assert_eq!(row["n"].as_u64(), Some(*count), "{row}");
        let of = row["v"].as_u64().unwrap();
        assert!(of >= version, "{row} after version {version}");
        version = of;
    }
    assert_eq!(version, u64::from(VERSIONS));
}

#[test]
fn a_module_is_reloaded_with_the_script_that_requires_it() {
    let script = "local m = require 'part.value'
return function(msg) msg.v = m return msg end
";
    let job = Job::flow(Driver::Uring, FLOW)
        .file("op.lua", script)
        .file("lua/part/value.lua", "return 1\n");
    let mut daemon = job.start();
    until("the first version runs", || last_line(&job).contains("\"v\":1"));
    job.write("lua/part/value.lua", "return 2\n");
    until("the second version runs", || last_line(&job).contains("\"v\":2"));
    job.write("lua/part/value.lua", "return\n = 3\n");
    daemon.wait_for("lua/part/value.lua:2: ");
    fs::remove_file(job.path("lua/part/value.lua")).unwrap();
    daemon.wait_for("there is no module 'part.value'");
    job.write("lua/part/value.lua", "return 4\n");
    until("the fourth version runs", || last_line(&job).contains("\"v\":4"));
    let done = daemon.drain();
    let made = done.ok().rows("in")[1];
    assert_eq!(job.lines("out.ndjson").len() as u64, made);
}

#[test]
fn a_flow_that_a_quarantine_blocks_takes_nothing_until_a_new_version_comes() {
    let flow = FLOW.replace("kills = 2", "kills = 2, when_quarantined = \"block\"");
    let runaway = "msg.v = 1\n  if msg.i >= 100 then while true do end end";
    let job = Job::flow(Driver::Uring, &flow).file("op.lua", version(1, runaway));
    let mut daemon = job.start();
    daemon.wait_for("in quarantine after 2 stops");
    let size = || fs::metadata(job.path("dead.ndjson")).map_or(0, |file| file.len());
    until("the letters are written", || size() > 0);
    let before = (size(), fs::metadata(job.path("out.ndjson")).unwrap().len());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(before, (size(), fs::metadata(job.path("out.ndjson")).unwrap().len()));
    replace(&job, &version(2, "msg.v = 2"));
    until("the second version runs", || last_line(&job).contains("\"v\":2"));
    let done = daemon.drain();
    let [rows_in, rows_out, dropped, dead] = done.ok().rows("script");
    assert_eq!((rows_in, dropped), (rows_out + dead, 0));
    // No more than the batch at hand was refused.
    let letters = job.json("dead.ndjson");
    assert_eq!(letters.len() as u64, dead);
    let in_vain =
        letters.iter().filter(|l| l["detail"].as_str().unwrap().contains("in quarantine"));
    assert_eq!(in_vain.count(), 0, "{letters:?}");
    let mut numbers: Vec<u64> =
        letters.iter().map(|l| l["message"]["i"].as_u64().unwrap()).collect();
    numbers.extend(job.json("out.ndjson").iter().map(|row| row["i"].as_u64().unwrap()));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..rows_in).collect::<Vec<_>>());
}
