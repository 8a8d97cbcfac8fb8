//! A running daemon, and what it came to.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{until, until_some};
use crate::{Summary, machine};

/// A daemon that ends with this value.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    summary: PathBuf,
    said: Arc<Mutex<String>>,
    readers: Option<(JoinHandle<Vec<u8>>, JoinHandle<()>)>,
}

impl Daemon {
    pub(crate) fn start(mut command: Command, summary: PathBuf) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon starts");
        let mut stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let said = Arc::new(Mutex::new(String::new()));
        let out = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).expect("a pipe can be read");
            bytes
        });
        let heard = said.clone();
        let err = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line.expect("messages are UTF-8");
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        Self { child, summary, said, readers: Some((out, err)) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of the pipe that is its standard input.
    ///
    /// # Panics
    /// When there is none, or it was taken.
    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is a pipe")
    }

    /// What it has said on standard error so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said something.
    ///
    /// # Panics
    /// When it ends before, or after a long time.
    pub fn wait_for(&mut self, text: &str) {
        until(&format!("the daemon says '{text}'"), || {
            let heard = self.said().contains(text);
            assert!(heard || self.is_running(), "it ended and said:\n{}", self.said());
            heard
        });
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When the system does not know.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_none()
    }

    /// Memory in RAM now, in KiB.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        machine::rss_kib(self.pid()).expect("it runs")
    }

    /// Open descriptors.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        machine::descriptors(self.pid()).expect("it runs")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has been waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it has not been waited for");
    }

    /// Asks it to drain and waits for its end.
    #[must_use]
    pub fn drain(self) -> Done {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end. What it counted must balance.
    ///
    /// # Panics
    /// When it does not end, or does not balance.
    #[must_use]
    pub fn wait(mut self) -> Done {
        drop(self.child.stdin.take());
        let status =
            until_some("the daemon ends", || self.child.try_wait().expect("it is a child"));
        let (out, err) = self.readers.take().expect("nobody waited before");
        let stdout = out.join().expect("the reader does not panic");
        err.join().expect("the reader does not panic");
        let text = fs::read_to_string(&self.summary).ok();
        let summaries = text.map(|text| Summary::read(&text)).unwrap_or_default();
        // What is still under way when a run is cut off has gone nowhere yet.
        let whole = status.success();
        summaries.iter().for_each(|s| s.assert_balance(whole && !s.is_cut_off()));
        Done { status, stdout, stderr: self.said(), summaries }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.readers.is_some() {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                eprintln!("the daemon said:\n{}", self.said());
            }
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Done {
    /// How the process ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it said.
    pub stderr: String,
    /// What it counted, by flow.
    pub summaries: Vec<Summary>,
}

impl Done {
    /// It ended well; what its only flow counted.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn ok(&self) -> &Summary {
        assert_eq!(self.status.code(), Some(0), "it ended with {}:\n{}", self.status, self.stderr);
        let [summary] = &*self.summaries else { panic!("not one flow: {:#?}", self.summaries) };
        summary
    }

    /// It ended with this code; what it said.
    ///
    /// # Panics
    /// When it ended otherwise.
    pub fn failed(&self, code: i32) -> &str {
        assert_eq!(self.status.code(), Some(code), "{}:\n{}", self.status, self.stderr);
        &self.stderr
    }

    /// One of several flows.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn flow(&self, name: &str) -> &Summary {
        let found = self.summaries.iter().find(|summary| summary.flow == name);
        found.unwrap_or_else(|| panic!("no flow {name}: {:#?}", self.summaries))
    }
}
