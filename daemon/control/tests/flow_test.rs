//! `ringmain test`, to the letter: reports beside the flows in `flow_test/`.
//! `UPDATE_GOLDEN=1` rewrites them; read the difference before you keep it.

use std::path::{Path, PathBuf};

use ringmain_control::{TestReport, junit, test};

fn run(path: &str, filter: Option<&str>) -> TestReport {
    test(&[PathBuf::from(path)], filter).unwrap_or_else(|refused| {
        panic!("{}", refused.iter().map(ToString::to_string).collect::<String>())
    })
}

/// Relative, so that reports show the same path on every machine; cargo runs
/// tests in the folder of the package.
fn golden(name: &str, shown: &str) {
    let path = Path::new("tests/flow_test").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == shown, "{} is not as expected:\n{shown}", path.display());
}

/// Times are the only thing that differs from run to run.
fn without_times(xml: &str) -> String {
    let mut out = String::new();
    let mut rest = xml;
    while let Some(at) = rest.find(" time=\"") {
        let (head, tail) = rest.split_at(at + 7);
        out.push_str(head);
        let end = tail.find('"').unwrap();
        assert!(tail[..end].parse::<f64>().is_ok_and(|time| time >= 0.0), "{}", &tail[..end]);
        out.push('0');
        rest = &tail[end..];
    }
    out + rest
}

#[test]
fn every_kind_of_expectation_passes() {
    let report = run("tests/flow_test/passing.toml", None);
    assert_eq!((report.passed(), report.failed()), (11, 0), "\n{report}");
}

#[test]
fn every_kind_of_failure_is_explained_to_the_letter() {
    let report = run("tests/flow_test/failing.toml", None);
    assert_eq!((report.passed(), report.failed()), (0, 10), "\n{report}");
    golden("failing.txt", &report.to_string());
}

#[test]
fn ci_systems_get_the_same_as_xml() {
    let mut report = run("tests/flow_test/failing.toml", Some("script's error"));
    report.suites.extend(run("tests/flow_test/passing.toml", Some("none, count")).suites);
    golden("junit.xml", &without_times(&junit(&report)));
}

#[test]
fn what_is_wrong_with_tests_refuses_the_flow() {
    let Err(refused) = test(&[PathBuf::from("tests/flow_test/refused.toml")], None) else {
        panic!("accepted")
    };
    assert_eq!(refused.len(), 1);
    golden("refused.txt", &refused[0].to_string());
}

#[test]
fn a_filter_chooses_by_flow_and_by_name() {
    let chosen = |text| run("tests/flow_test/passing.toml", Some(text)).passed();
    assert_eq!((chosen("passing"), chosen("24 hours"), chosen("nowhere")), (11, 1, 0));
}

#[test]
fn flows_that_could_not_run_together_are_tested_together() {
    // The same file twice: the same name, the same socket.
    let paths = ["tests/flow_test/passing.toml"; 2].map(PathBuf::from);
    assert_eq!(test(&paths, None).unwrap().passed(), 22);
    let none = run("tests/flow_test/passing.toml", Some("nowhere"));
    assert_eq!(none.warnings, "warning: no test was run: the filter leaves none\n");
    assert!(test(&[], None).is_err());
    assert!(test(&[PathBuf::from("tests/nowhere.toml")], None).is_err());
}

#[test]
fn every_shipped_flow_has_tests_that_pass() {
    let root = Path::new("../..");
    let mut files = vec![root.join("config/quickstart.toml")];
    for folder in ["config/flows", "lua/operators/tests"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|e| e == "toml")));
    }
    assert!(files.len() >= 11, "{files:?}");
    for file in files {
        let report = test(std::slice::from_ref(&file), None)
            .unwrap_or_else(|refused| panic!("{}:\n{}", file.display(), refused[0]));
        assert!(report.passed() > 0, "{} has no tests", file.display());
        assert_eq!(report.failed(), 0, "{}:\n{report}", file.display());
        assert_eq!(report.warnings, "", "{}", file.display());
    }
}

#[test]
fn every_shipped_operator_is_documented_and_tested() {
    let folder = Path::new("../../lua/operators");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "lua") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let head: String = text.lines().take_while(|line| line.starts_with("--")).collect();
        for part in ["config:", "[operators.", "type = \"lua\"", &format!("script = \"{name}\"")] {
            assert!(head.contains(part), "{name}: its head lacks '{part}'");
        }
        // Every setting that is read is documented.
        for (at, _) in text.match_indices("config.") {
            let setting: String = text[at + 7..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            assert!(head.contains(&setting), "{name}: config.{setting} is not in its head");
        }
        let tests = folder.join("tests").join(&name).with_extension("toml");
        assert!(tests.exists(), "{} is missing", tests.display());
    }
    assert_eq!(count, 6);
}
