//! What an operator sees for each mistake, to the letter: one file (or folder)
//! in `bad/` per mistake, the expected text beside it. `UPDATE_GOLDEN=1`
//! rewrites the expectations; read the difference before you keep it.

use std::path::{Path, PathBuf};

use ringmain_config::{Diagnostics, Loader};

const CASES_MIN: usize = 60;

fn cases() -> Vec<PathBuf> {
    // Relative, so that messages show the same path on every machine; cargo
    // runs tests in the folder of the package.
    let mut cases: Vec<PathBuf> = std::fs::read_dir("tests/bad")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.is_dir() || p.extension().is_some_and(|e| e == "toml"))
        .collect();
    cases.sort();
    cases
}

fn load(path: &Path) -> Result<Diagnostics, Diagnostics> {
    let env = |name: &str| (name == "ROOT").then(|| "/data".to_owned());
    let loader = Loader::new().env(env);
    let daemon = path.file_name().unwrap().to_string_lossy().starts_with("daemon_");
    let loader = if daemon { loader.daemon(path) } else { loader.file(path) };
    loader.load().map(|plan| plan.warnings)
}

#[test]
fn every_mistake_is_explained_to_the_letter() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let cases = cases();
    let mut wrong = Vec::new();
    for path in &cases {
        let warns = path.file_name().unwrap().to_string_lossy().starts_with("warning_");
        let (found, refused) = match load(path) {
            Ok(warnings) => (warnings, false),
            Err(errors) => (errors, true),
        };
        assert_eq!(refused, !warns, "{}:\n{found}", path.display());
        assert_eq!(found.has_errors(), refused);
        let (shown, golden) = (found.to_string(), path.with_extension("txt"));
        if update {
            std::fs::write(&golden, &shown).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n\n{}", wrong.join("\n"));
    assert!(cases.len() >= CASES_MIN, "only {} cases", cases.len());
    for entry in std::fs::read_dir("tests/bad").unwrap() {
        let path = entry.unwrap().path();
        let case = cases.contains(&path) || cases.iter().any(|c| c.with_extension("txt") == path);
        assert!(case, "{} belongs to no case", path.display());
    }
}

#[test]
fn every_line_that_is_shown_follows_the_form() {
    for path in cases() {
        let found = load(&path).unwrap_or_else(|e| e).to_string();
        for line in found.lines() {
            let (place, rest) = line.split_once(": ").unwrap_or((line, ""));
            let head = rest.starts_with("error: ") || rest.starts_with("warning: ");
            let known = line.starts_with(' ') || place == "note" || place == "help";
            assert!(head || known, "{}: {line}", path.display());
            if head {
                let numbers: Vec<&str> = place.rsplitn(3, ':').take(2).collect();
                assert!(numbers.iter().all(|n| n.parse::<u32>().is_ok_and(|n| n > 0)), "{line}");
            }
        }
    }
}
