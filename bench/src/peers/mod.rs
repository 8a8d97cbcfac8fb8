//! `ringmain-bench compare`: the same flow in other systems, side by side.
//!
//! Every system that is on PATH runs the flows of `bench/peers` on one core,
//! with the same input; this program and its load generator have another. Round
//! by round, one after the other. A rate counts only when the output is equal,
//! message by message, to what it has to be. Where another system is faster, the
//! table says so.
//!
//! Measured: with files, from before the process is made until its last line is
//! written, so with its start; with TCP, from the first byte sent. CPU time and
//! memory are those of the process until it is ended.
//!
//! Deliberately absent: tuning that a system's own documentation does not have.

mod list;
mod run;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use self::list::{Flow, PEERS, Peer};
use self::run::Rate;
use crate::args::HowArgs;
use crate::machine::Machine;
use crate::measure::{Amount, Env, Wrong};
use crate::sensors::Expected;
use crate::stats::Spread;

/// Lines of input, without --count.
const COUNT: u64 = 1_000_000;
const QUICK_COUNT: u64 = 100_000;

/// Compares with other systems that are on PATH
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Systems to compare with; all that are found without
    #[arg(value_name = "SYSTEM")]
    systems: Vec<String>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// A system's figures for a flow.
#[derive(Serialize)]
struct Row {
    system: &'static str,
    version: String,
    flow: &'static str,
    config: &'static str,
    m_per_s: Vec<f64>,
    cpu_us: Vec<f64>,
    rss_mib: f64,
    /// Why its rate does not count.
    wrong: Option<String>,
}

impl Row {
    fn rate(&self) -> f64 {
        if self.m_per_s.is_empty() { 0.0 } else { Spread::of(&self.m_per_s).median }
    }
}

/// Runs the comparison.
pub(crate) fn compare(args: &CompareArgs) -> ExitCode {
    let env = match Env::new(&args.how) {
        Ok(env) => env,
        Err(error) => return crate::failed(&error),
    };
    let unknown = args.systems.iter().find(|name| !PEERS.iter().any(|peer| peer.name == **name));
    if let Some(unknown) = unknown {
        let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        eprintln!("error: no system '{unknown}'; there are {}", names.join(", "));
        return ExitCode::from(crate::EX_USAGE);
    }
    let count = match args.how.amount() {
        Amount::Messages(count) => count,
        Amount::Seconds(_) if args.how.quick => QUICK_COUNT,
        Amount::Seconds(_) => COUNT,
    };
    let machine = Machine::read();
    match measure(&env, args, count) {
        Ok(rows) => {
            show(&rows, args, &machine, count);
            // Another system's wrong output is its row's, not a failure of this.
            let ours = rows.iter().filter(|row| row.system == PEERS[0].name);
            if ours.clone().count() > 0 && ours.clone().all(|row| row.wrong.is_none()) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(Wrong::Skipped(why) | Wrong::Failed(why)) => crate::failed(&why),
    }
}

fn measure(env: &Env, args: &CompareArgs, count: u64) -> Result<Vec<Row>, Wrong> {
    let input = env.dir().join("compare.in.ndjson");
    let expected: Expected = crate::scenario::write_sensors(&input, count).map_err(Wrong::fail)?;
    let wanted = |peer: &&Peer| {
        let name = peer.name.to_owned();
        args.systems.is_empty() || peer.is_ours() || args.systems.contains(&name)
    };
    let mut found = Vec::new();
    for peer in PEERS.iter().filter(wanted) {
        match peer.find(env) {
            Some(program) => found.push((peer, program)),
            None => eprintln!("{}: not found", peer.name),
        }
    }
    let mut rows = Vec::new();
    for flow in [Flow::File, Flow::Tcp] {
        for (peer, program) in &found {
            let config = peer.config(flow).0;
            rows.push((
                flow,
                *peer,
                program,
                Row {
                    system: peer.name,
                    version: peer.version(program),
                    flow: flow.name(),
                    config,
                    m_per_s: Vec::new(),
                    cpu_us: Vec::new(),
                    rss_mib: 0.0,
                    wrong: None,
                },
            ));
        }
    }
    for round in 1..=args.how.repeat {
        for (flow, peer, program, row) in &mut rows {
            if row.wrong.is_some() {
                continue;
            }
            eprintln!("{round}/{} {} {}", args.how.repeat, row.system, row.flow);
            match run::run(env, peer, program, *flow, &input, &expected) {
                Ok(Rate { seconds, cpu_s, rss_mib }) => {
                    row.m_per_s.push(count as f64 / seconds / 1e6);
                    row.cpu_us.push(1e6 * cpu_s / count as f64);
                    row.rss_mib = row.rss_mib.max(rss_mib);
                }
                Err(Wrong::Skipped(why) | Wrong::Failed(why)) => row.wrong = Some(why),
            }
        }
    }
    Ok(rows.into_iter().map(|(.., row)| row).collect())
}

fn show(rows: &[Row], args: &CompareArgs, machine: &Machine, count: u64) {
    let page = page(rows, args.how.repeat, machine, count);
    if args.how.json {
        let all = serde_json::json!({ "machine": machine, "messages": count, "rows": rows });
        println!("{}", serde_json::to_string_pretty(&all).expect("numbers and names serialise"));
    } else {
        print!("{page}");
    }
    if let Some(folder) = &args.how.out
        && let Err(error) = std::fs::write(folder.join("PEERS.md"), page)
    {
        eprintln!("error: {}: {error}", folder.display());
    }
}

/// The page: `ratio` is this system's rate divided by the row's.
fn page(rows: &[Row], repeat: usize, machine: &Machine, count: u64) -> String {
    let mut page = format!(
        "# Beside other systems\n\nWritten by `ringmain-bench compare`; do not edit.\n\n\
         ```\n{machine}```\n\n\
         {count} lines of JSON of 104 B, `rpm > 100`, one new field, JSON to a file; every system on \
         one core, {repeat} rounds, median and (least to greatest). `times` is what Ringmain does \
         of a row's rate: below 1 the other is faster. With files the start of the process is \
         counted, with TCP it is not. Output equal to what it has to be, or the rate is not shown.\n"
    );
    for flow in [Flow::File, Flow::Tcp].map(Flow::name) {
        page.push_str(&format!(
            "\n## {flow}\n\n| system | M msg/s | CPU us/msg | RSS MiB | times | configuration |\n\
             | --- | ---: | ---: | ---: | ---: | --- |\n"
        ));
        let of_flow: Vec<&Row> = rows.iter().filter(|row| row.flow == flow).collect();
        let ours = of_flow.first().map_or(0.0, |row| row.rate());
        for row in of_flow {
            let Row { system, version, config, rss_mib, .. } = row;
            let rate = match &row.wrong {
                Some(why) => {
                    let why = why.lines().next().unwrap_or_default();
                    page.push_str(&format!("| {system} {version} | {why} | | | | {config} |\n"));
                    continue;
                }
                None => Spread::of(&row.m_per_s),
            };
            let cpu = Spread::of(&row.cpu_us).median;
            let times = ours / rate.median;
            let times = if times < 1.0 { format!("**{times:.2}**") } else { format!("{times:.1}") };
            page.push_str(&format!(
                "| {system} {version} | {:.3} ({:.3} to {:.3}) | {cpu:.2} | {rss_mib:.0} | {times} | \
                 [{config}](peers/{config}) |\n",
                rate.median, rate.min, rate.max
            ));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faster_peer_is_shown_as_faster_and_a_wrong_one_without_a_rate() {
        let row = |system, rate, wrong: Option<&str>| Row {
            system,
            version: "1".into(),
            flow: Flow::File.name(),
            config: "c",
            m_per_s: if wrong.is_some() { vec![] } else { vec![rate] },
            cpu_us: vec![1.0],
            rss_mib: 1.0,
            wrong: wrong.map(Into::into),
        };
        let rows =
            [row("Ringmain", 2.0, None), row("B", 4.0, None), row("C", 1.0, Some("differs"))];
        let page = page(&rows, 1, &Machine::read(), 5);
        assert!(page.contains("| **0.50** |"), "{page}");
        assert!(page.contains("| C 1 | differs |"), "{page}");
    }
}
