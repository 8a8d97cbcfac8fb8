//! What people and programs that call the program see.

use std::process::Output;

use ringmain_tests::{Driver, Job};
use serde_json::Value;

const GOOD: &str = r#"
name = "good"
[sources.in]
type = "generator"
count = 1000
seed = 1
[operators.split]
type = "route"
inputs = ["in"]
routes = { fast = "rpm > 100" }
default = "slow"
[sinks.fast]
type = "file"
inputs = ["split.fast"]
path = "fast.ndjson"
[sinks.slow]
type = "blackhole"
inputs = ["split.slow"]
when_full = "drop_newest"
"#;

/// Mistakes of every kind, in two files.
const BAD: &str = r#"name = "bad"
[sources.in]
type = "fiel"
path = "x"

[operators.a]
type = "filter"
inputs = ["inn"]
where = "rpm >"

[sinks.out]
type = "file"
inputs = ["a"]
pth = "y"
"#;

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn check_says_ok_and_names_the_flows() {
    let job = Job::flow(Driver::Auto, GOOD);
    let output = job.call(&["check", "flow-0.toml"]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), "ok: good\n"));
    assert_eq!(printed(&output), "");
}

#[test]
fn check_tells_every_error_at_once_with_its_place_and_a_suggestion() {
    let job = Job::flow(Driver::Auto, BAD).and_flow("x = 1\n");
    let output = job.call(&["check", "flow-0.toml", "flow-1.toml"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    for expected in [
        "flow-0.toml:3:8: error: ",
        "did you mean 'file'?",
        "flow-0.toml:8:11: error: ",
        "did you mean 'in'?",
        "flow-0.toml:9:15: error: ",
        "flow-0.toml:14:1: error: ",
        "did you mean 'path'?",
        "flow-1.toml:1:1: error: ",
        " 9 | where = \"rpm >\"",
        "^",
    ] {
        assert!(said.contains(expected), "'{expected}' is not in:\n{said}");
    }
}

#[test]
fn run_refuses_what_check_refuses_in_the_same_words_and_starts_nothing() {
    for bad in [BAD, "", "[sources", &GOOD.replace("rpm > 100", "rpm > > 100")] {
        let job = Job::flow(Driver::Auto, bad).without_daemon_file();
        let check = job.call(&["check", "flow-0.toml"]);
        let run = job.call(&["run", "flow-0.toml", "--summary-json", "s.json"]);
        assert_eq!(check.status.code(), Some(78), "{}", said(&check));
        assert_eq!(run.status.code(), Some(78));
        assert_eq!(said(&run), said(&check));
        assert!(!job.path("s.json").exists() && !job.path("fast.ndjson").exists());
    }
}

#[test]
fn an_expression_or_script_that_does_not_compile_is_told_with_its_place() {
    let script = GOOD.replace(
        "[sinks.fast]",
        "[operators.script]\ntype = \"lua\"\ninputs = [\"in\"]\nscript = \"broken.lua\"\n[sinks.fast]",
    );
    let job =
        Job::flow(Driver::Auto, &script).file("broken.lua", "return function(msg)\n  msg +\nend\n");
    let output = job.call(&["check", "flow-0.toml"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("broken.lua:2:") || said.contains("broken.lua:3:"), "{said}");
    assert!(said.contains("operator 'script'"), "{said}");
}

#[test]
fn a_cycle_without_a_bound_is_refused() {
    let cycle = GOOD.replace("inputs = [\"in\"]", "inputs = [\"in\", \"split.slow\"]");
    let job = Job::flow(Driver::Auto, &cycle);
    let output = job.call(&["check", "flow-0.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("bound"), "{}", said(&output));
}

#[test]
fn graph_draws_mermaid_and_dot() {
    let job = Job::flow(Driver::Auto, GOOD);
    let mermaid = job.call(&["graph", "flow-0.toml"]);
    assert_eq!(mermaid.status.code(), Some(0));
    let expected = "flowchart LR\n\
        \x20   c_in([\"in<br/>generator\"])\n\
        \x20   c_split[\"split<br/>route\"]\n\
        \x20   c_fast[/\"fast<br/>file\"/]\n\
        \x20   c_slow[/\"slow<br/>blackhole\"/]\n\
        \x20   c_in --> c_split\n\
        \x20   c_split -->|\"fast\"| c_fast\n\
        \x20   c_split -->|\"slow, drop_newest\"| c_slow\n";
    assert_eq!(printed(&mermaid), expected);
    let dot = job.call(&["graph", "flow-0.toml", "--dot"]);
    let dot = printed(&dot);
    assert!(dot.starts_with("digraph \"good\" {\n") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains("\"split\" -> \"fast\" [label=\"fast\"];"), "{dot}");
}

#[test]
fn wrong_arguments_are_told_with_the_usage() {
    let job = Job::flow(Driver::Auto, GOOD);
    for args in [&[][..], &["runn"], &["run", "--io", "epoll"], &["graph"], &["check", "--what"]] {
        let output = job.call(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains("Usage: ") || said(&output).contains("--help"), "{args:?}");
    }
}

#[test]
fn help_names_every_command_and_option() {
    let job = Job::flow(Driver::Auto, GOOD);
    let help = printed(&job.call(&["--help"]));
    for word in ["run ", "check ", "graph ", "--version"] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    let help = printed(&job.call(&["run", "--help"]));
    for word in ["[FLOW.toml]", "--config", "--summary-json", "--io", "auto", "uring", "poll"] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    let version = printed(&job.call(&["--version"]));
    assert_eq!(version, format!("ringmain {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_flow_that_is_not_there_or_no_flow_at_all_is_an_error() {
    let job = Job::flow(Driver::Auto, GOOD).without_daemon_file();
    let output = job.call(&["run", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("nowhere.toml"), "{}", said(&output));
    let output = job.call(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("there is no flow to run"), "{}", said(&output));
}

#[test]
fn the_daemon_file_names_flows_by_globs() {
    let job = Job::new(Driver::Auto).file("flows/good.toml", GOOD);
    let job = job.shards("[daemon]\nflows = \"flows/*.toml\"\n");
    assert_eq!(job.run().ok().flow, "good");
}

#[test]
fn the_summary_has_the_promised_shape_and_no_more() {
    let job = Job::flow(Driver::Auto, GOOD);
    let done = job.run();
    assert_eq!(done.ok().rows("in"), [1000, 1000, 0, 0]);
    let text = std::fs::read_to_string(job.path("summary.json")).unwrap();
    assert!(text.ends_with("}\n"));
    let json: Value = serde_json::from_str(&text).unwrap();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&json), ["components", "edges", "flow", "seconds"]);
    assert_eq!(json["flow"], "good");
    assert!(json["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(keys(&json["components"]), ["fast", "in", "slow", "split"]);
    for (_, component) in json["components"].as_object().unwrap() {
        assert_eq!(keys(component), ["bytes_in", "bytes_out", "dead", "dropped", "in", "out"]);
        assert!(component.as_object().unwrap().values().all(Value::is_u64), "{component}");
    }
    let edges: Vec<_> = json["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| {
            assert_eq!(keys(edge), ["backpressure_pct", "from", "to"]);
            let percent = edge["backpressure_pct"].as_f64().unwrap();
            assert!((0.0..=100.0).contains(&percent));
            (edge["from"].as_str().unwrap(), edge["to"].as_str().unwrap())
        })
        .collect();
    assert_eq!(edges, [("in", "split"), ("split.fast", "fast"), ("split.slow", "slow")]);
}

#[test]
fn a_person_gets_the_same_totals_on_standard_error() {
    let done = Job::flow(Driver::Auto, GOOD).run();
    let row = done.stderr.lines().find(|line| line.trim_start().starts_with("split "));
    let columns: Vec<_> = row.expect("the component has a row").split_whitespace().collect();
    assert_eq!(columns[..5], ["split", "1,000", "1,000", "0", "0"]);
    assert_eq!(done.stdout, b"", "standard output belongs to sinks");
}

#[test]
fn the_same_seed_makes_the_same_messages() {
    let flow =
        GOOD.replace("seed = 1", "seed = 1\nfields = { rpm = { type = \"int\", max = 200 } }");
    let made = |flow: &str| {
        let job = Job::flow(Driver::Auto, flow);
        let _ = job.run().ok();
        job.lines("fast.ndjson")
    };
    assert_eq!(made(&flow), made(&flow));
    assert_ne!(made(&flow), made(&flow.replace("seed = 1", "seed = 2")));
}
