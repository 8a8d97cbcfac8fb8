//! The whole daemon with a sink whose peer takes nothing for a while: what it
//! holds does not grow, its source stands still, and nothing is lost.
//!
//! A generator as fast as it can, a TCP sink, and this program as the peer: it
//! accepts, reads nothing for the time given, then everything. Measured: memory
//! from when the queues are full until the peer reads again; CPU time meanwhile;
//! the rate afterwards. Verified: every message came, once and in order.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::Round;
use crate::daemon::{Daemon, cpu_s, status_kib};
use crate::measure::{Env, Wrong, on_core, verify};
use crate::report::{CurveKind, Figure};

const TARGET_GROWTH_MIB: f64 = 1.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// Until the queues are full.
const SETTLE: Duration = Duration::from_millis(300);
/// A stall of less shows nothing.
const STALL_S_MIN: f64 = 0.3;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(round))
}

fn round(env: &Env) -> Result<Vec<Figure>, Wrong> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Wrong::fail)?;
    let port = listener.local_addr().map_err(Wrong::fail)?.port();
    let daemon = Daemon::start(env, "backpressure", &flow(port), "0")?;
    let (stream, _) = listener.accept().map_err(Wrong::fail)?;
    let mut memory = Memory { pid: daemon.pid(), start: Instant::now(), points: Vec::new() };
    memory.watch(SETTLE);
    let gone = || Wrong::fail("the daemon has ended by itself");
    let full = memory.points.len().saturating_sub(1);
    let cpu = cpu_s(daemon.pid()).ok_or_else(gone)?;
    let stall = env.amount.seconds().max(STALL_S_MIN);
    memory.watch(Duration::from_secs_f64(stall));
    let stalled = memory.points.len();
    let busy = cpu_s(daemon.pid()).ok_or_else(gone)? - cpu;
    let flowing = Duration::from_secs_f64(stall / 2.0);
    let core = env.cores.last().copied();
    let took = thread::scope(|scope| {
        let reader = scope.spawn(move || on_core(core, || take_all(stream)));
        memory.watch(flowing);
        daemon.stop()?;
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(Wrong::fail)
    })?;
    let ended = daemon.end()?;
    let (made, out) = (ended.summary.of("in")?, ended.summary.of("out")?);
    verify("messages sent", out.rows_out, made.rows_out)?;
    verify("messages received in order", took.rows, made.rows_out)?;
    let mib = |points: &[(f64, f64)]| points.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
    let growth = mib(&memory.points[full..stalled]) - memory.points[full].1;
    let rate = took.rows as f64 / took.seconds.max(1e-9) / 1e6;
    let most = mib(&memory.points);
    Ok(vec![
        Figure::new("growth of memory while stalled", growth, "MiB").at_most(TARGET_GROWTH_MIB),
        Figure::new("most memory", most, "MiB").curve(CurveKind::Memory, memory.points),
        Figure::new("CPU time while stalled", 100.0 * busy / stall, "%"),
        Figure::rate("afterwards: messages", rate).proof(took.rows, took.rows),
    ])
}

/// Samples of a process's memory.
struct Memory {
    pid: u32,
    start: Instant,
    points: Vec<(f64, f64)>,
}

impl Memory {
    fn watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if let Some(kib) = status_kib(self.pid, "VmRSS:") {
                self.points.push((self.start.elapsed().as_secs_f64(), kib as f64 / 1024.0));
            }
            thread::sleep(SAMPLE_EVERY);
        }
    }
}

/// What the peer took.
pub(super) struct Took {
    pub(super) rows: u64,
    pub(super) seconds: f64,
}

/// Reads to the end. Each line has to have the number of its place.
pub(super) fn take_all(mut stream: TcpStream) -> std::io::Result<Took> {
    let (start, mut rows) = (Instant::now(), 0);
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    loop {
        let got = stream.read(&mut buffer[filled..])?;
        if got == 0 {
            return Ok(Took { rows, seconds: start.elapsed().as_secs_f64() });
        }
        filled += got;
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..filled]) {
            let line = &buffer[begin..end];
            if number(line) != Some(rows) {
                let line = String::from_utf8_lossy(line);
                return Err(std::io::Error::other(format!("line {rows} is {line}")));
            }
            rows += 1;
            begin = end + 1;
        }
        buffer.copy_within(begin..filled, 0);
        filled -= begin;
    }
}

/// The number with which a line begins.
fn number(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"i\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn flow(port: u16) -> String {
    format!(
        "name = \"backpressure\"
[sources.in]
type = \"generator\"
seed = 7
[sources.in.fields]
i = {{ type = \"sequence\" }}
device = {{ type = \"name\", prefix = \"motor-\", count = 1000, digits = 4 }}
pad = {{ type = \"const\", value = \"{}\" }}
[sinks.out]
type = \"tcp\"
inputs = [\"in\"]
address = \"127.0.0.1:{port}\"
retry = {{ min = \"10ms\", max = \"20ms\" }}
",
        "x".repeat(60)
    )
}
