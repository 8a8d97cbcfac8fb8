//! The ringmain binary: arguments, logging, exit codes. It computes nothing.
//!
//! Exit codes: 0 success; 1 a run failed or left messages behind, or a test failed; 2 wrong
//! arguments; 78 (`EX_CONFIG` of sysexits.h) the configuration is refused.
#![forbid(unsafe_code)]

mod args;
mod client;
mod dead;
mod flows;
mod live;
mod log;
mod schedule;
mod systemd;
mod table;
mod tap;
mod top;

use std::process::ExitCode;

use args::{Args, Command, GraphArgs, RunArgs, TestArgs};
use clap::{CommandFactory, Parser};
use ringmain_config::{Diagnostics, graph};
use ringmain_control::{Prepared, RunOptions, prepare};
use ringmain_runtime::signals;

/// The configuration is refused.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run(args) => run(&args),
        Command::Check(args) => check(&args.paths, args.config.as_deref()),
        Command::Test(args) => test(&args),
        Command::Graph(args) => draw(&args),
        Command::Dead(args) => dead::dead(args.command),
        Command::Top(args) => said(top::run(&args)),
        Command::Tap(args) => said(tap::run(&args)),
        Command::Flows(args) => said(flows::run(&args).map(|text| print!("{text}"))),
        Command::Completions { shell } => {
            let mut command = Args::command();
            clap_complete::generate(shell, &mut command, "ringmain", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { dir } => said(manual(&dir)),
    }
}

fn run(args: &RunArgs) -> ExitCode {
    // First of all: a thread that exists before would take the signals.
    let mut signals = match signals::watch() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("error: cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let prepared = match prepare(&args.flows, args.config.as_deref()) {
        Ok(prepared) => prepared,
        Err(diagnostics) => return refuse(&diagnostics),
    };
    print_warnings(&prepared);
    log::init(&prepared.plan.log);
    let options = RunOptions {
        summary_json: args.summary_json.clone(),
        io: args.io.into(),
        on_state: Some(systemd::tell),
    };
    match ringmain_control::run(&prepared, &options, &mut signals) {
        Ok(outcome) => {
            for summary in &outcome.summaries {
                eprint!("{summary}");
            }
            if outcome.drained { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("error: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What a command that talks to a daemon came to.
fn said(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn manual(dir: &std::path::Path) -> Result<(), String> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Args::command(), dir))
        .map_err(|error| format!("cannot write into {}: {error}", dir.display()))
}

fn check(paths: &[std::path::PathBuf], config: Option<&std::path::Path>) -> ExitCode {
    match prepare(paths, config) {
        Ok(prepared) => {
            print_warnings(&prepared);
            let flows: Vec<_> = prepared.plan.flows.iter().map(|f| f.name.as_str()).collect();
            let found = if flows.is_empty() { "no flow yet".into() } else { flows.join(", ") };
            eprintln!("ok: {found}");
            ExitCode::SUCCESS
        }
        Err(diagnostics) => refuse(&diagnostics),
    }
}

fn test(args: &TestArgs) -> ExitCode {
    let report = match ringmain_control::test(&args.paths, args.filter.as_deref()) {
        Ok(report) => report,
        Err(refused) => {
            refused.iter().for_each(|diagnostics| eprint!("{diagnostics}"));
            return ExitCode::from(EX_CONFIG);
        }
    };
    eprint!("{}", report.warnings);
    print!("{report}");
    if let Some(file) = &args.junit
        && let Err(error) = std::fs::write(file, ringmain_control::junit(&report))
    {
        eprintln!("error: cannot write {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn draw(args: &GraphArgs) -> ExitCode {
    let plan = match ringmain_config::load(std::slice::from_ref(&args.flow), None) {
        Ok(plan) => plan,
        Err(diagnostics) => return refuse(&diagnostics),
    };
    let draw = |flow: &ringmain_config::FlowPlan| {
        let notes =
            if args.live { live::notes(&args.api, &flow.name)? } else { graph::Notes::default() };
        print!(
            "{}",
            if args.dot { graph::dot(flow, &notes) } else { graph::mermaid(flow, &notes) }
        );
        Ok(())
    };
    said(plan.flows.iter().try_for_each(draw))
}

fn print_warnings(prepared: &Prepared) {
    eprint!("{}", prepared.warnings);
}

fn refuse(diagnostics: &Diagnostics) -> ExitCode {
    eprint!("{diagnostics}");
    ExitCode::from(EX_CONFIG)
}
