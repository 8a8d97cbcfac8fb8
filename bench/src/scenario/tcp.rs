//! The whole daemon, one core: one TCP connection of JSON lines, `rpm > 100`,
//! one new field, a file of JSON lines. The load generator sends, on another
//! core where there is one.
//!
//! Measured: from the first byte sent until the last line is in the file.
//! Verified: every line of the output, in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::Round;
use super::file::tally;
use super::whole::{self, FAST_AND_MARKED};
use crate::daemon::{Daemon, Ended, free_tcp_port, quoted, written_ns};
use crate::load::{Limit, LoadResult, child};
use crate::measure::{Env, Wrong, monotonic_ns, verify};
use crate::report::Figure;
use crate::sensors::{Tally, lines, marked};

const TARGET_M_PER_S: f64 = 5.0;
const GUESS_PER_S: f64 = 4e6;
/// Lines that are sent again and again: 14 MB, larger than the caches.
const BLOCK_LINES: u64 = 131_072;
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Without growth for so long, it is worth counting the lines.
const QUIET: Duration = Duration::from_millis(100);
/// Without growth for so long, nothing comes any more.
const SILENT: Duration = Duration::from_secs(10);

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    let input = Input::write(env, "tcp")?;
    Ok(Box::new(move |env| {
        let to = format!("127.0.0.1:{}", free_tcp_port()?);
        let source = format!("type = \"tcp\"\nlisten = \"{to}\"");
        let ran = sent_to_written(env, "tcp", "", &source, &["tcp", &to], &input)?;
        let figures = ran.figures("", &input).into_iter().enumerate();
        let judged = |(at, figure): (usize, Figure)| {
            if at < 2 { figure.at_least(TARGET_M_PER_S) } else { figure }
        };
        Ok(figures.map(judged).collect())
    }))
}

/// A file to send a number of times, and what has to come out of that.
pub(super) struct Input {
    path: PathBuf,
    blocks: u64,
    pub(super) count: u64,
    must: Tally,
}

impl Input {
    /// As many messages as are wanted, or a few more.
    pub(super) fn write(env: &Env, name: &str) -> Result<Self, Wrong> {
        let wanted = env.amount.messages(GUESS_PER_S);
        let block = wanted.min(BLOCK_LINES);
        let text = lines(block).0;
        let path = env.dir().join(format!("{name}.in.ndjson"));
        fs::write(&path, &text).map_err(Wrong::fail)?;
        let blocks = wanted.div_ceil(block);
        let hashes = marked(&text).map_err(Wrong::fail)?;
        let mut must = Tally::default();
        for _ in 0..blocks {
            hashes.iter().for_each(|hash| must.add_hash(*hash));
        }
        Ok(Self { path, blocks, count: blocks * block, must })
    }
}

/// A run.
pub(super) struct Ran {
    pub(super) seconds: f64,
    pub(super) ended: Ended,
    load: LoadResult,
    hash: u64,
}

impl Ran {
    pub(super) fn figures(&self, name: &str, input: &Input) -> Vec<Figure> {
        let mut all = whole::figures(name, input.count, self.seconds, &self.ended, self.hash);
        if self.load.limit == Limit::Generator {
            let busy = 100.0 * self.load.busy;
            let note =
                format!("the load generator was the limit in the last round ({busy:.0} % busy)");
            let first = all.remove(0);
            all.insert(0, first.note(note));
        }
        all
    }

    pub(super) fn rate(&self, input: &Input) -> f64 {
        input.count as f64 / self.seconds / 1e6
    }
}

/// Has the generator send the input to a source, through filter and map, to a
/// file.
pub(super) fn sent_to_written(
    env: &Env,
    name: &str,
    config: &str,
    source: &str,
    words: &[&str],
    input: &Input,
) -> Result<Ran, Wrong> {
    let output = env.dir().join(format!("{name}.out.ndjson"));
    let _ = fs::remove_file(&output);
    let flows = [flow(name, source, &output)];
    let setup = crate::daemon::Setup { name, flows: &flows, cores: "0", config };
    let daemon = Daemon::start_with(env, &setup)?;
    let (path, times) = (input.path.display().to_string(), input.blocks.to_string());
    let words = [words, &["--file", &path, "--times", &times]].concat();
    let load = child::start(env.cores.last().copied(), &words)?.end()?;
    let written_ns = last_growth(&output, input.must.rows);
    let seconds = (load.ended_ns.max(written_ns) - load.began_ns) as f64 / 1e9;
    daemon.stop()?;
    let ended = daemon.end()?;
    verify("messages received", ended.summary.of("in")?.rows_out, input.count)?;
    verify("messages sent and not acknowledged", load.lost, 0)?;
    let written = tally(&output)?;
    verify("lines written", written, input.must)?;
    let _ = fs::remove_file(&output);
    Ok(Ran { seconds, ended, load, hash: written.ordered })
}

/// When the file grew to so many lines; or when it stopped to grow, too short.
pub(super) fn last_growth(path: &Path, rows: u64) -> u64 {
    let mut last = (0, Instant::now(), monotonic_ns());
    let mut counted = false;
    while last.1.elapsed() < SILENT {
        let len = fs::metadata(path).map_or(0, |meta| meta.len());
        if len != last.0 {
            (last, counted) = ((len, Instant::now(), written_ns(path)), false);
        } else if !counted && last.1.elapsed() > QUIET {
            if tally(path).is_ok_and(|tally| tally.rows == rows) {
                break;
            }
            counted = true;
        }
        thread::sleep(LOOK_EVERY);
    }
    last.2
}

fn flow(name: &str, source: &str, output: &Path) -> String {
    let output = quoted(output);
    format!(
        "name = \"{name}\"
[sources.in]
{source}
{FAST_AND_MARKED}[sinks.out]
type = \"file\"
inputs = [\"mark\"]
path = {output}
mode = \"truncate\"
"
    )
}
