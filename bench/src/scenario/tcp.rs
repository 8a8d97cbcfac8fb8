//! The whole daemon, one core: one TCP connection of JSON lines, `rpm > 100`,
//! one new field, a file of JSON lines. This program sends, on another core
//! where there is one.
//!
//! Measured: from the first byte sent until the last line is in the file.
//! Verified: every line of the output, in order.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Round;
use super::file::tally;
use crate::daemon::{Daemon, connect, free_tcp_port, quoted};
use crate::measure::{Env, Wrong, on_core, verify};
use crate::report::Figure;
use crate::sensors::{Tally, lines, marked};

const TARGET_M_PER_S: f64 = 5.0;
const GUESS_PER_S: f64 = 4e6;
/// Lines that are sent again and again: 14 MB, larger than the caches.
const BLOCK_LINES: u64 = 131_072;
const WRITE_BYTES: usize = 256 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Without growth for so long, it is worth counting the lines.
const QUIET: Duration = Duration::from_millis(100);
/// Without growth for so long, nothing comes any more.
const SILENT: Duration = Duration::from_secs(10);

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    let wanted = env.amount.messages(GUESS_PER_S);
    let block = wanted.min(BLOCK_LINES);
    let text = lines(block).0;
    let blocks = wanted.div_ceil(block);
    let hashes = marked(&text).map_err(Wrong::fail)?;
    let mut must = Tally::default();
    for _ in 0..blocks {
        hashes.iter().for_each(|hash| must.add_hash(*hash));
    }
    let input = Input { text, blocks, count: blocks * block, must };
    Ok(Box::new(move |env| round(env, &input)))
}

/// A text to send a number of times, and what has to come out of that.
struct Input {
    text: Vec<u8>,
    blocks: u64,
    count: u64,
    must: Tally,
}

fn round(env: &Env, input: &Input) -> Result<Vec<Figure>, Wrong> {
    let output = env.dir().join("tcp.out.ndjson");
    let _ = fs::remove_file(&output);
    let port = free_tcp_port()?;
    let daemon = Daemon::start(env, "tcp", &flow(port, &output), "0")?;
    let mut stream = connect(port)?;
    let start = Instant::now();
    let last_core = env.cores.last().copied();
    let sent = on_core(last_core, || -> std::io::Result<()> {
        for _ in 0..input.blocks {
            for part in input.text.chunks(WRITE_BYTES) {
                stream.write_all(part)?;
            }
        }
        Ok(())
    });
    sent.map_err(Wrong::fail)?;
    let seconds = start.elapsed().max(last_growth(&output, input.must.rows, start)).as_secs_f64();
    drop(stream);
    daemon.stop()?;
    let ended = daemon.end()?;
    let count = input.count;
    verify("messages received", ended.summary.of("in")?.rows_out, count)?;
    let written = tally(&output)?;
    verify("lines written", written, input.must)?;
    let _ = fs::remove_file(&output);
    Ok(vec![
        Figure::rate("sent to written", count as f64 / seconds / 1e6)
            .at_least(TARGET_M_PER_S)
            .proof(count, written.ordered),
        Figure::rate("per second of CPU time", count as f64 / ended.cpu_s / 1e6)
            .at_least(TARGET_M_PER_S),
        Figure::new("CPU time", 1e9 * ended.cpu_s / count as f64, "ns/msg"),
        Figure::new("most memory", ended.rss_mib, "MiB"),
    ])
}

/// When the file grew to so many lines, after `start`; or when it stopped to
/// grow, too short.
fn last_growth(path: &Path, rows: u64, start: Instant) -> Duration {
    let mut last = (0, Instant::now());
    let mut counted = false;
    while last.1.elapsed() < SILENT {
        let len = fs::metadata(path).map_or(0, |meta| meta.len());
        if len != last.0 {
            (last, counted) = ((len, Instant::now()), false);
        } else if !counted && last.1.elapsed() > QUIET {
            if tally(path).is_ok_and(|tally| tally.rows == rows) {
                break;
            }
            counted = true;
        }
        thread::sleep(LOOK_EVERY);
    }
    last.1 - start
}

fn flow(port: u16, output: &Path) -> String {
    let output = quoted(output);
    format!(
        "name = \"tcp\"
[sources.in]
type = \"tcp\"
listen = \"127.0.0.1:{port}\"
[operators.fast]
type = \"filter\"
inputs = [\"in\"]
where = \"rpm > 100\"
[operators.mark]
type = \"map\"
inputs = [\"fast\"]
set = {{ severity = \"'high'\" }}
[sinks.out]
type = \"file\"
inputs = [\"mark\"]
path = {output}
mode = \"truncate\"
"
    )
}
