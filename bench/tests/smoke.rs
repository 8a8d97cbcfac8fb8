//! Every scenario at a tiny size: benches must not rot. What they print as the
//! hash of their result is compared with `hashes.txt`
//! (`UPDATE_GOLDEN=1 cargo test -p ringmain-bench` rewrites it).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_ringmain-bench");

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(BENCH);
    // Under cargo it would build the daemon first.
    command.env_remove("CARGO").args(args).output().expect("the bench can be started")
}

fn run(args: &[&str]) -> Value {
    let mut all = vec!["run", "--json", "--repeat", "2", "--count", "2000"];
    all.extend(args);
    let output = bench(&all);
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).expect("one JSON document")
}

fn scenarios(report: &Value) -> &Vec<Value> {
    report["scenarios"].as_array().expect("a list")
}

/// The daemon beside the bench, unless it has not been built.
fn ringmain() -> Option<PathBuf> {
    let path = Path::new(BENCH).with_file_name("ringmain");
    path.is_file().then_some(path)
}

/// Scenarios whose messages are as many as the machine manages.
const BY_TIME: [&str; 3] = ["udp", "backpressure", "reload"];

/// Scenarios that another process of this machine may not have what it takes for.
fn may_be_skipped(why: &str) -> bool {
    ["two cores", "mosquitto"].iter().any(|part| why.contains(part)) || ringmain().is_none()
}

/// The hashes of all results, a line each.
fn hashes(report: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for scenario in scenarios(report) {
        let name = scenario["name"].as_str().unwrap();
        if BY_TIME.contains(&name) {
            continue;
        }
        for figure in scenario["figures"].as_array().unwrap() {
            if let Some(hash) = figure["hash"].as_str() {
                lines.insert(format!("{name}: {}: {hash}", figure["name"].as_str().unwrap()));
            }
        }
    }
    lines
}

fn check_hashes(report: &Value) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hashes.txt");
    let found = hashes(report);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text: Vec<_> = found.into_iter().collect();
        std::fs::write(&golden, text.join("\n") + "\n").unwrap();
        return;
    }
    let known: BTreeSet<String> =
        std::fs::read_to_string(&golden).unwrap().lines().map(ToOwned::to_owned).collect();
    // A machine that skips a scenario has fewer, and one with more cores has
    // more of `shards`.
    let other: Vec<_> = found.difference(&known).filter(|l| !l.starts_with("shards:")).collect();
    assert!(other.is_empty(), "results that differ from {}: {other:#?}", golden.display());
}

#[test]
fn every_scenario_measures_what_it_verifies() {
    let report = run(&[]);
    check_hashes(&report);
    let listed = String::from_utf8(bench(&["list"]).stdout).unwrap();
    assert_eq!(scenarios(&report).len(), listed.lines().count());
    for scenario in scenarios(&report) {
        let name = scenario["name"].as_str().unwrap();
        if scenario["status"] == "skipped" {
            println!("{name}: skipped: {}", scenario["why"]);
            let why = scenario["why"].as_str().unwrap();
            assert!(may_be_skipped(why), "{name}: {why}");
            continue;
        }
        assert_eq!(scenario["status"], "ok", "{name}: {}", scenario["why"]);
        let figures = scenario["figures"].as_array().unwrap();
        let proven = figures.iter().any(|figure| figure["messages"].as_u64() > Some(0));
        assert!(proven || name == "idle", "{name}");
        for figure in figures {
            assert_eq!(figure["rounds"].as_array().unwrap().len(), 2, "{name}: {figure}");
            assert!(figure["median"].as_f64().unwrap() >= 0.0, "{name}: {figure}");
        }
    }
}

#[test]
fn an_unknown_scenario_is_named() {
    let output = bench(&["run", "rnig"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("rnig"));
}

#[test]
fn the_table_says_where_it_was_measured() {
    let output = bench(&["run", "json-decode", "--count", "2000", "--repeat", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in
        [" cores, ", "Linux", "debug build", "json-decode:", "serde_json, typed", "verified"]
    {
        assert!(text.contains(part) || part == "debug build" && !cfg!(debug_assertions), "{text}");
    }
}

#[test]
fn names_of_the_plan_choose_scenarios() {
    for name in ["core", "json-in", "json-out", "exchange"] {
        let report = run(&[name]);
        assert_eq!(scenarios(&report).len(), 1, "{name}");
    }
}

#[test]
fn a_page_with_plots_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    run(&["json-decode", "--out", out]);
    let page = std::fs::read_to_string(dir.path().join("RESULTS.md")).unwrap();
    for part in ["# Results", "do not edit", "at commit", "## json-decode", "rates-parts.svg"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let svg = std::fs::read_to_string(dir.path().join("results/rates-parts.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("serde_json, typed"), "{svg}");
    let json = std::fs::read(dir.path().join("results/results.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    for key in ["cpu", "cores", "kernel", "date", "commit", "rustc", "version"] {
        assert!(!json["machine"][key].is_null(), "{key}");
    }
}

/// The generator against a receiver that does nothing but count.
#[test]
fn the_load_generator_sends_what_it_says_and_names_the_limit() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let reader = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let output = bench(&["load", "tcp", &to, "--count", "8192", "--json"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["messages"], 8192);
    assert_eq!(reader.join().unwrap(), 8192 * 101);
    assert!(["receiver", "generator"].contains(&result["limit"].as_str().unwrap()), "{result}");
}

#[test]
fn a_load_that_nobody_takes_fails_and_says_where() {
    let output = bench(&["load", "unix", "/nowhere/socket", "--count", "1", "--wait", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/socket"));
}
