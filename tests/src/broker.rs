//! MQTT brokers that end with the test that started them.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{until, until_some};

/// What tests of delivery ask of any broker.
pub trait Broker {
    /// Whether it keeps to its limit of messages without an acknowledgement in
    /// a session that it resumes, too.
    const KEEPS_LIMIT: bool;

    /// A new one, for clients of a version of MQTT.
    fn of_version(version: &str) -> Self
    where
        Self: Sized;

    /// Where it listens.
    fn port(&self) -> u16;

    /// What it has said so far.
    fn log(&self) -> String;

    /// How it says that somebody has subscribed to a topic filter.
    fn subscription_line(&self, filter: &str) -> String;

    /// Ends it.
    fn stop(&mut self);

    /// Starts it when it was stopped.
    fn start_again(&mut self);

    /// How often somebody has subscribed to a topic filter.
    fn subscriptions(&self, filter: &str) -> usize {
        self.log().matches(&self.subscription_line(filter)).count()
    }

    /// Waits until somebody has subscribed to a topic filter so many times.
    ///
    /// # Panics
    /// When nobody does.
    fn wait_for_subscriptions(&self, filter: &str, times: usize) {
        until(&format!("somebody subscribes to {filter}"), || self.subscriptions(filter) >= times);
    }

    /// Waits until somebody has subscribed to a topic filter.
    ///
    /// # Panics
    /// When nobody does.
    fn wait_for_subscription(&self, filter: &str) {
        self.wait_for_subscriptions(filter, 1);
    }
}

/// The process, and the file that it says things to.
#[derive(Debug, Default)]
pub(crate) struct Process(Option<Child>);

impl Process {
    pub(crate) fn start(&mut self, mut command: Command, log: &Path, port: u16) {
        let log: File = fs::OpenOptions::new().append(true).create(true).open(log).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let what = format!("{command:?} is there (tests/run sees to that)");
        let child = self.0.insert(command.spawn().expect(&what));
        until_some("the broker listens", || {
            let ended = child.try_wait().expect("it is a child");
            assert!(ended.is_none(), "the broker ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    pub(crate) fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.0.take() else { return };
        kill_process(Pid::from_child(&child), signal).expect("it has not been waited for");
        until("the broker ends", || child.try_wait().expect("it is a child").is_some());
    }
}
