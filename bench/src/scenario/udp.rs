//! The whole daemon, one core: UDP datagrams of 100 B as text, to a blackhole.
//! The load generator sends on another core where there is one: with GSO, so
//! that the kernel hands them over in bundles (GRO), and one by one.
//!
//! UDP drops what is not read in time, so the sender does not wait and the
//! figure is what was received per second of sending; what is left in the
//! socket's buffer at the end adds a few percent to a short run. Verified: that the
//! daemon counted no more than was sent, lost none of what it counted, and
//! refused nothing.

use super::{Round, whole};
use crate::daemon::{Daemon, free_udp_port, udp_is_bound, udp_is_read};
use crate::load::child;
use crate::measure::{Amount, Env, Wrong, mix, verify};
use crate::report::Figure;

const TARGET_M_PER_S: f64 = 5.0;
/// It takes longer than the time given, so that the buffer's content matters
/// less.
const SHARE: f64 = 2.0;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(|env| {
        let mut figures = run(env, "with GRO", &["--gso"])?;
        let judged: Vec<Figure> = figures.drain(..2).map(|f| f.at_least(TARGET_M_PER_S)).collect();
        figures.splice(..0, judged);
        figures.extend(run(env, "one by one", &[])?);
        Ok(figures)
    }))
}

fn run(env: &Env, name: &str, more: &[&str]) -> Result<Vec<Figure>, Wrong> {
    let port = free_udp_port()?;
    let flow = format!(
        "name = \"udp\"
[sources.in]
type = \"udp\"
listen = \"127.0.0.1:{port}\"
receive_buffer = \"8MiB\"
decode = \"text\"
[sinks.out]
type = \"blackhole\"
inputs = [\"in\"]
"
    );
    let daemon = Daemon::start(env, "udp", &flow, "0")?;
    udp_is_bound(port)?;
    let to = format!("127.0.0.1:{port}");
    let (word, amount) = match env.amount {
        Amount::Seconds(seconds) => ("--seconds", (SHARE * seconds).to_string()),
        Amount::Messages(count) => ("--count", count.to_string()),
    };
    let words = [&["udp", to.as_str(), word, amount.as_str()], more].concat();
    let load = child::start(env.cores.last().copied(), &words)?.end()?;
    udp_is_read(port)?;
    daemon.stop()?;
    let ended = daemon.end()?;
    let (source, sink) = (ended.summary.of("in")?, ended.summary.of("out")?);
    verify("messages delivered", sink.rows_out, source.rows_out)?;
    verify("messages refused", source.dead + sink.dead, 0)?;
    let (received, sent) = (sink.rows_out, load.messages);
    if !(1..=sent).contains(&received) {
        return Err(Wrong::Failed(format!("{received} messages received, {sent} sent")));
    }
    let seconds = (load.ended_ns - load.began_ns) as f64 / 1e9;
    let mut figures = whole::figures(name, received, seconds, &ended, mix(received, sent));
    let part = 100.0 * received as f64 / sent as f64;
    figures.insert(1, Figure::new(format!("{name}: received of sent"), part, "%"));
    figures.swap(1, 2);
    Ok(figures)
}
