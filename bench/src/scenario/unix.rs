//! The whole daemon, one core, over Unix sockets: a stream of JSON lines as in
//! `tcp`, and datagrams of 100 B as text to a blackhole.
//!
//! A Unix datagram is never dropped: the sender waits. So both are counted
//! exactly. Measured: from the first byte sent until the last line is in the
//! file, or the last datagram was sent.

use std::fs;

use super::tcp::{Input, sent_to_written};
use super::{Round, whole};
use crate::daemon::{Daemon, poll};
use crate::load::child;
use crate::measure::{Env, Wrong, mix, verify};
use crate::report::Figure;

const GUESS_PER_S: f64 = 5e5;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    let input = Input::write(env, "unix")?;
    Ok(Box::new(move |env| {
        let path = env.dir().join("unix.sock");
        let source = format!("type = \"unix\"\npath = {:?}", path.display().to_string());
        let to = path.display().to_string();
        let ran = sent_to_written(env, "unix", "", &source, &["unix", &to], &input)?;
        let mut figures = ran.figures("stream", &input);
        figures.extend(datagrams(env)?);
        Ok(figures)
    }))
}

fn datagrams(env: &Env) -> Result<Vec<Figure>, Wrong> {
    let path = env.dir().join("unix-datagrams.sock");
    let _ = fs::remove_file(&path);
    let to = path.display().to_string();
    let flow = format!(
        "name = \"unix-datagrams\"
[sources.in]
type = \"unix\"
path = {to:?}
mode = \"datagram\"
decode = \"text\"
[sinks.out]
type = \"blackhole\"
inputs = [\"in\"]
"
    );
    let daemon = Daemon::start(env, "unix-datagrams", &flow, "0")?;
    poll("the daemon makes no socket", || path.exists().then_some(()))?;
    let count = env.amount.messages(GUESS_PER_S);
    let words = ["unix-datagram", &to, "--count", &count.to_string()];
    let load = child::start(env.cores.last().copied(), &words)?.end()?;
    daemon.stop()?;
    let ended = daemon.end()?;
    verify("datagrams received", ended.summary.of("out")?.rows_out, count)?;
    let seconds = (load.ended_ns - load.began_ns) as f64 / 1e9;
    Ok(whole::figures("datagrams", count, seconds, &ended, mix(count, 100)))
}
