//! What the figures were measured on and with, as far as the system tells.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;

/// Above this others were at work, and figures are lower than they could be.
const LOAD_QUIET: f64 = 0.5;

/// The machine and the versions, read once at the start.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    /// The hypervisor's mark, where there is one.
    pub(crate) virtual_machine: bool,
    pub(crate) kernel: String,
    pub(crate) load_average: f64,
    pub(crate) build: &'static str,
    pub(crate) version: &'static str,
    pub(crate) commit: String,
    pub(crate) rustc: &'static str,
    /// UTC.
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']))
            .to_owned();
        let load = text("/proc/loadavg");
        let kib = text("/proc/meminfo").split_whitespace().nth(1).and_then(|n| n.parse().ok());
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.unwrap_or(0.0) / f64::from(1 << 20),
            virtual_machine: cpuinfo.contains(" hypervisor"),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            rustc: env!("BENCH_RUSTC"),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        }
    }
}

/// The commit of the sources, marked when they were changed since.
fn commit() -> String {
    let git = |words: &[&str]| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let output = Command::new("git").args(["-C", dir]).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // What a run writes itself is no change of what is measured.
    let changed =
        git(&["status", "--porcelain", "-uno", "--", ":!bench/RESULTS.md", ":!bench/results"]);
    let changed = changed.is_some_and(|list| !list.is_empty());
    commit + if changed { " with changes" } else { "" }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, load_average, build, version, commit, rustc, date, .. } =
            self;
        let (virt, memory) = (if self.virtual_machine { "virtual, " } else { "" }, self.memory_gib);
        writeln!(
            f,
            "{cpu}, {virt}{cores} cores, {memory:.0} GiB, Linux {kernel}, load {load_average:.2}"
        )?;
        writeln!(f, "{date}, ringmain {version} at {commit}, {rustc}, {build} build")?;
        if *load_average > LOAD_QUIET {
            writeln!(f, "warning: others are at work here; trust ratios and CPU times, not rates")?;
        }
        if cfg!(debug_assertions) {
            writeln!(f, "warning: a debug build says nothing about rates; use --release")?;
        }
        Ok(())
    }
}
