//! `ringmain test` as programs see it: exit codes, and which stream says what.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const FLOW: &str = r#"
[sources.in]
type = "stdin"

[operators.hot]
type = "filter"
inputs = ["in"]
where = "t > 90"

[sinks.out]
type = "stdout"
inputs = ["hot"]

[[tests]]
name = "hot passes"
insert = [{ at = "in", json = '{"t":91}' }]
expect = [{ at = "out", count = 1 }]
"#;

fn ringmain(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_exit_code_tells_passed_failed_and_refused_apart() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("good.toml", FLOW);
    let good = ringmain(folder.path(), &["test", "good.toml"]);
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(text(&good.stdout), "ok    good: hot passes\n1 passed, 0 failed\n");
    assert_eq!(text(&good.stderr), "");

    write("bad.toml", &FLOW.replace("91", "90"));
    let bad = ringmain(folder.path(), &["test", ".", "--junit", "report.xml"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).contains("bad.toml:17: out: expected a count of 1, got 0\n"));
    assert!(text(&bad.stdout).ends_with("\n1 passed, 1 failed\n"));
    let xml = fs::read_to_string(folder.path().join("report.xml")).unwrap();
    assert!(xml.contains("tests=\"2\" failures=\"1\""));

    let chosen = ringmain(folder.path(), &["test", ".", "--filter", "good"]);
    assert_eq!(chosen.status.code(), Some(0));

    write("refused.toml", &FLOW.replace("where", "wher"));
    let refused = ringmain(folder.path(), &["test", "good.toml", "refused.toml"]);
    assert_eq!(refused.status.code(), Some(78));
    assert_eq!(text(&refused.stdout), "");
    assert!(text(&refused.stderr).contains("refused.toml:8:1: error: unknown key 'wher'"));
    assert_eq!(ringmain(folder.path(), &["test"]).status.code(), Some(2));
}

#[test]
fn check_finds_mistakes_in_tests() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flow.toml"), FLOW.replace("{\"t\":91}", "{\"t\":}")).unwrap();
    let refused = ringmain(folder.path(), &["check", "flow.toml"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains("error: not valid JSON: expected value"));
}
