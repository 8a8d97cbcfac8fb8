//! The whole daemon with `when_full = "spill"`: nobody listens where the sink
//! connects to, so everything waits on disk; then somebody does.
//!
//! Measured: from the start of the process until the source has read the last
//! line while the sink is dead; then from the first byte that comes out until
//! the last line. Verified: every line came, once and in order.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Round;
use super::file;
use crate::daemon::{Daemon, Setup, free_tcp_port, poll, quoted, written_ns};
use crate::measure::{Env, Wrong, monotonic_ns, on_core, verify};
use crate::report::Figure;
use crate::sensors::{Sensor, Tally, split};

const GUESS_PER_S: f64 = 1e6;
/// Fewer fit into the queues.
const COUNT_MIN: u64 = 50_000;
const ACCEPT: Duration = Duration::from_secs(10);

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    let input = env.dir().join("spill.in.ndjson");
    let count = env.amount.messages(GUESS_PER_S).max(COUNT_MIN);
    let must = file::write(&input, count).map_err(Wrong::fail)?.all;
    Ok(Box::new(move |env| round(env, &input, must)))
}

fn round(env: &Env, input: &Path, must: Tally) -> Result<Vec<Figure>, Wrong> {
    let data = env.dir().join("spill.data");
    let _ = fs::remove_dir_all(&data);
    let (port, seen) = (free_tcp_port()?, env.dir().join("spill.seen"));
    let _ = fs::remove_file(&seen);
    let config = format!("[daemon]\ndata_dir = {}\n", quoted(&data));
    let flows = [flow(input, port, must.rows, &seen)?];
    let began_ns = monotonic_ns();
    let setup = Setup { name: "spill", flows: &flows, cores: "0", config: &config };
    let daemon = Daemon::start_with(env, &setup)?;
    let read_ns = poll("the daemon does not read its file", || {
        fs::metadata(&seen).is_ok_and(|meta| meta.len() > 0).then(|| written_ns(&seen))
    })?;
    let stored_s = read_ns.saturating_sub(began_ns) as f64 / 1e9;
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(Wrong::fail)?;
    let stream = accept(&listener)?;
    let core = env.cores.last().copied();
    let (text, sent_s) = on_core(core, || take(stream)).map_err(Wrong::fail)?;
    let ended = daemon.end()?;
    verify("lines received", Tally::of(&text).map_err(Wrong::Failed)?, must)?;
    let out = ended.summary.of("out")?;
    verify("stored messages that were sent again", out.resent, out.spilled)?;
    if out.spilled < must.rows / 2 {
        return Err(Wrong::Failed(format!("only {} messages were stored", out.spilled)));
    }
    let count = must.rows as f64 / 1e6;
    Ok(vec![
        Figure::rate("to disk, while the sink is dead", count / stored_s)
            .proof(must.rows, must.ordered),
        Figure::rate("from disk, when it is back", count / sent_s),
        Figure::rate("per second of CPU time, both", count / ended.cpu_s).other_clock(),
        Figure::new("stored", out.spilled as f64, "messages"),
        Figure::new("most memory", ended.rss_mib, "MiB"),
    ])
}

fn accept(listener: &TcpListener) -> Result<TcpStream, Wrong> {
    listener.set_nonblocking(true).map_err(Wrong::fail)?;
    let until = Instant::now() + ACCEPT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(Wrong::fail)?;
                return Ok(stream);
            }
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => {
                return Err(Wrong::Failed(format!("the sink does not come back: {error}")));
            }
        }
    }
}

/// Everything until the end, and how long it took from the first byte on.
fn take(mut stream: TcpStream) -> std::io::Result<(Vec<u8>, f64)> {
    let mut text = vec![0; 1];
    stream.read_exact(&mut text)?;
    let start = Instant::now();
    stream.read_to_end(&mut text)?;
    Ok((text, start.elapsed().as_secs_f64()))
}

/// The last messages go to a file, too, which says when the source has read them.
fn flow(input: &Path, port: u16, rows: u64, seen: &Path) -> Result<String, Wrong> {
    let text = fs::read(input).map_err(Wrong::fail)?;
    let last = split(&text).last().map(serde_json::from_slice::<Sensor<'_>>);
    let last = last.and_then(Result::ok).map(|sensor| sensor.ts);
    let last = last.ok_or_else(|| Wrong::Failed(format!("no last of {rows} lines")))?;
    let (input, seen) = (quoted(input), quoted(seen));
    Ok(format!(
        "name = \"spill\"
[sources.in]
type = \"file\"
path = {input}
[sinks.out]
type = \"tcp\"
inputs = [\"in\"]
address = \"127.0.0.1:{port}\"
buffer = \"64KiB\"
retry = {{ min = \"10ms\", max = \"20ms\" }}
when_full = \"spill\"
spill = {{ max_size = \"16GiB\" }}
[operators.last]
type = \"filter\"
inputs = [\"in\"]
where = \"ts >= {last}\"
[sinks.seen]
type = \"file\"
inputs = [\"last\"]
path = {seen}
"
    ))
}
