//! Sensor lines as `make_sensors.py` writes them, the same for the same seed,
//! and what becomes of them, computed without the daemon.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::binary::workspace;

/// A small generator of numbers (xorshift64*): tests must not change with a
/// library's version.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed, the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// `count` lines.
#[must_use]
pub fn lines(count: usize, seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::with_capacity(count * 110);
    let mut ts = 1_732_270_000_000_u64;
    for _ in 0..count {
        ts += random.below(4);
        let (device, plant) = (random.below(1000), random.below(10));
        let rpm = (400 + random.below(1201)) as f64 / 10.0;
        let temp = (2000 + random.below(9001)) as f64 / 100.0;
        let status = ["ok", "ok", "ok", "warn"][random.below(4) as usize];
        let _ = writeln!(
            text,
            "{{\"ts\":{ts},\"device\":\"motor-{device:04}\",\"plant\":\"plant-{plant}\",\
             \"rpm\":{rpm:.1},\"temp\":{temp:.2},\"status\":\"{status}\"}}"
        );
    }
    text
}

/// `count` lines with a running number per key: `{"key":"k3","seq":17}`.
#[must_use]
pub fn numbered(count: usize, keys: usize, seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut next = vec![0_u64; keys];
    let mut text = String::with_capacity(count * 24);
    for _ in 0..count {
        let key = random.below(keys as u64) as usize;
        let _ = writeln!(text, "{{\"key\":\"k{key}\",\"seq\":{}}}", next[key]);
        next[key] += 1;
    }
    text
}

/// The lines as JSON.
///
/// # Panics
/// When one is not JSON.
#[must_use]
pub fn parse(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// What `where = "rpm > 100"` and `set = { severity = "'high'" }` make of the
/// lines.
///
/// # Panics
/// When a line is not a sensor's.
#[must_use]
pub fn alerts(lines: &str) -> Vec<Value> {
    let mut alerts = parse(lines);
    alerts.retain(|line| line["rpm"].as_f64().expect("rpm is a number") > 100.0);
    for alert in &mut alerts {
        alert["severity"] = Value::from("high");
    }
    alerts
}

/// A file among the shared data, which not every checkout has. Looked for in
/// `$RINGMAIN_SHARED` and beside the workspace; says so when it is not there.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("RINGMAIN_SHARED").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| workspace().join("../shared"));
    let found = folder.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("note: {} is not there, so this test did not use it", found.display());
    None
}
