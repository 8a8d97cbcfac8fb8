//! The whole daemon and a mosquitto of its own, beside a client on rumqttc's
//! event loop that does the same through the same broker: publications of 100 B
//! out, and in, with QoS 0 and 1.
//!
//! Measured: out, from the start of the process until its end (with QoS 1 that
//! is the last acknowledgement); in, from the first publication that the load
//! generator sends until the last has been written to a file, by both. What is
//! received may also be kept nowhere, by both: then only CPU time counts, since
//! nobody sees when the daemon has the last one. rumqttc's client writes and
//! acknowledges whenever nothing more is at hand, as the daemon does. CPU time
//! is that of the client alone, start included. The broker is the limit of most
//! rates. Verified: out, that the broker has received every publication (QoS 1:
//! acknowledged); in, that every one arrived.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Round;
use crate::daemon::{Daemon, cpu_s, free_tcp_port, poll, quoted, written_ns};
use crate::load::child;
use crate::measure::{Env, Wrong, mix, monotonic_ns, verify};
use crate::report::Figure;
use crate::rival::{Direction, Rival};

pub(super) const TOPIC: &str = "bench/t";
const MESSAGE_BYTES: u64 = 100;
/// Times as many go out where nothing is waited for: at the rate of the others,
/// a fifth of the time would be the start of the daemon.
const UNANSWERED: u64 = 4;
/// A broker that has not worked for so long has passed everything on.
const REST: Duration = Duration::from_millis(20);
/// More than a broker carries, so that the start of processes matters less.
const GUESS_PER_S: f64 = 2e5;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    program()?;
    let count = env.amount.messages(GUESS_PER_S);
    Ok(Box::new(move |env| {
        let broker = Broker::start(env)?;
        let mut figures = Vec::new();
        for (qos, count) in [(0, UNANSWERED * count), (1, count)] {
            let ours = publish(env, &broker, count, qos)?;
            let theirs = Rival::start(Direction::Out, broker.port, count, qos)?.end()?;
            figures.extend(pair(&format!("out, QoS {qos}"), count, ours, theirs));
        }
        for qos in [0, 1] {
            let name = format!("in, QoS {qos}");
            let ours = subscribe(env, &broker, count, qos, Keep::Nowhere)?;
            let theirs = subscribe_rival(env, &broker, count, qos, Keep::Nowhere)?;
            figures.extend(cpu(&format!("{name}, kept nowhere"), count, ours, theirs));
            let ours = subscribe(env, &broker, count, qos, Keep::File)?;
            let theirs = subscribe_rival(env, &broker, count, qos, Keep::File)?;
            figures.extend(pair(&format!("{name}, to a file"), count, ours, theirs));
        }
        Ok(figures)
    }))
}

/// Seconds, and seconds of CPU time.
type Times = (f64, f64);

/// Where what is received goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nowhere,
    File,
}

fn pair(name: &str, count: u64, ours: Times, theirs: Times) -> Vec<Figure> {
    let rate = |times: Times| count as f64 / times.0 / 1e6;
    let of = |what: &str| format!("{name}: {what}");
    let mut figures = vec![
        Figure::rate(of("messages"), rate(ours)).proof(count, mix(count, 100)),
        Figure::rate(of("rumqttc"), rate(theirs)).proof(count, mix(count, 100)),
        Figure::new(format!("  {name}: rate, times rumqttc's"), rate(ours) / rate(theirs), "x")
            .at_least(1.0),
    ];
    figures.extend(cpu(name, count, ours, theirs));
    figures
}

fn cpu(name: &str, count: u64, ours: Times, theirs: Times) -> Vec<Figure> {
    let us = |times: Times| 1e6 * times.1 / count as f64;
    let of = |what: &str| format!("{name}: {what}");
    vec![
        Figure::new(of("CPU time"), us(ours), "us/msg").proof(count, mix(count, 100)),
        Figure::new(of("CPU time, rumqttc"), us(theirs), "us/msg").proof(count, mix(count, 100)),
        Figure::new(format!("  {name}: CPU time, times rumqttc's"), ours.1 / theirs.1, "x")
            .at_most(1.0),
    ]
}

fn publish(env: &Env, broker: &Broker, count: u64, qos: u8) -> Result<Times, Wrong> {
    let (port, text) = (broker.port, "x".repeat(100));
    let flow = format!(
        "name = \"mqtt-out\"
[sources.in]
type = \"generator\"
count = {count}
[sources.in.fields]
message = {{ type = \"const\", value = \"{text}\" }}
[sinks.out]
type = \"mqtt\"
inputs = [\"in\"]
url = \"mqtt://127.0.0.1:{port}\"
version = \"3.1.1\"
clean_start = true
topic = \"{TOPIC}\"
encode = \"text\"
qos = {qos}
"
    );
    let ended = Daemon::start(env, "mqtt-out", &flow, "0")?.end()?;
    verify("publications accepted", ended.summary.of("out")?.rows_out, count)?;
    Ok((ended.wall_s, ended.cpu_s))
}

fn subscribe(env: &Env, broker: &Broker, count: u64, qos: u8, keep: Keep) -> Result<Times, Wrong> {
    let (port, output) = (broker.port, env.dir().join("mqtt.out"));
    let _ = fs::remove_file(&output);
    let sink = match keep {
        Keep::Nowhere => "type = \"blackhole\"".to_owned(),
        Keep::File => {
            format!("type = \"file\"\npath = {}\nencode = \"text\"", quoted(&output))
        }
    };
    let flow = format!(
        "name = \"mqtt-in\"
[sources.in]
type = \"mqtt\"
url = \"mqtt://127.0.0.1:{port}\"
version = \"3.1.1\"
clean_start = true
topics = [\"{TOPIC}\"]
qos = {qos}
decode = \"text\"
[sinks.out]
inputs = [\"in\"]
{sink}
"
    );
    let before = broker.subscriptions();
    let daemon = Daemon::start(env, "mqtt-in", &flow, "0")?;
    broker.wait_for_more_than(before)?;
    let began_ns = feed(env, broker, count, qos)?;
    let ended_ns = match keep {
        Keep::Nowhere => {
            broker.rest()?;
            monotonic_ns()
        }
        Keep::File => whole(&output, count)?,
    };
    daemon.stop()?;
    let ended = daemon.end()?;
    verify("publications received", ended.summary.of("out")?.rows_out, count)?;
    Ok((ended_ns.saturating_sub(began_ns) as f64 / 1e9, ended.cpu_s))
}

fn subscribe_rival(
    env: &Env,
    broker: &Broker,
    count: u64,
    qos: u8,
    keep: Keep,
) -> Result<Times, Wrong> {
    let output = env.dir().join("mqtt.rival");
    let _ = fs::remove_file(&output);
    let before = broker.subscriptions();
    let direction = match keep {
        Keep::Nowhere => Direction::In(None),
        Keep::File => Direction::In(Some(&output)),
    };
    let rival = Rival::start(direction, broker.port, count, qos)?;
    broker.wait_for_more_than(before)?;
    let began_ns = feed(env, broker, count, qos)?;
    let (mut ended_ns, cpu) = rival.end_at()?;
    if keep == Keep::File {
        ended_ns = whole(&output, count)?;
    }
    Ok((ended_ns.saturating_sub(began_ns) as f64 / 1e9, cpu))
}

/// When a file got the last of so many lines.
fn whole(output: &Path, count: u64) -> Result<u64, Wrong> {
    let bytes = count * (MESSAGE_BYTES + 1);
    poll("publications are missing", || {
        let whole = fs::metadata(output).is_ok_and(|meta| meta.len() >= bytes);
        whole.then(|| written_ns(output))
    })
}

/// When the generator began.
fn feed(env: &Env, broker: &Broker, count: u64, qos: u8) -> Result<u64, Wrong> {
    let to = format!("127.0.0.1:{}", broker.port);
    let (count, qos) = (count.to_string(), qos.to_string());
    let words = ["mqtt", &to, "--path", TOPIC, "--count", &count, "--qos", &qos];
    Ok(child::start(env.cores.last().copied(), &words)?.end()?.began_ns)
}

/// A mosquitto that ends with this value.
pub(super) struct Broker {
    child: Child,
    port: u16,
    log: PathBuf,
}

fn program() -> Result<PathBuf, Wrong> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.push(PathBuf::from("/usr/sbin"));
    let found = folders.into_iter().map(|f| f.join("mosquitto")).find(|p| p.is_file());
    found.ok_or_else(|| Wrong::skip("needs mosquitto"))
}

impl Broker {
    /// Queues without a limit, so that nothing is lost when it is the limit.
    pub(super) fn start(env: &Env) -> Result<Self, Wrong> {
        let (program, port) = (program()?, free_tcp_port()?);
        let (config, log) = (env.dir().join("mosquitto.conf"), env.dir().join("mosquitto.log"));
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\n\
             log_dest stderr\nlog_type subscribe\nlog_type error\n"
        );
        fs::write(&config, text).map_err(Wrong::fail)?;
        let said = fs::File::create(&log).map_err(Wrong::fail)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let child = command.spawn().map_err(Wrong::fail)?;
        let broker = Self { child, port, log };
        poll("mosquitto does not listen", || TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(broker)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn subscriptions(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.matches(TOPIC).count()
    }

    fn wait_for_more_than(&self, before: usize) -> Result<(), Wrong> {
        poll("nobody subscribes", || (self.subscriptions() > before).then_some(()))
    }

    /// Waits until the broker has nothing more to do.
    fn rest(&self) -> Result<(), Wrong> {
        poll("mosquitto does not come to rest", || {
            let before = cpu_s(self.child.id())?;
            thread::sleep(REST);
            (cpu_s(self.child.id())? <= before).then_some(())
        })
    }

    /// Waits until somebody subscribes to the topic of the bench.
    pub(super) fn wait_for_subscription(&self) -> Result<(), Wrong> {
        self.wait_for_more_than(0)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
