//! Programs that nobody here wrote, pinned in `tests/clients`, installed into
//! the target folder when a test asks for them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::binary::workspace;

/// A folder with `node_modules` and the scripts of `tests/clients`.
///
/// # Panics
/// When node or npm is missing, or the packages cannot be installed.
#[must_use]
pub fn node() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let home = folder("node");
        copy(&["package.json", "package-lock.json", "jolokia.mjs"], &home);
        let npm = |home: &Path| {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]);
            npm.arg("--loglevel=error").current_dir(home);
            finish(npm, "nodejs npm");
        };
        install(&home, "package-lock.json", npm);
        home
    })
}

/// The folder of programs of a Python environment.
///
/// # Panics
/// When Python or its venv is missing, or the packages cannot be installed.
#[must_use]
pub fn python() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let home = folder("python");
        copy(&["requirements.txt"], &home);
        let pip = |home: &Path| {
            let mut venv = Command::new("python3");
            venv.args(["-m", "venv", "--clear", "venv"]).current_dir(home);
            finish(venv, "python3-venv");
            let mut pip = Command::new(home.join("venv/bin/pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check"]);
            pip.args(["--requirement", "requirements.txt"]).current_dir(home);
            finish(pip, "python3-venv");
        };
        install(&home, "requirements.txt", pip);
        home.join("venv/bin")
    })
}

/// Beside the profiles, so that they share it.
fn folder(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let target = test.ancestors().nth(3).expect("tests are in target/PROFILE/deps");
    let home = target.join("clients").join(name);
    std::fs::create_dir_all(&home).expect("the target folder can be written");
    home
}

fn copy(files: &[&str], home: &Path) {
    for file in files {
        let from = workspace().join("tests/clients").join(file);
        std::fs::copy(&from, home.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}

/// Unless what the list asks for is there.
fn install(home: &Path, list: &str, install: impl Fn(&Path)) {
    let (wanted, stamp) = (std::fs::read(home.join(list)).expect("copied"), home.join("installed"));
    if std::fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        install(home);
        std::fs::write(&stamp, wanted).expect("the target folder can be written");
    }
}

fn finish(mut command: Command, packages: &str) {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "{program}: {error}: tests/run installs it, or: apt-get install -y \
             --no-install-recommends {packages}"
        )
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}
