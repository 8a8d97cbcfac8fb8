//! Style and architecture as a test: what can be read off the sources is not
//! left to review. Each rule names what to do instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates by floor. A crate imports from lower floors only.
const FLOORS: [(&str, u8); 16] = [
    ("ringmain-base", 1),
    ("ringmain-ring", 1),
    ("ringmain-slab", 1),
    ("ringmain-codec", 2),
    ("ringmain-metrics", 2),
    ("ringmain-config", 2),
    ("ringmain-ops", 3),
    ("ringmain-lua", 3),
    ("ringmain-runtime", 3),
    ("ringmain-connectors", 4),
    ("ringmain-shard", 5),
    ("ringmain-control", 6),
    ("ringmain", 7),
    ("ringmain-bench", 9),
    ("ringmain-counts", 9),
    ("ringmain-tests", 9),
];

/// Edges that are allowed although they do not go down: base is the ground
/// that slab stands on, and Lua operators are operators.
const LEVEL_EDGES: [(&str, &str); 2] =
    [("ringmain-slab", "ringmain-base"), ("ringmain-lua", "ringmain-ops")];

/// Edges that go down and are forbidden all the same.
const FORBIDDEN_EDGES: [(&str, &[&str]); 4] = [
    ("ringmain-runtime", &["ringmain-slab", "ringmain-codec", "ringmain-config"]),
    ("ringmain-ops", &["ringmain-ring", "ringmain-config"]),
    ("ringmain-codec", &["ringmain-config"]),
    ("ringmain-control", &["ringmain-codec"]),
];

/// Outside crates that only some of ours may import.
const OWNERS: [(&str, &[&str]); 9] = [
    ("glommio-ng", &["ringmain-runtime"]),
    ("io-uring", &["ringmain-runtime"]),
    ("core_affinity", &["ringmain-runtime", "ringmain-bench"]),
    ("mlua", &["ringmain-lua", "ringmain-bench"]),
    ("rumqttc", &["ringmain-connectors", "ringmain-control", "ringmain-bench"]),
    // A broker for tests, with a runtime of its own in a process of its own.
    ("rumqttd", &["ringmain-tests"]),
    ("toml", &["ringmain-config"]),
    ("clap", &["ringmain", "ringmain-bench"]),
    ("tokio", &["ringmain-hosted", "ringmain-control", "ringmain-cluster", "ringmain"]),
];

const UNSAFE_CRATES: [&str; 4] = ["daemon/ring/", "daemon/slab/", "daemon/runtime/", "lua/"];

const FILE_LINES_MAX: usize = 1000;

/// What must not be written, and what to do instead. Spelt in two parts so
/// that this file does not contain it.
const BANS: [(&str, &str, &str); 8] = [
    ("todo", "!(", "write it, or leave it out and say so in ARCHITECTURE.md"),
    ("unimplemented", "!(", "write it, or return an error that says what to do"),
    ("dbg", "!(", "use tracing, or a test"),
    ("FIX", "ME", "fix it, or file it"),
    ("XX", "X:", "fix it, or file it"),
    ("#[ign", "ore]", "give the reason: ignore = \"why\""),
    ("std::sync::mpsc::", "channel(", "use sync_channel: every queue has a bound"),
    ("unbounded", "_channel", "every queue has a bound"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// Every source file below the root, relative to it, with its text.
fn sources() -> BTreeMap<String, String> {
    let root = root();
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let skipped = name.starts_with('.') || name.starts_with("target");
                if !skipped && name != "proptest-regressions" {
                    folders.push(path);
                }
            } else if ["rs", "lua", "sh"].iter().any(|e| path.extension().is_some_and(|x| x == *e))
            {
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                files.insert(relative, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(files.len() > 50, "the sources were not found");
    files
}

/// Normal dependencies by package.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let normal = |package: &serde_json::Value| -> Vec<String> {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|d| d["kind"].is_null());
        normal.map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    packages.map(|p| (p["name"].as_str().unwrap().to_owned(), normal(p))).collect()
}

fn assert_none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn imports_go_down() {
    let floors: BTreeMap<_, _> = FLOORS.into_iter().collect();
    let mut breaches = Vec::new();
    for (package, dependencies) in dependencies() {
        let Some(floor) = floors.get(package.as_str()) else {
            breaches.push(format!("{package} stands on no floor: add it to FLOORS"));
            continue;
        };
        for dependency in dependencies.iter().filter(|d| d.starts_with("ringmain-")) {
            let level = LEVEL_EDGES.contains(&(package.as_str(), dependency.as_str()));
            if floors[dependency.as_str()] >= *floor && !level {
                breaches.push(format!("{package} imports {dependency}, which is not below it"));
            }
        }
        for (from, forbidden) in FORBIDDEN_EDGES.iter().filter(|(from, _)| *from == package) {
            for to in forbidden.iter().filter(|to| dependencies.iter().any(|d| d == *to)) {
                breaches.push(format!("{from} must not know {to}: see ARCHITECTURE.md"));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn outside_crates_are_imported_by_their_owners_only() {
    let mut breaches = Vec::new();
    for (package, dependencies) in dependencies() {
        for (outside, owners) in OWNERS {
            if dependencies.iter().any(|d| d == outside) && !owners.contains(&package.as_str()) {
                breaches.push(format!("{package} imports {outside}; only {owners:?} may"));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn unsafe_stands_in_four_crates_only() {
    let mut breaches = Vec::new();
    for (file, text) in sources() {
        let allowed = UNSAFE_CRATES.iter().any(|folder| file.starts_with(folder));
        if !file.ends_with(".rs") || allowed {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let keyword = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
            if keyword.iter().any(|k| code.contains(k)) && !code.contains('"') {
                breaches.push(format!("{file}:{}: move it to ring, slab, runtime or lua", at + 1));
            }
        }
        let is_root = ["src/lib.rs", "src/main.rs"].iter().any(|root| file.ends_with(root));
        if is_root && !text.contains("#![forbid(unsafe_code)]") {
            breaches.push(format!("{file}: add #![forbid(unsafe_code)]"));
        }
    }
    assert_none(breaches);
}

#[test]
fn files_are_short() {
    let long = |(file, text): (String, String)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{file}: {lines} lines; split it"))
    };
    assert_none(sources().into_iter().filter_map(long).collect());
}

#[test]
fn nothing_is_left_unwritten() {
    let mut breaches = Vec::new();
    for (file, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            for (head, tail, instead) in BANS {
                if line.contains(&format!("{head}{tail}")) {
                    breaches.push(format!("{file}:{}: {head}{tail}: {instead}", at + 1));
                }
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn every_crate_says_what_it_owns() {
    let mut breaches = Vec::new();
    for (file, text) in sources() {
        let is_root = ["src/lib.rs", "src/main.rs"].iter().any(|root| file.ends_with(root));
        if is_root && !text.starts_with("//!") {
            breaches.push(format!("{file}: begin with //! and what the crate owns"));
        }
    }
    assert_none(breaches);
}

#[test]
fn the_top_level_is_the_agreed_one() {
    let agreed = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "bench",
        "config",
        "daemon",
        "lua",
        "ops",
        "rustfmt.toml",
        "tests",
    ];
    let entries = fs::read_dir(root()).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let visible = names.filter(|name| !name.starts_with('.') && !name.starts_with("target"));
    let found: Vec<_> = visible.filter(|name| !agreed.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "not agreed at the top level: {found:?}");
    for name in agreed {
        assert!(root().join(name).exists(), "{name} is missing");
    }
}
