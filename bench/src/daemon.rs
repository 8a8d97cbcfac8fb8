//! The daemon as a child process: started, watched, ended, counted.
//!
//! CPU time is what the kernel counts for the child (`wait4`). Memory is
//! VmHWM of /proc, read every few milliseconds: `ru_maxrss` begins with the
//! size of the process that forked.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use wait4::Wait4;

use crate::measure::{Env, Wrong, monotonic_ns, verify};

const SAMPLE_EVERY: Duration = Duration::from_millis(5);
/// How long the daemon may take to listen, or to read what it was sent.
const DEADLINE: Duration = Duration::from_secs(30);

/// Under `cargo run` the daemon is built first, so that no old one is measured.
pub(crate) fn built_or_beside() -> Option<PathBuf> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let me = std::env::current_exe().ok()?;
        let folder = me.parent()?.file_name()?.to_str()?;
        let profile = if folder == "debug" { "dev" } else { folder };
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "-p", "ringmain", "--profile", profile]);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo says on failure is all that there is to say.
        let _ = command.status();
    }
    beside_this_program()
}

/// `ringmain` in the folder of this program, or in the one above (tests run
/// from `deps`).
fn beside_this_program() -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    let folders = me.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("ringmain")).find(|path| path.is_file())
}

/// What `--summary-json` says of a flow.
#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
    flow: String,
    pub(crate) seconds: f64,
    components: HashMap<String, Totals>,
}

/// Counts of one component.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Totals {
    #[serde(rename = "in")]
    pub(crate) rows_in: u64,
    #[serde(rename = "out")]
    pub(crate) rows_out: u64,
    pub(crate) dropped: u64,
    pub(crate) dead: u64,
    #[serde(default)]
    pub(crate) spilled: u64,
    #[serde(default)]
    pub(crate) resent: u64,
}

/// One flow's summary, or those of several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Summaries {
    One(Summary),
    Several(Vec<Summary>),
}

impl Summary {
    pub(crate) fn of(&self, component: &str) -> Result<Totals, Wrong> {
        let missing = || Wrong::Failed(format!("the summary lacks '{component}'"));
        self.components.get(component).copied().ok_or_else(missing)
    }
}

/// A daemon that has ended well.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    /// Those of further flows.
    others: Vec<Summary>,
    /// From before the process was made until it was gone.
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    /// Most memory that it had at once.
    pub(crate) rss_mib: f64,
}

impl Ended {
    /// The summary of a flow, of several.
    pub(crate) fn flow(&self, name: &str) -> Result<&Summary, Wrong> {
        let mut all = std::iter::once(&self.summary).chain(&self.others);
        let missing = || Wrong::Failed(format!("there is no summary of '{name}'"));
        all.find(|summary| summary.flow == name).ok_or_else(missing)
    }
}

/// What to start.
pub(crate) struct Setup<'a> {
    /// Of its files.
    pub(crate) name: &'a str,
    pub(crate) flows: &'a [String],
    pub(crate) cores: &'a str,
    /// More lines of the daemon's own file, before `[shards]`.
    pub(crate) config: &'a str,
}

/// A daemon that runs.
pub(crate) struct Daemon {
    child: Child,
    start: Instant,
    log: PathBuf,
    summary: PathBuf,
}

impl Daemon {
    /// Starts a flow on some cores.
    pub(crate) fn start(env: &Env, name: &str, flow: &str, cores: &str) -> Result<Self, Wrong> {
        Self::start_with(env, &Setup { name, flows: &[flow.to_owned()], cores, config: "" })
    }

    /// Starts flows with more of the daemon's own settings.
    pub(crate) fn start_with(env: &Env, setup: &Setup<'_>) -> Result<Self, Wrong> {
        let ringmain = env.ringmain()?;
        let Setup { name, flows, cores, config: more } = *setup;
        let file = |end: &str| env.dir().join(format!("{name}{end}"));
        let (config, log, summary) = (file(".daemon.toml"), file(".log"), file(".json"));
        let text = format!("{more}\n[shards]\ncores = \"{cores}\"\n");
        fs::write(&config, text).map_err(Wrong::fail)?;
        let _ = fs::remove_file(&summary);
        let mut command = Command::new(ringmain);
        command.arg("run").arg("-c").arg(&config);
        for (at, flow) in flows.iter().enumerate() {
            let plan = file(&format!("{at}.toml"));
            fs::write(&plan, flow).map_err(Wrong::fail)?;
            command.arg(&plan);
        }
        command.arg("--summary-json").arg(&summary).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).map_err(Wrong::fail)?);
        let start = Instant::now();
        let child = command.spawn();
        let child =
            child.map_err(|error| Wrong::Failed(format!("{}: {error}", ringmain.display())))?;
        Ok(Self { child, start, log, summary })
    }

    /// What it has said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to look at its files again.
    pub(crate) fn reload(&self) -> Result<(), Wrong> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGHUP).map_err(Wrong::fail)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to drain and end.
    pub(crate) fn stop(&self) -> Result<(), Wrong> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).map_err(Wrong::fail)
    }

    /// Waits for its end. A daemon that fails, or whose counts do not balance,
    /// is wrong.
    pub(crate) fn end(mut self) -> Result<Ended, Wrong> {
        let (gone, peak_kib) = (AtomicBool::new(false), AtomicU64::new(0));
        let pid = self.child.id();
        let (waited, wall_s) = thread::scope(|scope| {
            scope.spawn(|| {
                while !gone.load(Ordering::Relaxed) {
                    peak_kib.fetch_max(status_kib(pid, "VmHWM:").unwrap_or(0), Ordering::Relaxed);
                    thread::sleep(SAMPLE_EVERY);
                }
            });
            let waited = self.child.wait4();
            let wall_s = self.start.elapsed().as_secs_f64();
            gone.store(true, Ordering::Relaxed);
            (waited, wall_s)
        });
        let waited = waited.map_err(Wrong::fail)?;
        let mut others = self.summaries(waited.status)?;
        if others.is_empty() {
            return Err(Wrong::fail("the daemon has written no summary"));
        }
        let summary = others.remove(0);
        let cpu = waited.rusage.utime + waited.rusage.stime;
        let rss_mib = peak_kib.into_inner() as f64 / 1024.0;
        Ok(Ended { summary, others, wall_s, cpu_s: cpu.as_secs_f64(), rss_mib })
    }

    fn summaries(&self, status: ExitStatus) -> Result<Vec<Summary>, Wrong> {
        if !status.success() {
            return Err(Wrong::Failed(format!("the daemon ended with {status}: {}", self.said())));
        }
        let text = fs::read_to_string(&self.summary).map_err(Wrong::fail)?;
        let all = match serde_json::from_str(&text).map_err(Wrong::fail)? {
            Summaries::One(summary) => vec![summary],
            Summaries::Several(all) => all,
        };
        for (name, totals) in all.iter().flat_map(|summary| &summary.components) {
            let Totals { rows_in, rows_out, dropped, dead, .. } = *totals;
            verify(&format!("{name}: in against the rest"), rows_in, rows_out + dropped + dead)?;
        }
        Ok(all)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Harmless when it is gone; else a failed scenario must leave nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of /proc/PID/status in KiB.
pub(crate) fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU time of all threads of a process, in seconds.
pub(crate) fn cpu_s(pid: u32) -> Option<f64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let task_ns = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let ns: u64 = tasks.flatten().filter_map(task_ns).sum();
    Some(ns as f64 / 1e9)
}

/// A TCP port that was free a moment ago.
pub(crate) fn free_tcp_port() -> Result<u16, Wrong> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Wrong::fail)?;
    Ok(listener.local_addr().map_err(Wrong::fail)?.port())
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_udp_port() -> Result<u16, Wrong> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(Wrong::fail)?;
    Ok(socket.local_addr().map_err(Wrong::fail)?.port())
}

/// Connects as soon as someone listens.
pub(crate) fn connect(port: u16) -> Result<TcpStream, Wrong> {
    poll("the daemon does not listen", || TcpStream::connect(("127.0.0.1", port)).ok())
}

/// Waits until a UDP port is bound.
pub(crate) fn udp_is_bound(port: u16) -> Result<(), Wrong> {
    poll("the daemon does not bind", || udp_queue(port).map(drop))
}

/// Waits until everything that a UDP port has received is read.
pub(crate) fn udp_is_read(port: u16) -> Result<(), Wrong> {
    poll("the daemon does not read", || udp_queue(port).filter(|queue| *queue == 0).map(drop))
}

/// Bytes that wait at a UDP port, if it is bound.
fn udp_queue(port: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/udp").ok()?;
    let entry = format!(":{port:04X}");
    // `sl local_address rem_address st tx_queue:rx_queue ...`
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|line| line.get(1).is_some_and(|local| local.ends_with(&entry)))?;
    let queues = line.get(4)?;
    u64::from_str_radix(queues.split(':').nth(1)?, 16).ok()
}

pub(crate) fn poll<T>(wrong: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Wrong> {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > until {
            return Err(Wrong::fail(wrong));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A path inside TOML.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// When a file was last written, on the monotonic clock: it may have been while
/// nobody looked.
pub(crate) fn written_ns(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    let age = modified.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
    monotonic_ns() - age.as_nanos() as u64
}
