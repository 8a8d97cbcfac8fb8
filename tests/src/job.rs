//! A folder with flows and their data, and how to run them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{Daemon, Done};
use crate::{Driver, binary, machine};

/// File that the summary is written to.
pub(crate) const SUMMARY: &str = "summary.json";

/// Flows in a folder of their own, which is the daemon's working directory.
#[derive(Debug)]
pub struct Job {
    dir: TempDir,
    driver: Driver,
    core: usize,
    flows: Vec<String>,
    daemon_file: Option<String>,
    environment: Vec<(String, String)>,
    piped: bool,
}

impl Job {
    /// An empty folder. Unless [`Job::daemon_file`] says otherwise, the flows
    /// run on one of the cores that this process may use.
    ///
    /// # Panics
    /// When there is no place for temporary folders.
    #[must_use]
    pub fn new(driver: Driver) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let cores = machine::cores();
        let core = cores[NEXT.fetch_add(1, Ordering::Relaxed) % cores.len()];
        let dir = tempfile::Builder::new().prefix("ringmain-").tempdir();
        let job = Self {
            dir: dir.expect("a temporary folder can be made"),
            driver,
            core,
            flows: Vec::new(),
            daemon_file: None,
            environment: Vec::new(),
            piped: false,
        };
        job.shards("")
    }

    /// On one core, with more keys of `[shards]` and tables behind it.
    #[must_use]
    pub fn shards(self, more: &str) -> Self {
        let core = self.core;
        self.daemon_file(&format!("[shards]\ncores = \"{core}\"\n{more}"))
    }

    /// One flow.
    #[must_use]
    pub fn flow(driver: Driver, toml: &str) -> Self {
        Self::new(driver).and_flow(toml)
    }

    /// Another flow, in `flow-N.toml`.
    #[must_use]
    pub fn and_flow(mut self, toml: &str) -> Self {
        let name = format!("flow-{}.toml", self.flows.len());
        self.write(&name, toml);
        self.flows.push(name);
        self
    }

    /// The daemon's own file.
    #[must_use]
    pub fn daemon_file(mut self, toml: &str) -> Self {
        self.write("ringmain.toml", toml);
        self.daemon_file = Some("ringmain.toml".to_owned());
        self
    }

    /// No daemon file: the defaults.
    #[must_use]
    pub fn without_daemon_file(mut self) -> Self {
        self.daemon_file = None;
        self
    }

    /// A file in the folder.
    #[must_use]
    pub fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.write(name, bytes);
        self
    }

    /// A variable in the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Standard input is a pipe, whose end [`Daemon::input`] holds.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.piped = true;
        self
    }

    /// Writes a file in the folder.
    ///
    /// # Panics
    /// When that is refused.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("a new folder");
        fs::write(path, bytes).expect("a new file");
    }

    /// Where a file of the folder is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The lines of a file.
    ///
    /// # Panics
    /// When it cannot be read, or its last line has no end.
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(text.is_empty() || text.ends_with('\n'), "{name}: the last line is torn");
        text.lines().map(str::to_owned).collect()
    }

    /// The lines of a file, each as JSON.
    ///
    /// # Panics
    /// When one is not JSON.
    #[must_use]
    pub fn json(&self, name: &str) -> Vec<Value> {
        let parse = |line: String| {
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"))
        };
        self.lines(name).into_iter().map(parse).collect()
    }

    /// How the daemon is called to run the flows.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command_of(Command::new(binary::ringmain()))
    }

    /// The same, with another program in front.
    #[must_use]
    pub fn command_of(&self, mut command: Command) -> Command {
        command.arg("run").args(&self.flows);
        if let Some(file) = &self.daemon_file {
            command.args(["--config", file]);
        }
        command.args(["--io", self.driver.name(), "--summary-json", SUMMARY]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.dir.path());
        command.stdin(if self.piped { Stdio::piped() } else { Stdio::null() });
        command
    }

    /// Starts the daemon.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self) -> Daemon {
        self.start_as(self.command())
    }

    /// Starts what [`Job::command_of`] made.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_as(&self, command: Command) -> Daemon {
        let summary = self.path(SUMMARY);
        // Of a run before.
        let _ = fs::remove_file(&summary);
        Daemon::start(command, summary)
    }

    /// Runs the flows to their end.
    #[must_use]
    pub fn run(&self) -> Done {
        self.start().wait()
    }

    /// Another command of the program, in the folder, to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn call(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary::ringmain());
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().expect("the program starts")
    }
}
