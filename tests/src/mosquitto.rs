//! A mosquitto of the test's own, and its clients.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::broker::{Broker, Process};
use crate::net::free_port;

/// A broker that ends with this value. It remembers sessions over restarts and
/// queues without a limit.
#[derive(Debug)]
pub struct Mosquitto {
    dir: TempDir,
    port: u16,
    process: Process,
}

impl Mosquitto {
    /// Starts one, with more lines of configuration; they may name files of
    /// [`Mosquitto::path`] as `DIR/NAME`.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn start(more: &str) -> Self {
        Self::start_with(more, &[])
    }

    /// The same, with files in its folder.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn start_with(more: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("mosquitto-").tempdir();
        let dir = dir.expect("a temporary folder can be made");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a new file");
        }
        let port = free_port();
        let more = more.replace("DIR", &dir.path().to_string_lossy());
        let anonymous = !more.contains("allow_anonymous");
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\n{}persistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 1000\n\
             set_tcp_nodelay true\nlog_dest stderr\nlog_type error\nlog_type warning\n\
             log_type notice\nlog_type subscribe\n{more}\n",
            if anonymous { "allow_anonymous true\n" } else { "" },
            dir.path().display()
        );
        fs::write(dir.path().join("mosquitto.conf"), config).expect("a new file");
        let mut broker = Self { dir, port, process: Process::default() };
        broker.start_again();
        broker
    }

    /// A file of its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Publishes one message and waits for its acknowledgement.
    ///
    /// # Panics
    /// When the client fails.
    pub fn publish(&self, topic: &str, qos: u8, message: &str) {
        let mut client = self.client(topic, qos);
        let status = client.args(["-m", message]).status().expect("mosquitto_pub is installed");
        assert!(status.success(), "{status}");
    }

    fn client(&self, topic: &str, qos: u8) -> Command {
        let mut command = Command::new(program("mosquitto_pub"));
        let (port, qos) = (self.port.to_string(), qos.to_string());
        command.args(["-h", "127.0.0.1", "-p", &port, "-t", topic, "-q", &qos]);
        command
    }

    /// Begins to publish lines to a topic, each a message of QoS 1.
    ///
    /// # Panics
    /// When the client cannot be started.
    #[must_use]
    pub fn publisher(&self, topic: &str, lines: &str) -> Child {
        let mut command = self.client(topic, 1);
        let mut child =
            command.arg("-l").stdin(Stdio::piped()).spawn().expect("mosquitto_pub is installed");
        let mut input = child.stdin.take().expect("it is piped");
        let lines = lines.to_owned();
        // The pipe is smaller than the lines.
        std::thread::spawn(move || {
            // A client that fails is seen at its end.
            let _ = input.write_all(lines.as_bytes());
        });
        child
    }
}

impl Broker for Mosquitto {
    // 2.0.11 sends up to four times as many.
    const KEEPS_LIMIT: bool = false;

    fn of_version(_: &str) -> Self {
        Self::start("")
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn subscription_line(&self, filter: &str) -> String {
        format!(" {filter}\n")
    }

    /// It stores its sessions.
    fn stop(&mut self) {
        self.process.end(Signal::TERM);
    }

    fn start_again(&mut self) {
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(self.path("mosquitto.conf"));
        let log = self.path("log");
        self.process.start(command, &log, self.port);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the broker said:\n{}", self.log());
        }
        self.process.end(Signal::KILL);
    }
}

/// Publishes with more arguments of `mosquitto_pub`, to any broker.
///
/// # Panics
/// When the client fails.
pub fn publish_with(port: u16, args: &[&str]) {
    let mut command = Command::new(program("mosquitto_pub"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(args);
    let status = command.status().expect("mosquitto_pub is installed");
    assert!(status.success(), "{status}");
}

/// A file of users that a broker takes, with one in it.
///
/// # Panics
/// When its program fails.
#[must_use]
pub fn password_file(user: &str, password: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let path = dir.path().join("users");
    let made = Command::new(program("mosquitto_passwd"))
        .args(["-b", "-c"])
        .args([path.as_os_str(), user.as_ref(), password.as_ref()])
        .output();
    assert!(made.expect("it is installed with the broker").status.success());
    fs::read_to_string(path).expect("it was made")
}

/// Debian puts daemons where not everybody looks.
fn program(name: &str) -> PathBuf {
    let there = |folder: &str| Path::new(folder).join(name);
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found = folders.into_iter().map(there).find(|path| path.is_file());
    found.unwrap_or_else(|| PathBuf::from(name))
}
