//! A rumqttd of the test's own: another implementation than mosquitto.
//!
//! What it cannot (0.20), so that tests do not ask for it: it keeps nothing
//! over a restart; a publication of QoS 2 that is not released yet is lost with
//! the connection it came on, although the session goes on.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::broker::{Broker, Process};
use crate::net::free_port;

/// A broker that ends with this value, and speaks one version of MQTT.
#[derive(Debug)]
pub struct Rumqttd {
    dir: TempDir,
    port: u16,
    version: String,
    process: Process,
}

impl Rumqttd {
    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Broker for Rumqttd {
    const KEEPS_LIMIT: bool = true;

    fn of_version(version: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("rumqttd-").tempdir();
        let dir = dir.expect("a temporary folder can be made");
        let version = version.to_owned();
        let mut broker = Self { dir, port: free_port(), version, process: Process::default() };
        broker.start_again();
        broker
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn subscription_line(&self, filter: &str) -> String {
        format!("Adding subscription on topic {filter}\n")
    }

    fn stop(&mut self) {
        self.process.end(Signal::TERM);
    }

    fn start_again(&mut self) {
        let mut command = Command::new(program());
        command.args([&self.port.to_string(), &self.version]).env("NO_COLOR", "1");
        let log = self.log_path();
        self.process.start(command, &log, self.port);
    }
}

impl Drop for Rumqttd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let end: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the broker said at last (newest first):\n{}", end.join("\n"));
        }
        self.process.end(Signal::KILL);
    }
}

/// Cargo builds it before the tests of this package.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    profile.join("ringmain-test-rumqttd")
}
