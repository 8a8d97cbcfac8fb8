//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Scenarios, or beginnings of their names; all without
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenarios: Vec<String>,
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
    #[arg(long)]
    pub(crate) json: bool,
    /// The daemon; without: beside this program
    #[arg(long, value_name = "PATH")]
    pub(crate) ringmain: Option<PathBuf>,
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a number from 1".to_owned()),
        Ok(rounds) => Ok(rounds),
    }
}
