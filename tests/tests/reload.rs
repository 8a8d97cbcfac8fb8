//! Scripts that are replaced while messages flow.

use std::fs;

use ringmain_tests::{Driver, Job, until};

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
