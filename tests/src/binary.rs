//! Where the binary under test is: beside the test's own executable.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Names a binary that is to be tested in place of the built one.
const OVERRIDE: &str = "RINGMAIN_TEST_BINARY";

/// The ringmain binary of the profile that the test was built with. Built when
/// it is missing or older than one of its sources, once per test program.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn ringmain() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| std::env::var_os(OVERRIDE).map_or_else(find, PathBuf::from))
}

fn find() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile_dir = test.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let binary = profile_dir.join("ringmain");
    if !is_current(&binary) {
        build(profile_dir);
    }
    assert!(binary.is_file(), "{} is not there after building it", binary.display());
    binary
}

/// Whether no source is younger than the binary, by the list of sources that
/// cargo leaves beside it.
fn is_current(binary: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    let Some(built) = changed(binary) else { return false };
    let Ok(list) = std::fs::read_to_string(binary.with_extension("d")) else { return false };
    let Some((_, sources)) = list.split_once(": ") else { return false };
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources.split_whitespace().map(|source| source.replace('\0', " "));
    sources.all(|source| changed(Path::new(&source)).is_some_and(|at: SystemTime| at <= built))
}

fn build(profile_dir: &Path) {
    let folder = profile_dir.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    let profile = if folder == "debug" { "dev" } else { folder };
    let target_dir = profile_dir.parent().expect("a profile's folder is in target");
    // Of the whole workspace, and with a test: cargo then gives the dependencies
    // the features that they have in `cargo test --workspace`, and does not
    // compile them all a second time for this binary alone.
    let what = ["build", "--quiet", "--workspace", "--bin", "ringmain", "--test", "tidy"];
    let status = Command::new(env!("CARGO"))
        .args(what)
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .current_dir(workspace())
        .status()
        .expect("cargo runs");
    assert!(status.success(), "cargo build -p ringmain failed");
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}
