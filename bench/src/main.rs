//! `ringmain-bench`: the harness that confirms message rates.
//!
//! Owns: the scenarios (`scenario/`), what they are measured with (`measure`),
//! their input (`sensors`), the daemon as a child process (`daemon`) and the
//! report (`report`).
//!
//! Invariants:
//! - A figure stands for work whose result was verified: every scenario counts
//!   what came out and compares it with what had to.
//! - Variants of one scenario are measured in turn, round by round, so that a
//!   machine that changes its speed changes it for all.
//! - Time decides no exit code: only a wrong result does.
//!
//! Deliberately absent: other systems; the figures of peers that some lines are
//! compared with were measured apart and are named as such.
#![forbid(unsafe_code)]

mod args;
mod daemon;
mod machine;
mod measure;
mod report;
mod scenario;
mod sensors;
mod stats;

use std::process::ExitCode;

use args::{Args, Command, RunArgs};
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
        Command::Run(args) => run(&args),
    }
}

/// Wrong arguments.
const EX_USAGE: u8 = 2;

fn run(args: &RunArgs) -> ExitCode {
    let chosen = match scenario::choose(&args.scenarios) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            eprintln!("error: no scenario '{unknown}'; `ringmain-bench list` names them");
            return ExitCode::from(EX_USAGE);
        }
    };
    let env = match Env::new(args) {
        Ok(env) => env,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let machine = Machine::read();
    if !args.json {
        print!("{machine}");
    }
    let report = measure_all(&chosen, &env, args.repeat);
    if args.json {
        println!("{}", report.json(&machine, args.repeat));
    } else {
        print!("{report}");
    }
    if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
