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

use crate::measure::{Env, Wrong, verify};

const SAMPLE_EVERY: Duration = Duration::from_millis(5);
/// How long the daemon may take to listen, or to read what it was sent.
const DEADLINE: Duration = Duration::from_secs(30);

/// `ringmain` in the folder of this program, or in the one above (tests run
/// from `deps`).
pub(crate) fn beside_this_program() -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    let folders = me.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("ringmain")).find(|path| path.is_file())
}

/// What `--summary-json` says.
#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
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
    /// From before the process was made until it was gone.
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    /// Most memory that it had at once.
    pub(crate) rss_mib: f64,
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
        let ringmain = env.ringmain()?;
        let file = |end: &str| env.dir().join(format!("{name}{end}"));
        let (config, plan) = (file(".daemon.toml"), file(".toml"));
        let (log, summary) = (file(".log"), file(".json"));
        fs::write(&config, format!("[shards]\ncores = \"{cores}\"\n")).map_err(Wrong::fail)?;
        fs::write(&plan, flow).map_err(Wrong::fail)?;
        let _ = fs::remove_file(&summary);
        let start = Instant::now();
        let child = Command::new(ringmain)
            .arg("run")
            .arg("-c")
            .args([&config, &plan])
            .arg("--summary-json")
            .arg(&summary)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(Wrong::fail)?)
            .spawn()
            .map_err(|error| Wrong::Failed(format!("{}: {error}", ringmain.display())))?;
        Ok(Self { child, start, log, summary })
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
        let summary = self.summary(waited.status)?;
        let cpu = waited.rusage.utime + waited.rusage.stime;
        let rss_mib = peak_kib.into_inner() as f64 / 1024.0;
        Ok(Ended { summary, wall_s, cpu_s: cpu.as_secs_f64(), rss_mib })
    }

    fn summary(&self, status: ExitStatus) -> Result<Summary, Wrong> {
        if !status.success() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            return Err(Wrong::Failed(format!("the daemon ended with {status}: {log}")));
        }
        let text = fs::read_to_string(&self.summary).map_err(Wrong::fail)?;
        let summary: Summary = serde_json::from_str(&text).map_err(Wrong::fail)?;
        for (name, totals) in &summary.components {
            let Totals { rows_in, rows_out, dropped, dead } = *totals;
            verify(&format!("{name}: in against the rest"), rows_in, rows_out + dropped + dead)?;
        }
        Ok(summary)
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

fn poll<T>(wrong: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Wrong> {
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
