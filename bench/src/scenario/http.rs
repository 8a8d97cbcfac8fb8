//! The whole daemon, one core: HTTP requests with JSON lines, to a blackhole.
//! The load generator sends over 16 connections, a request at a time on each.
//!
//! Measured: from the first request until the last answer. `acked`: a request is
//! answered when the sink has accepted its messages, not when they are in the
//! flow. Verified: every request was answered with 2xx, every message counted.

use super::{Round, whole};
use crate::daemon::{Daemon, free_tcp_port};
use crate::load::{Limit, child};
use crate::measure::{Amount, Env, Wrong, mix, verify};
use crate::report::Figure;

/// Messages in a request, requests to guess per second, how it answers.
const FORMS: [(u64, f64, &str); 4] =
    [(1, 6e4, "accepted"), (1, 6e4, "acked"), (100, 2e4, "accepted"), (1000, 4e3, "accepted")];

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(|env| {
        let mut figures = Vec::new();
        for (batch, guess, respond) in FORMS {
            figures.extend(run(env, batch, guess, respond)?);
        }
        Ok(figures)
    }))
}

fn run(env: &Env, batch: u64, guess: f64, respond: &str) -> Result<Vec<Figure>, Wrong> {
    let to = format!("127.0.0.1:{}", free_tcp_port()?);
    let flow = format!(
        "name = \"http\"
[sources.in]
type = \"http\"
listen = \"{to}\"
respond = \"{respond}\"
[sinks.out]
type = \"blackhole\"
inputs = [\"in\"]
"
    );
    let daemon = Daemon::start(env, "http", &flow, "0")?;
    let requests = match env.amount {
        Amount::Seconds(seconds) => ((seconds * guess) as u64).max(20),
        Amount::Messages(count) => count.div_ceil(batch),
    };
    let count = requests * batch;
    let (count_text, batch_text) = (count.to_string(), batch.to_string());
    let words = ["http", &to, "--count", &count_text, "--batch", &batch_text];
    let load = child::start(env.cores.last().copied(), &words)?.end()?;
    daemon.stop()?;
    let ended = daemon.end()?;
    verify("messages received", ended.summary.of("out")?.rows_out, count)?;
    let seconds = (load.ended_ns - load.began_ns) as f64 / 1e9;
    let name = match respond {
        "acked" => format!("{batch} a request, acked"),
        _ => format!("{batch} a request"),
    };
    let mut figures = whole::figures(&name, count, seconds, &ended, mix(count, batch));
    if load.limit == Limit::Generator {
        let first = figures.remove(0);
        figures.insert(0, first.note("the load generator was the limit in the last round"));
    }
    let requests = requests as f64 / seconds / 1e3;
    figures.insert(1, Figure::new(format!("{name}: requests"), requests, "k/s"));
    Ok(figures)
}
