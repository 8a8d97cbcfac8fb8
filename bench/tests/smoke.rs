//! Every scenario at a tiny size: benches must not rot.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_ringmain-bench");

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(BENCH);
    command.args(args).output().expect("the bench can be started")
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

#[test]
fn every_scenario_measures_what_it_verifies() {
    let report = run(&[]);
    let listed = String::from_utf8(bench(&["list"]).stdout).unwrap();
    assert_eq!(scenarios(&report).len(), listed.lines().count());
    for scenario in scenarios(&report) {
        let name = scenario["name"].as_str().unwrap();
        if scenario["status"] == "skipped" {
            println!("{name}: skipped: {}", scenario["why"]);
            let why = scenario["why"].as_str().unwrap();
            assert!(why.contains("two cores") || ringmain().is_none(), "{name}: {why}");
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
    for part in ["cores, Linux", "debug build", "json-decode:", "serde_json, typed", "verified"] {
        assert!(text.contains(part) || part == "debug build" && !cfg!(debug_assertions), "{text}");
    }
}
