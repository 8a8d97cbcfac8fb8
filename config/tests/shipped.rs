//! Every example that is shipped loads, without a warning.

use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn loads_cleanly(path: &Path) -> ringmain_config::Plan {
    let plan = ringmain_config::load(&[path.to_path_buf()], None)
        .unwrap_or_else(|e| panic!("{}:\n{e}", path.display()));
    assert!(plan.warnings.is_empty(), "{}:\n{}", path.display(), plan.warnings);
    plan
}

#[test]
fn every_example_flow_loads_without_a_warning() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder().join("flows")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let plan = loads_cleanly(&path);
            let stem = path.file_stem().unwrap().to_string_lossy();
            assert_eq!(plan.flows[0].name.value, stem, "the name is the file's");
            count += 1;
        }
    }
    assert!(count >= 4);
}

#[test]
fn the_quickstart_is_finite_and_writes_below_target() {
    let plan = loads_cleanly(&folder().join("quickstart.toml"));
    let flow = &plan.flows[0];
    assert!(flow.is_finite());
    let ringmain_config::SinkKind::File(file) = &flow.sinks[0].kind else { panic!("a file") };
    assert_eq!(file.path.literal(), Some("target/quickstart.ndjson"));
}

#[test]
fn the_daemon_file_brings_its_flows_with_it() {
    let path = folder().join("ringmain.toml");
    let plan = ringmain_config::load(&[], Some(&path)).unwrap_or_else(|e| panic!("{e}"));
    assert!(plan.warnings.is_empty(), "{}", plan.warnings);
    assert!(plan.flows.len() >= 4);
    assert_eq!(plan.shards.memory_bytes, 512 << 20);
}

#[test]
fn a_file_that_is_named_twice_is_loaded_once() {
    let daemon = folder().join("ringmain.toml");
    let files = [folder().join("flows"), folder().join("flows/tail.toml"), daemon.clone()];
    for daemon in [None, Some(daemon.as_path())] {
        let plan = ringmain_config::load(&files, daemon).unwrap_or_else(|e| panic!("{e}"));
        let count = std::fs::read_dir(folder().join("flows")).unwrap().count();
        assert_eq!(plan.flows.len(), count);
    }
}
