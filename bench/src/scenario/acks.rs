//! The whole daemon with and without acknowledgements to its source: the same
//! flow, the same input, one after the other in every round.
//!
//! A file's acknowledgement is its position, stored with `data_dir` every 100
//! ms; a TCP sender is told how many of its lines are in the output file, and
//! the run ends when it has heard of the last. Verified: every line of the
//! output, in order; with TCP, that every line was acknowledged.

use std::fs;
use std::path::Path;

use super::Round;
use super::file::{self, tally};
use super::tcp::{self, sent_to_written};
use crate::daemon::{Daemon, Setup, free_tcp_port, quoted};
use crate::measure::{Env, Wrong, verify};
use crate::report::Figure;
use crate::sensors::Tally;

const TARGET_RATIO: f64 = 0.8;
const GUESS_PER_S: f64 = 4e6;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    let input = env.dir().join("acks.in.ndjson");
    let count = env.amount.messages(GUESS_PER_S);
    let must = file::write(&input, count).map_err(Wrong::fail)?.all;
    let sent = tcp::Input::write(env, "acks-tcp")?;
    Ok(Box::new(move |env| {
        let off = from_file(env, &input, must, false)?;
        let on = from_file(env, &input, must, true)?;
        let mut figures = pair("file", off, on, (count, must.ordered));
        let off = over_tcp(env, &sent, false)?;
        let on = over_tcp(env, &sent, true)?;
        figures.extend(pair("TCP", off, on, (sent.count, sent.count)));
        Ok(figures)
    }))
}

/// (M msg/s, M msg per second of CPU time)
type Rates = (f64, f64);

fn pair(name: &str, off: Rates, on: Rates, (count, hash): (u64, u64)) -> Vec<Figure> {
    vec![
        Figure::rate(format!("{name}, without"), off.0).proof(count, hash),
        Figure::rate(format!("{name}, with acknowledgements"), on.0).proof(count, hash),
        Figure::new(format!("  {name}: with / without"), on.0 / off.0, "x").at_least(TARGET_RATIO),
        Figure::new(format!("  {name}: the same by CPU time"), on.1 / off.1, "x"),
    ]
}

fn from_file(env: &Env, input: &Path, must: Tally, acks: bool) -> Result<Rates, Wrong> {
    let (output, data) = (env.dir().join("acks.out.ndjson"), env.dir().join("acks.data"));
    let _ = (fs::remove_file(&output), fs::remove_dir_all(&data));
    let flow = format!(
        "name = \"acks\"
[sources.in]
type = \"file\"
path = {}
[sinks.out]
type = \"file\"
inputs = [\"in\"]
path = {}
",
        quoted(input),
        quoted(&output)
    );
    let data = quoted(&data);
    let config = format!("[daemon]\ndata_dir = {data}\ncheckpoint_every = \"100ms\"\n");
    let config = if acks { config.as_str() } else { "" };
    let daemon =
        Daemon::start_with(env, &Setup { name: "acks", flows: &[flow], cores: "0", config })?;
    let ended = daemon.end()?;
    verify("lines written", tally(&output)?, must)?;
    let _ = fs::remove_file(&output);
    let count = must.rows as f64 / 1e6;
    Ok((count / ended.wall_s, count / ended.cpu_s))
}

fn over_tcp(env: &Env, input: &tcp::Input, acks: bool) -> Result<Rates, Wrong> {
    let to = format!("127.0.0.1:{}", free_tcp_port()?);
    let ack = if acks { "\nack = \"lines\"" } else { "" };
    let source = format!("type = \"tcp\"\nlisten = \"{to}\"{ack}");
    let words: &[&str] = if acks { &["tcp", &to, "--acks"] } else { &["tcp", &to] };
    let ran = sent_to_written(env, "acks-tcp", "", &source, words, input)?;
    Ok((ran.rate(input), input.count as f64 / 1e6 / ran.ended.cpu_s))
}
