//! One run of one system.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use wait4::Wait4;

use super::list::{Flow, Peer};
use crate::daemon::{free_tcp_port, status_kib, written_ns};
use crate::load::child;
use crate::measure::{Env, Wrong, monotonic_ns, on_core, verify};
use crate::sensors::{Expected, Sensor, Tally};

/// Without growth for so long, nothing comes any more.
const SILENT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What a run came to.
pub(super) struct Rate {
    pub(super) seconds: f64,
    pub(super) cpu_s: f64,
    pub(super) rss_mib: f64,
}

/// Runs a flow in a system.
pub(super) fn run(
    env: &Env,
    peer: &Peer,
    program: &Path,
    flow: Flow,
    input: &Path,
    expected: &Expected,
) -> Result<Rate, Wrong> {
    let dir = env.dir().join("peer");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).map_err(Wrong::fail)?;
    let output = dir.join("out.ndjson");
    let port = free_tcp_port()?;
    let fill = |text: &str| {
        let name = |path: &Path| path.display().to_string();
        text.replace("{INPUT}", &name(input))
            .replace("{OUTPUT}", &name(&output))
            .replace("{NAME}", "out.ndjson")
            .replace("{DIR}", &name(&dir))
            .replace("{PORT}", &port.to_string())
    };
    let (name, text) = peer.config(flow);
    let config = dir.join(name);
    fs::write(&config, fill(text)).map_err(Wrong::fail)?;
    fs::write(dir.join("daemon.toml"), "[shards]\ncores = \"0\"\n").map_err(Wrong::fail)?;
    let log = dir.join("log");
    let mut command = Command::new(program);
    let port2 = free_tcp_port()?.to_string();
    for word in peer.args {
        let config = config.display().to_string();
        command.arg(fill(&word.replace("{CONFIG}", &config).replace("{PORT2}", &port2)));
    }
    let said = File::create(&log).map_err(Wrong::fail)?;
    let also = said.try_clone().map_err(Wrong::fail)?;
    command.stdin(Stdio::null()).stdout(said).stderr(also).current_dir(&dir).process_group(0);
    let began_ns = monotonic_ns();
    // A child has the core of the thread that makes it.
    let spawned = on_core(env.cores.first().copied(), || command.spawn());
    let mut system = System { child: spawned.map_err(Wrong::fail)?, rss_kib: 0 };
    let began_ns = match flow {
        Flow::File => began_ns,
        Flow::Tcp => {
            let (to, file) = (format!("127.0.0.1:{port}"), input.display().to_string());
            let words = ["tcp", &to, "--file", &file, "--times", "1"];
            child::start(env.cores.last().copied(), &words)?.end()?.began_ns
        }
    };
    let ended_ns = system.wait_for_rows(&output, expected.marked.rows)?;
    let (cpu_s, rss_mib) = system.end()?;
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let with_log = |wrong: Wrong| match wrong {
        Wrong::Failed(why) => Wrong::Failed(format!("{why}\n{}", said())),
        skipped => skipped,
    };
    let written = tally(&output).map_err(with_log)?;
    verify("messages", written.rows, expected.marked.rows).map_err(with_log)?;
    // Some keep no order between their threads.
    verify("sum of messages", written.sum, expected.marked.sum)?;
    Ok(Rate { seconds: ended_ns.saturating_sub(began_ns) as f64 / 1e9, cpu_s, rss_mib })
}

/// A system that runs. It goes with this value.
struct System {
    child: Child,
    rss_kib: u64,
}

impl System {
    /// When the last of so many lines was written, or nothing came any more.
    fn wait_for_rows(&mut self, output: &Path, rows: u64) -> Result<u64, Wrong> {
        let (mut len, mut grown, mut counted) = (0, Instant::now(), false);
        loop {
            self.rss_kib = self.rss_kib.max(status_kib(self.child.id(), "VmHWM:").unwrap_or(0));
            let now = fs::metadata(output).map_or(0, |meta| meta.len());
            if now != len {
                (len, grown, counted) = (now, Instant::now(), false);
            } else if !counted && grown.elapsed() > Duration::from_millis(200) && len > 0 {
                if lines(output)? >= rows {
                    return Ok(written_ns(output));
                }
                counted = true;
            } else if grown.elapsed() > SILENT {
                return Ok(written_ns(output));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends it in good order: CPU time and memory.
    fn end(mut self) -> Result<(f64, f64), Wrong> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // It may have ended by itself.
        let _ = kill(pid, Signal::SIGTERM);
        let until = Instant::now() + GRACE;
        let killer = std::thread::spawn(move || {
            while Instant::now() < until {
                if kill(pid, None).is_err() {
                    return;
                }
                std::thread::sleep(LOOK_EVERY);
            }
            let _ = kill(pid, Signal::SIGKILL);
        });
        let waited = self.child.wait4().map_err(Wrong::fail)?;
        let _ = killer.join();
        let cpu = waited.rusage.utime + waited.rusage.stime;
        Ok((cpu.as_secs_f64(), self.rss_kib as f64 / 1024.0))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Harmless when it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(path: &Path) -> Result<u64, Wrong> {
    let bytes = fs::read(path).map_err(Wrong::fail)?;
    Ok(memchr::memchr_iter(b'\n', &bytes).count() as u64)
}

/// What a file holds; numbers may be written in any way that means the same.
fn tally(path: &Path) -> Result<Tally, Wrong> {
    let file = File::open(path).map_err(|error| Wrong::Failed(format!("no output: {error}")))?;
    let mut tally = Tally::default();
    for line in BufReader::with_capacity(1 << 20, file).lines() {
        let line = line.map_err(Wrong::fail)?;
        let value: Value = serde_json::from_str(&line)
            .map_err(|error| Wrong::Failed(format!("output differs: {error}: {line}")))?;
        let sensor = sensor(&value);
        tally.add(&sensor.ok_or_else(|| Wrong::Failed(format!("output differs: {line}")))?);
    }
    Ok(tally)
}

/// The message, if it has these fields with values of these kinds and no other.
fn sensor(value: &Value) -> Option<Sensor<'_>> {
    let fields = value.as_object()?;
    let text = |name: &str| fields.get(name)?.as_str();
    let number = |name: &str| fields.get(name)?.as_f64();
    let ts = number("ts")?;
    let sensor = Sensor {
        ts: ts as u64,
        device: text("device")?,
        plant: text("plant")?,
        rpm: number("rpm")?,
        temp: number("temp")?,
        status: text("status")?,
        severity: Some(text("severity")?),
    };
    (fields.len() == 7 && ts.fract() == 0.0).then_some(sensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_written_otherwise_and_fields_may_not_be_more() {
        let line = r#"{"severity":"high","ts":17.0,"device":"a","plant":"b","rpm":120.800000,
            "temp":1,"status":"ok"}"#;
        let value = serde_json::from_str(line).unwrap();
        assert_eq!(sensor(&value).map(|s| (s.ts, s.rpm)), Some((17, 120.8)));
        let mut more = value.clone();
        more["metadata"] = Value::Null;
        assert!(sensor(&more).is_none());
        let mut text = value;
        text["rpm"] = "120.8".into();
        assert!(sensor(&text).is_none());
    }
}
