//! `ringmain-bench`: the harness that confirms message rates.
//!
//! Owns: the scenarios (`scenario/`), what they are measured with (`measure`),
//! their input (`sensors`), the daemon as a child process (`daemon`), the load
//! generator (`load`), other systems (`peers`), the report (`report`) and two of
//! them beside each other (`diff`).
//!
//! Invariants:
//! - A figure stands for work whose result was verified: every scenario counts
//!   what came out and compares it with what had to.
//! - Variants of one scenario are measured in turn, round by round, so that a
//!   machine that changes its speed changes it for all.
//! - Time decides no exit code: only a wrong result does.
//!
//! Deliberately absent: rates of other systems inside `run`; those that some
//! lines are compared with were measured apart and are named as such. `compare`
//! measures them here.
#![forbid(unsafe_code)]

mod args;
mod daemon;
mod diff;
mod load;
mod machine;
mod measure;
mod peers;
mod report;
mod rival;
mod scenario;
mod sensors;
mod stats;

use std::path::Path;
use std::process::ExitCode;

use args::{Args, Command, HowArgs};
use clap::Parser;
use machine::Machine;
use measure::Env;
use report::Report;

fn main() -> ExitCode {
    match Args::parse().command {
        Command::List => {
            for scenario in scenario::ALL {
                println!("{:12} {}", scenario.name, scenario.what);
            }
            ExitCode::SUCCESS
        }
        Command::Run(args) => run(&args.scenarios, &args.how),
        Command::All(args) => run(&[], &args),
        Command::Compare(args) => peers::compare(&args),
        Command::Diff(args) => match diff::diff(&args) {
            Ok(diff) => {
                print!("{diff}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Command::Load(args) => match load::run(&args) {
            Ok(result) if args.json => print_json(&result),
            Ok(result) => {
                print!("{result}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Command::MqttRival(args) => match rival::run(&args) {
            Ok(done) => print_json(&done),
            Err(error) => failed(&error),
        },
    }
}

fn print_json(value: &impl serde::Serialize) -> ExitCode {
    println!("{}", serde_json::to_string(value).expect("numbers and names serialise"));
    ExitCode::SUCCESS
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Wrong arguments.
pub(crate) const EX_USAGE: u8 = 2;

fn run(scenarios: &[String], args: &HowArgs) -> ExitCode {
    let chosen = match scenario::choose(scenarios) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            eprintln!("error: no scenario '{unknown}'; `ringmain-bench list` names them");
            return ExitCode::from(EX_USAGE);
        }
    };
    let env = match Env::new(args) {
        Ok(env) => env,
        Err(error) => return failed(&error),
    };
    let machine = Machine::read();
    let is_table = !args.json && !args.markdown;
    if is_table {
        print!("{machine}");
    }
    let report = measure_all(&chosen, &env, args.repeat);
    if args.json {
        println!("{}", report.json(&machine, args.repeat));
    } else if args.markdown {
        print!("{}", report.markdown(&machine, &how(), &[]));
    } else {
        print!("{report}");
    }
    if let Some(folder) = &args.out
        && let Err(error) = write(&report, &machine, args.repeat, folder)
    {
        return failed(&format!("{}: {error}", folder.display()));
    }
    if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The words that this was called with.
fn how() -> String {
    std::env::args().skip(1).collect::<Vec<_>>().join(" ")
}

/// `RESULTS.md`, and `results/` with plots and figures.
fn write(report: &Report, machine: &Machine, repeat: usize, folder: &Path) -> std::io::Result<()> {
    let results = folder.join("results");
    let plots = report.plots(&results)?;
    let beside = plots.into_iter().map(|(title, name)| (title, format!("results/{name}")));
    let page = report.markdown(machine, &how(), &beside.collect::<Vec<_>>());
    std::fs::write(folder.join("RESULTS.md"), page)?;
    std::fs::write(results.join("results.json"), report.json(machine, repeat) + "\n")
}

/// Round by round through all scenarios.
fn measure_all(chosen: &[&'static scenario::Scenario], env: &Env, repeat: usize) -> Report {
    let mut report = Report::default();
    let mut rounds = Vec::new();
    for scenario in chosen {
        let section = report.add(scenario);
        match scenario.prepare(env) {
            Ok(round) => rounds.push((section, round)),
            Err(wrong) => report.stop(section, wrong),
        }
    }
    for at in 0..repeat {
        for (section, round) in &mut rounds {
            if report.goes_on(*section) {
                eprint!("\r{}/{repeat} {:12}", at + 1, report.name(*section));
                match round(env) {
                    Ok(figures) => report.take(*section, figures),
                    Err(wrong) => report.stop(*section, wrong),
                }
            }
        }
    }
    eprint!("\r{:24}\r", "");
    report
}
