//! A daemon that listens and gets nothing, with its default memory: CPU time
//! per second over all its threads, and its size.
//!
//! Measured after the first half second, so without its start.

use std::thread;
use std::time::{Duration, Instant};

use super::Round;
use crate::daemon::{Daemon, cpu_s, free_tcp_port, status_kib};
use crate::measure::{Env, Wrong, verify};
use crate::report::Figure;

const TARGET_CPU_PERCENT: f64 = 0.5;
const TARGET_RSS_MIB: f64 = 60.0;
const SETTLE: Duration = Duration::from_millis(500);

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(|env| {
        let port = free_tcp_port()?;
        let flow = format!(
            "name = \"idle\"
[sources.in]
type = \"tcp\"
listen = \"127.0.0.1:{port}\"
[sinks.out]
type = \"blackhole\"
inputs = [\"in\"]
"
        );
        let daemon = Daemon::start(env, "idle", &flow, "auto")?;
        // Someone looks in, so that it is known to listen.
        drop(crate::daemon::connect(port)?);
        thread::sleep(SETTLE);
        let gone = || Wrong::fail("the daemon has ended by itself");
        let pid = daemon.pid();
        let (start, before) = (Instant::now(), cpu_s(pid).ok_or_else(gone)?);
        thread::sleep(Duration::from_secs_f64(env.amount.seconds()));
        let spent = cpu_s(pid).ok_or_else(gone)? - before;
        let percent = 100.0 * spent / start.elapsed().as_secs_f64();
        let rss = status_kib(pid, "VmRSS:").ok_or_else(gone)? as f64 / 1024.0;
        daemon.stop()?;
        let ended = daemon.end()?;
        verify("messages", ended.summary.of("in")?.rows_out, 0)?;
        Ok(vec![
            Figure::new("CPU time, all shards", percent, "%").at_most(TARGET_CPU_PERCENT),
            Figure::new("memory", rss, "MiB").at_most(TARGET_RSS_MIB),
        ])
    }))
}
