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
    /// Run the [[tests]] of flows on a virtual clock; exit 0, 1 or 78
    ///
    /// A test inserts messages at components, moves the clock, and says what must
    /// have come out, of which the reference (config/REFERENCE.md) has every key:
    ///
    ///   [[tests]]
    ///   name = "a device that is silent for a minute is reported"
    ///   insert = [{ at = "sensors", json = '{"device":"m1"}' }]
    ///   advance = "1m"
    ///   expect = [{ at = "alerts", contains = [{ device = "m1" }] }]
    ///
    /// No connector is opened and nothing is written: messages at a source go
    /// through its decoder, and what comes to a sink is looked at. Timers fire at
    /// their times while the clock is moved; 24 hours take milliseconds. Exit 0:
    /// all passed; 1: a test failed; 78: a flow is refused.
    #[command(verbatim_doc_comment)]
    Test(TestArgs),
    /// Draw a flow as Mermaid (default) or DOT
    Graph(GraphArgs),
    /// Look at dead letters in files, and put them back in
    Dead(DeadArgs),
    /// Watch flows of a running daemon: rates, backpressure, health
    Top(TopArgs),
    /// Look at messages of a running flow as they pass
    ///
    /// What is shown is a sample: a look never holds messages up, and what it skips is
    /// counted on standard error. It goes on over reloads of the flow. An expression is
    /// Lua over the fields of a message, as in a filter:
    ///
    ///   ringmain tap plant.hot --where 'rpm > 100 and status ~= "off"' --count 10
    #[command(verbatim_doc_comment)]
    Tap(TapArgs),
    /// List and change flows of a running daemon
    Flows(FlowsArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder
    Man {
        /// The folder; it is made
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Which daemon, and how its answers are shown
#[derive(Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// `listen` of [api] of the daemon
    #[arg(
        long,
        value_name = "URL",
        env = "RINGMAIN_API",
        default_value = "http://127.0.0.1:8642",
        global = true
    )]
    pub(crate) api: String,
    /// A token of the daemon's auth file
    #[arg(
        long,
        value_name = "TOKEN",
        env = "RINGMAIN_TOKEN",
        hide_env_values = true,
        global = true
    )]
    pub(crate) token: Option<String>,
    /// Certificates of the authority that the daemon's is signed by (PEM); else
    /// those that every browser knows
    #[arg(long, value_name = "FILE", env = "RINGMAIN_CA", global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// Print what the daemon answers as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TapArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    /// The flow, or one of its components: of a source or an operator what leaves it,
    /// of a sink what comes to it
    #[arg(value_name = "FLOW[.COMPONENT]")]
    pub(crate) target: String,
    /// Look at every Nth message of a component only
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) sample: u64,
    /// Show so many messages per second at most
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100)]
    pub(crate) limit: u32,
    /// Show only messages for which this expression is true
    #[arg(long = "where", value_name = "EXPRESSION")]
    pub(crate) condition: Option<String>,
    /// End after so many messages
    #[arg(long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    #[command(subcommand)]
    pub(crate) command: FlowsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FlowsCommand {
    /// Status, rates, backpressure and refused messages of all flows
    List,
    /// One flow with its components and edges
    Show {
        /// Its name
        name: String,
    },
    /// The text of a flow
    Definition {
        /// Its name
        name: String,
    },
    /// Put a flow in, or a new version of one
    Deploy {
        /// Its definition, with a `name`
        #[arg(value_name = "FLOW.toml")]
        file: PathBuf,
        /// Do not run it yet
        #[arg(long)]
        stopped: bool,
    },
    /// Run a flow that was stopped
    Start {
        /// Its name
        name: String,
    },
    /// Drain a flow and stop it
    Stop {
        /// Its name
        name: String,
    },
    /// Stop a flow and forget it
    Delete {
        /// Its name
        name: String,
    },
    /// Put a copy of a flow in, under another name
    Clone {
        /// Its name
        name: String,
        /// The copy's name
        to: String,
    },
    /// The versions of a flow
    Versions {
        /// Its name
        name: String,
    },
    /// Make an earlier version the newest
    Rollback {
        /// Its name
        name: String,
        /// Number of the version
        version: u64,
    },
    /// When a flow runs, with its last runs; or change that
    ///
    /// Without options it is shown. A schedule that is given takes the place of the
    /// one before and becomes a new version of the flow's definition:
    ///
    ///   ringmain flows schedule nightly --cron '0 0 22 * * *' --duration 6h
    #[command(verbatim_doc_comment)]
    Schedule(ScheduleArgs),
    /// Read the configuration's flows again
    Reload,
    /// The dead letters of a flow, by component and reason
    Dead {
        #[command(flatten)]
        which: StoredArgs,
        /// Print the newest letters instead, one JSON object per line, so many at most
        #[arg(long, value_name = "COUNT")]
        show: Option<usize>,
    },
    /// Put dead letters back into a flow that runs
    ///
    /// They go in at the component that refused them, and leave the store when they
    /// have been accepted. Exit 0: done; 1: some were refused again, or it failed.
    #[command(verbatim_doc_comment)]
    Replay {
        #[command(flatten)]
        which: StoredArgs,
        /// Put them in at this component instead
        #[arg(long, value_name = "COMPONENT")]
        at: Option<String>,
    },
    /// Which versions of their scripts a flow's Lua operators run
    Scripts {
        /// Its name
        name: String,
        /// Read the scripts again first
        #[arg(long)]
        reload: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct StoredArgs {
    /// The flow's name
    pub(crate) name: String,
    /// Only those that this component refused
    #[arg(long, value_name = "NAME")]
    pub(crate) component: Option<String>,
    /// Only those with this reason
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScheduleArgs {
    /// Name of the flow
    pub(crate) name: String,
    /// Run at these times: seconds, minutes, hours, day, month, day of the week
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "files")]
    pub(crate) cron: Option<String>,
    /// Zone of the times, as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "cron")]
    pub(crate) timezone: Option<String>,
    /// Run when a file appears; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) files: Vec<String>,
    /// Run when a message comes on this topic of the broker, with + and #; may be given several times
    #[arg(long = "topic", value_name = "TOPIC", requires = "broker", conflicts_with_all = ["cron", "files"])]
    pub(crate) topics: Vec<String>,
    /// The broker of the topics, as mqtt://127.0.0.1:1883
    #[arg(long, value_name = "URL", requires = "topics")]
    pub(crate) broker: Option<String>,
    /// Drain a run after so long
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<String>,
    /// What a time does that comes while the flow runs: skip, queue or restart
    #[arg(long, value_name = "POLICY")]
    pub(crate) overlap: Option<String>,
    /// What happens to times that were missed: skip or once
    #[arg(long, value_name = "POLICY")]
    pub(crate) misfire: Option<String>,
    /// Take the schedule away
    #[arg(long, conflicts_with_all = ["cron", "files", "topics", "suspend", "resume"])]
    pub(crate) remove: bool,
    /// Begin nothing until it is resumed
    #[arg(long, conflicts_with_all = ["cron", "files", "topics", "resume"])]
    pub(crate) suspend: bool,
    /// Go on
    #[arg(long, conflicts_with_all = ["cron", "files", "topics"])]
    pub(crate) resume: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    pub(crate) command: DeadCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Count them by component and reason
    List(LetterArgs),
    /// Print them, one JSON object per line
    Show {
        #[command(flatten)]
        letters: LetterArgs,
        /// No more than so many
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// Put them back in at the component that refused them
    ///
    /// Runs the flow with these messages as all that comes in, and its sinks as they
    /// are configured. When everything has been accepted, those that were delivered
    /// leave the file; those that were refused again stay there with their new
    /// reason. Until then the file is left as it is, so that nothing is lost when
    /// the run is ended early. A daemon must not have the file open. Exit 0: none
    /// was refused again; 1: some were, or it failed; 78: the flow is refused.
    #[command(verbatim_doc_comment)]
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct LetterArgs {
    /// Files of dead letters, one JSON object per line
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Only those that this component refused; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) component: Vec<String>,
    /// Only those with this reason; may be given several times
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) letters: LetterArgs,
    /// The flow that they belong to
    #[arg(long, value_name = "FLOW.toml")]
    pub(crate) flow: PathBuf,
    /// Put them in at this component instead
    #[arg(long, value_name = "COMPONENT")]
    pub(crate) at: Option<String>,
    /// The daemon's own file
    #[arg(short, long, value_name = "RINGMAIN.toml")]
    pub(crate) config: Option<PathBuf>,
    /// How to talk to the kernel
    #[arg(long, value_enum, default_value_t = Driver::Auto)]
    pub(crate) io: Driver,
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
pub(crate) struct TestArgs {
    /// Flow files, or folders of them
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Only tests whose name, or whose flow's name, contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Write a report for CI systems as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GraphArgs {
    /// The flow
    #[arg(value_name = "FLOW.toml")]
    pub(crate) flow: PathBuf,
    /// DOT instead of Mermaid
    #[arg(long)]
    pub(crate) dot: bool,
    /// With rates and backpressure of now, from a daemon that runs the flow
    #[arg(long)]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
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
