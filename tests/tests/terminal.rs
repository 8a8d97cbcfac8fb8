//! On a terminal a run shows a table that is drawn over the last one; log lines
//! stand above it.

use std::process::Command;

use ringmain_tests::{Driver, Job, binary};

const FLOW: &str = r#"
name = "seen"
[sources.in]
type = "generator"
count = 2500
rate = 1000
[operators.some]
type = "filter"
inputs = ["in"]
where = "rpm > 100"
[sinks.out]
type = "blackhole"
inputs = ["some"]
"#;

/// The job's output when it is run on a terminal.
fn on_a_terminal(job: &Job) -> String {
    let core = ringmain_tests::machine::cores()[0];
    job.write("d.toml", format!("[shards]\ncores = \"{core}\"\n"));
    let program = binary::ringmain().display();
    let call = format!("stty cols 60 rows 20; {program} run -c d.toml flow-0.toml");
    let mut command = Command::new("script");
    command.args(["-qec", &call, "/dev/null"]).current_dir(job.path(""));
    let output = command.output().expect("script (bsdutils) is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_terminal_shows_a_table_in_place_and_then_the_summary() {
    let text = on_a_terminal(&Job::flow(Driver::Auto, FLOW));
    // Head, three components, two edges: drawn over itself at least once.
    let tables: Vec<_> = text.split("\u{1b}[6A\u{1b}[J").collect();
    assert!(tables.len() >= 2, "{text:?}");
    for row in ["in/s", "  in  ", "  some  ", "  out  ", "in -> some: backpressure 0 %"] {
        assert!(tables[1].contains(row), "{row}: {text:?}");
    }
    assert!(tables.last().unwrap().contains("2,500"), "{text:?}");
    assert!(text.lines().all(|line| !line.contains("backpressure") || line.len() < 80));
}
