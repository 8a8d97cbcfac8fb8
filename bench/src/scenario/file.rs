//! The whole daemon, one core: a file of JSON lines, `rpm > 100`, one new
//! field, a file of JSON lines.
//!
//! Measured: the process from before it is made until it is gone, so with its
//! start, its end and what it costs to write to the page cache. Not measured:
//! the disk, unless the kernel decides to write back meanwhile. Verified: every
//! line of the output, in order, against what the input was made of.
//!
//! The shard is pinned to one core, but the kernel's threads that carry out its
//! writes may use another: what one core gives is the rate per second of CPU
//! time, which counts them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use super::Round;
use super::whole::{self, FAST_AND_MARKED};
use crate::daemon::{Daemon, Ended, quoted};
use crate::measure::{Env, Wrong, verify};
use crate::report::Figure;
use crate::sensors::{self, Expected, Tally};

const TARGET_M_PER_S: f64 = 5.0;
const TARGET_RSS_MIB: f64 = 100.0;
/// Fluent Bit 5.1.1, the same flow and lines of the same shape on this class
/// of machine, measured apart.
const FLUENT_BIT_M_PER_S: f64 = 0.40;
const TARGET_TIMES: f64 = 10.0;
/// A script against native operators that do the same.
const TARGET_LUA: f64 = 0.8;
const GUESS_PER_S: f64 = 4e6;

/// The operators, in the forms that the daemon may run them in.
const FORMS: [(&str, &str); 2] = [
    ("expressions", FAST_AND_MARKED),
    (
        "Lua script",
        "[operators.mark]
type = \"lua\"
inputs = [\"in\"]
source = '''
return function(msg)
  if msg.rpm > 100 then msg.severity = 'high' return msg end
end
'''
",
    ),
];

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    let input = env.dir().join("file.in.ndjson");
    let count = env.amount.messages(GUESS_PER_S);
    let expected = write(&input, count).map_err(Wrong::fail)?;
    Ok(Box::new(move |env| {
        let output = env.dir().join("file.out.ndjson");
        let (mut figures, mut rates) = (Vec::new(), Vec::new());
        for (name, operators) in FORMS {
            // Only one large copy; and to truncate a file, and so to write it back
            // when it is closed, is not what is measured.
            let _ = fs::remove_file(&output);
            let flow = flow(&input, operators, &output);
            let ended = Daemon::start(env, "file", &flow, "0")?.end()?;
            verify("messages read", ended.summary.of("in")?.rows_out, count)?;
            let written = tally(&output)?;
            verify("lines written", written, expected.marked)?;
            figures.extend(of(name, count, &ended, written));
            rates.push((1.0 / ended.wall_s, 1.0 / ended.cpu_s));
        }
        let ratio = |of: fn(&(f64, f64)) -> f64| of(&rates[1]) / of(&rates[0]);
        figures.extend([
            Figure::new("Lua script / expressions", ratio(|r| r.0), "x").at_least(TARGET_LUA),
            Figure::new("  the same by CPU time", ratio(|r| r.1), "x").at_least(TARGET_LUA),
        ]);
        let _ = fs::remove_file(&output);
        Ok(figures)
    }))
}

fn of(name: &str, count: u64, ended: &Ended, written: Tally) -> Vec<Figure> {
    let rate = count as f64 / ended.wall_s / 1e6;
    let of = |what: &str| format!("{name}: {what}");
    vec![
        Figure::rate(of("whole process"), rate)
            .at_least(TARGET_M_PER_S)
            .proof(count, written.ordered),
        Figure::rate(of("flow, by its own clock"), count as f64 / ended.summary.seconds / 1e6),
        whole::per_cpu_s(of("per second of CPU time"), count, ended).at_least(TARGET_M_PER_S),
        Figure::new(of("times Fluent Bit's 0.40"), rate / FLUENT_BIT_M_PER_S, "x")
            .at_least(TARGET_TIMES),
        Figure::new(of("most memory"), ended.rss_mib, "MiB").at_most(TARGET_RSS_MIB),
    ]
}

fn flow(input: &Path, operators: &str, output: &Path) -> String {
    let (input, output) = (quoted(input), quoted(output));
    format!(
        "name = \"file\"
[sources.in]
type = \"file\"
path = {input}
{operators}
[sinks.out]
type = \"file\"
inputs = [\"mark\"]
path = {output}
mode = \"truncate\"
"
    )
}

/// Writes lines of sensors to a file.
pub(crate) fn write(path: &Path, count: u64) -> std::io::Result<Expected> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let expected = sensors::write(count, &mut file)?;
    file.flush()?;
    Ok(expected)
}

/// What a file holds; read line by line, it may be large.
pub(super) fn tally(path: &Path) -> Result<Tally, Wrong> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(Wrong::fail)?);
    let (mut tally, mut line) = (Tally::default(), Vec::new());
    while file.read_until(b'\n', &mut line).map_err(Wrong::fail)? > 0 {
        let wrong = |error| format!("{error}: {}", String::from_utf8_lossy(&line));
        tally.add(&serde_json::from_slice(&line).map_err(wrong).map_err(Wrong::Failed)?);
        line.clear();
    }
    Ok(tally)
}
