//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::diff::DiffArgs;
use crate::load::LoadArgs;
use crate::measure::Amount;
use crate::peers::CompareArgs;
use crate::rival::RivalArgs;

/// Measures the message rates of Ringmain, and verifies what it measures.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Names the scenarios
    List,
    /// Runs scenarios; exits with 1 when a result is wrong, never for a time
    Run(RunArgs),
    /// Runs every scenario
    All(HowArgs),
    /// Runs the same flows in other systems that are on PATH
    Compare(CompareArgs),
    /// What moved between two reports by more than their spread
    Diff(DiffArgs),
    /// The load generator: sends messages on a schedule, and says who was the limit
    Load(LoadArgs),
    /// The client that the scenario mqtt is compared with
    #[command(hide = true)]
    MqttRival(RivalArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Scenarios, or beginnings of their names; all without
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenarios: Vec<String>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// How to measure, and what to do with the figures
#[derive(Debug, clap::Args)]
pub(crate) struct HowArgs {
    /// A fifth of the time for each: under five minutes for everything
    #[arg(long, conflicts_with_all = ["seconds", "count"])]
    pub(crate) quick: bool,
    /// How long one variant is measured in each round
    #[arg(long, value_name = "N", default_value_t = 0.5, conflicts_with = "count")]
    pub(crate) seconds: f64,
    /// Measure about this many messages instead of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Rounds, of which the median, the least and the greatest are shown
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = rounds)]
    pub(crate) repeat: usize,
    /// Print one JSON document
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) json: bool,
    /// Print the page that --out writes, without plots
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Write RESULTS.md and results/ (plots, figures as JSON) into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// The daemon; without: beside this program
    #[arg(long, value_name = "PATH")]
    pub(crate) ringmain: Option<PathBuf>,
}

/// Of the time of a full run.
const QUICK_SECONDS: f64 = 0.1;

impl HowArgs {
    pub(crate) fn amount(&self) -> Amount {
        match self.count {
            Some(count) => Amount::Messages(count),
            None if self.quick => Amount::Seconds(QUICK_SECONDS),
            None => Amount::Seconds(self.seconds),
        }
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a number from 1".to_owned()),
        Ok(rounds) => Ok(rounds),
    }
}
