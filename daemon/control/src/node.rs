//! How the machine is used: CPU time by shard, memory of the process. Read
//! from /proc once per reading.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ringmain_runtime::Monitor;

/// One shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardSample {
    /// The thread's name.
    pub name: String,
    /// CPU time so far.
    pub cpu_us: u64,
    /// Part of the time since the last reading, in percent of a core.
    pub cpu_pct: f64,
    pub turns: u64,
    pub longest_turn_us: u64,
}

/// One reading of the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeSample {
    pub shards: Vec<ShardSample>,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// What slabs have grown by beyond their standard size.
    pub grown_bytes: u64,
}

/// Where the kernel shows each shard's thread, and what it showed last.
#[derive(Debug, Default)]
pub(crate) struct ShardTasks {
    paths: BTreeMap<String, PathBuf>,
    cpu_us: BTreeMap<String, u64>,
    at_us: u64,
}

pub(crate) fn sample(
    monitors: &[Monitor],
    tasks: &mut ShardTasks,
    grown_bytes: u64,
    now_us: u64,
) -> NodeSample {
    let lasted_us = now_us.saturating_sub(tasks.at_us).max(1);
    tasks.at_us = now_us;
    let shards = monitors.iter().map(|monitor| {
        let name = monitor.name();
        let heartbeat = monitor.heartbeat();
        let cpu_us = cpu_us(tasks, name).unwrap_or(0);
        let was = tasks.cpu_us.insert(name.to_owned(), cpu_us);
        let used_us = was.map_or(0, |was| cpu_us.saturating_sub(was));
        ShardSample {
            name: name.to_owned(),
            cpu_us,
            cpu_pct: used_us as f64 * 100.0 / lasted_us as f64,
            turns: heartbeat.turns,
            longest_turn_us: heartbeat.longest_turn_us,
        }
    });
    let shards = shards.collect();
    NodeSample { shards, resident_bytes: resident_bytes().unwrap_or(0), grown_bytes }
}

/// CPU time of the thread of that name.
fn cpu_us(tasks: &mut ShardTasks, name: &str) -> Option<u64> {
    if !tasks.paths.contains_key(name) {
        let path = find(name)?;
        tasks.paths.insert(name.to_owned(), path);
    }
    // Time on a CPU in nanoseconds, time waiting for one, slices.
    let text = fs::read_to_string(tasks.paths.get(name)?.join("schedstat")).ok()?;
    let ns: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(ns / 1_000)
}

fn find(name: &str) -> Option<PathBuf> {
    // The kernel keeps 15 bytes of a name.
    let short = &name.as_bytes()[..name.len().min(15)];
    let tasks = fs::read_dir("/proc/self/task").ok()?.filter_map(Result::ok);
    let mut paths = tasks.map(|task| task.path());
    paths.find(|path| fs::read(path.join("comm")).is_ok_and(|comm| comm.trim_ascii_end() == short))
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_its_thread_is_found_by_name() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 0));
        let named = std::thread::Builder::new().name("a-thread-with-a-long-name".into());
        let found = named.spawn(|| cpu_us(&mut ShardTasks::default(), "a-thread-with-a-long-name"));
        assert!(found.unwrap().join().unwrap().is_some());
    }
}
