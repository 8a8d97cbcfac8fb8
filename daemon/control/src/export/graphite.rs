//! Graphite's plaintext protocol: `path value seconds`, a line each, over TCP.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::figures::{Value, each};
use crate::view::{Sample, View};

/// How long a server may take to accept one reading.
const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// One server. A reading that it does not take in time is lost, counted by
/// nobody: the next one carries the same totals.
pub(super) struct Graphite {
    to: String,
    prefix: String,
    stream: Option<TcpStream>,
    text: String,
    failed: bool,
}

impl Graphite {
    pub(super) fn new(to: &str, prefix: &str) -> Self {
        let (to, prefix) = (to.to_owned(), prefix.to_owned());
        Self { to, prefix, stream: None, text: String::new(), failed: false }
    }

    pub(super) async fn send(&mut self, view: &View, sample: &Sample) {
        self.text.clear();
        let seconds = sample.now.wall_us / 1_000_000;
        each(view, sample, &mut |figure| {
            let (prefix, path) = (&self.prefix, figure.path());
            let _ = match figure.value {
                Value::Counter(value) => writeln!(self.text, "{prefix}.{path} {value} {seconds}"),
                Value::Gauge(value) => writeln!(self.text, "{prefix}.{path} {value} {seconds}"),
            };
        });
        let late = io::Error::new(io::ErrorKind::TimedOut, "it does not take the figures");
        let sent = timeout(SEND_DEADLINE, self.write()).await.unwrap_or(Err(late));
        match sent {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.stream = None;
                if !std::mem::replace(&mut self.failed, true) {
                    let to = &self.to;
                    tracing::warn!("[metrics]: cannot send to {to}: {error}; it goes on trying");
                }
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        // A server that has closed its end would swallow the first reading.
        if self.stream.as_ref().is_some_and(is_closed) {
            self.stream = None;
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(TcpStream::connect(&self.to).await?),
        };
        stream.write_all(self.text.as_bytes()).await
    }
}

/// Nothing is ever received but the end.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
