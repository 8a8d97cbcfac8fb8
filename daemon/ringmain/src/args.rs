//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use ringmain_runtime::IoKind;

/// A dataplane daemon: flows of many small messages, each accounted for.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run flows; with finite sources only, drain and exit with a summary
    Run(RunArgs),
    /// Report every error of flows and of the daemon's file; exit 0 or 78
    Check(CheckArgs),
    /// Draw a flow as Mermaid (default) or DOT
    Graph(GraphArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Flow files, or folders of them
    #[arg(value_name = "FLOW.toml")]
    pub(crate) flows: Vec<PathBuf>,
    /// The daemon's own file
    #[arg(short, long, value_name = "RINGMAIN.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Write the totals to this file when the run ends
    #[arg(long, value_name = "FILE")]
    pub(crate) summary_json: Option<PathBuf>,
    /// How to talk to the kernel
    #[arg(long, value_enum, default_value_t = Driver::Auto)]
    pub(crate) io: Driver,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Flow files, or folders of them
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The daemon's own file
    #[arg(short, long, value_name = "RINGMAIN.toml")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GraphArgs {
    /// The flow
    #[arg(value_name = "FLOW.toml")]
    pub(crate) flow: PathBuf,
    /// DOT instead of Mermaid
    #[arg(long)]
    pub(crate) dot: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Driver {
    /// io_uring where the system allows it, else poll
    Auto,
    /// io_uring, or fail
    Uring,
    /// poll(2)
    Poll,
}

impl From<Driver> for IoKind {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::Auto => Self::Auto,
            Driver::Uring => Self::Uring,
            Driver::Poll => Self::Poll,
        }
    }
}
