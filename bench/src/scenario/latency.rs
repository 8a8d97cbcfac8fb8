//! How long a message takes through the whole daemon at a fixed rate: the load
//! generator sends each when it is due and gets it back over the flow's TCP
//! sink.
//!
//! Measured: from the time at which a message was due (not from when it was
//! sent: a stall is charged to every message that it kept waiting) until its
//! line was read back. So it holds both ways through the kernel, the decoder,
//! two operators, `linger` (1 ms by default) and the encoder. Verified: every
//! message came back, except with UDP, where what is lost is counted.

use super::Round;
use super::mqtt::Broker;
use super::whole::FAST_AND_MARKED;
use crate::daemon::{Daemon, Ended, free_tcp_port, free_udp_port};
use crate::load::child;
use crate::load::{Limit, LoadResult};
use crate::measure::{Amount, Env, Wrong, mix, verify};
use crate::report::{CurveKind, Figure};

/// Of the rate, for transports that cost a system call or more per message.
const FAST_PER_S: u64 = 100_000;
const SLOW_PER_S: u64 = 20_000;
const WARM_UP: f64 = 0.25;

/// How messages come in.
struct Way {
    name: &'static str,
    kind: &'static str,
    rate: u64,
    /// More words for the generator.
    more: &'static [&'static str],
}

const WAYS: [Way; 5] = [
    Way { name: "TCP, 100,000/s", kind: "tcp", rate: FAST_PER_S, more: &[] },
    Way { name: "Unix socket, 100,000/s", kind: "unix", rate: FAST_PER_S, more: &[] },
    Way { name: "UDP, 100,000/s", kind: "udp", rate: FAST_PER_S, more: &[] },
    Way { name: "HTTP, 20,000 requests/s", kind: "http", rate: SLOW_PER_S, more: &[] },
    Way { name: "MQTT, 20,000/s", kind: "mqtt", rate: SLOW_PER_S, more: &["--path", "bench/t"] },
];

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(|env| {
        let mut figures = Vec::new();
        for way in &WAYS {
            match one(env, way) {
                Ok(more) => figures.extend(more),
                // Without a broker the other ways are still measured.
                Err(Wrong::Skipped(_)) if way.kind == "mqtt" => {}
                Err(wrong) => return Err(wrong),
            }
        }
        Ok(figures)
    }))
}

fn one(env: &Env, way: &Way) -> Result<Vec<Figure>, Wrong> {
    let (echo, broker) =
        (free_tcp_port()?, (way.kind == "mqtt").then(|| Broker::start(env)).transpose()?);
    let (source, to) = source(env, way.kind, broker.as_ref())?;
    let flow = flow("latency", &source, echo);
    let daemon = Daemon::start(env, "latency", &flow, "0")?;
    if let Some(broker) = &broker {
        broker.wait_for_subscription()?;
    }
    let (load, _) = load(env, way, &to, echo, daemon)?;
    let lost = if way.kind == "udp" { load.lost } else { 0 };
    verify(&format!("{}: messages that did not come back", way.name), load.lost, lost)?;
    figures(way.name, &load)
}

/// Sends at the way's rate; the daemon is ended then.
fn load(
    env: &Env,
    way: &Way,
    to: &str,
    echo: u16,
    daemon: Daemon,
) -> Result<(LoadResult, Ended), Wrong> {
    let echo = format!("127.0.0.1:{echo}");
    let mut words = vec![way.kind, to, "--echo", &echo];
    words.extend(way.more);
    let (rate, times) = (way.rate.to_string(), times(env.amount, way.rate));
    words.extend(["--rate", &rate]);
    words.extend(times.iter().map(String::as_str));
    let load = child::start(env.cores.last().copied(), &words)?.end()?;
    daemon.stop()?;
    Ok((load, daemon.end()?))
}

/// How long, and what of it does not count.
pub(super) fn times(amount: Amount, rate: u64) -> Vec<String> {
    match amount {
        Amount::Seconds(seconds) => {
            let warm_up = WARM_UP.min(seconds);
            let words =
                ["--seconds", &(seconds + warm_up).to_string(), "--warm-up", &warm_up.to_string()];
            words.map(ToOwned::to_owned).to_vec()
        }
        Amount::Messages(count) => {
            vec!["--count".to_owned(), count.min(rate).to_string()]
        }
    }
}

/// Percentiles of a run, with the curve.
pub(super) fn figures(name: &str, load: &LoadResult) -> Result<Vec<Figure>, Wrong> {
    let latency = load.latency.as_ref();
    let latency = latency.ok_or_else(|| Wrong::Failed(format!("{name}: nothing came back")))?;
    let of = |what: &str, us| Figure::new(format!("{name}: {what}"), us, "us");
    let mut p50 = of("p50", latency.p50_us)
        .proof(load.messages, mix(load.messages, load.message_bytes as u64))
        .curve(CurveKind::Latency, latency.curve.clone());
    if load.limit == Limit::Generator {
        let late = load.late_p99_us;
        p50 = p50.note(format!(
            "the generator was the limit in the last round: {:.0} % busy, p99 of its own delay {late:.0} us",
            100.0 * load.busy
        ));
    }
    let mut figures = vec![
        p50,
        of("p99", latency.p99_us),
        of("p99.9", latency.p999_us),
        of("max", latency.max_us),
    ];
    if load.lost > 0 {
        figures.push(Figure::new(format!("{name}: lost"), load.lost as f64, "messages"));
    }
    Ok(figures)
}

/// The source's table, and where the generator sends to.
fn source(env: &Env, kind: &str, broker: Option<&Broker>) -> Result<(String, String), Wrong> {
    let listening = |port: u16| {
        let to = format!("127.0.0.1:{port}");
        (format!("type = \"{kind}\"\nlisten = \"{to}\""), to)
    };
    Ok(match (kind, broker) {
        ("mqtt", Some(broker)) => {
            let port = broker.port();
            let source = format!(
                "type = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"bench/t\"]\nqos = 0\n\
                 clean_start = true"
            );
            (source, format!("127.0.0.1:{port}"))
        }
        ("unix", _) => {
            let path = env.dir().join("latency.sock").display().to_string();
            (format!("type = \"unix\"\npath = {path:?}"), path)
        }
        ("udp", _) => {
            let (source, to) = listening(free_udp_port()?);
            (format!("{source}\nreceive_buffer = \"8MiB\""), to)
        }
        _ => listening(free_tcp_port()?),
    })
}

/// A flow that sends everything back.
pub(super) fn flow(name: &str, source: &str, echo: u16) -> String {
    format!(
        "name = \"{name}\"
[sources.in]
{source}
{FAST_AND_MARKED}[sinks.out]
type = \"tcp\"
inputs = [\"mark\"]
address = \"127.0.0.1:{echo}\"
retry = {{ min = \"10ms\", max = \"20ms\" }}
"
    )
}
