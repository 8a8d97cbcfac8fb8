//! What the figures were measured on, as far as the system tells.

use std::fmt;
use std::fs;

use serde::Serialize;

/// Above this others were at work, and figures are lower than they could be.
const LOAD_QUIET: f64 = 0.5;

/// The machine, read once at the start.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    load_average: f64,
    build: &'static str,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = text("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']))
            .to_owned();
        let load = text("/proc/loadavg");
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, load_average, build } = self;
        writeln!(f, "{cpu}, {cores} cores, Linux {kernel}, load {load_average:.2}, {build} build")?;
        if *load_average > LOAD_QUIET {
            writeln!(f, "warning: others are at work here; trust ratios and CPU times, not rates")?;
        }
        if cfg!(debug_assertions) {
            writeln!(f, "warning: a debug build says nothing about rates; use --release")?;
        }
        Ok(())
    }
}
