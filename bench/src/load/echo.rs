//! Lines that come back: one connection that the receiver's sink opens.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::message::number;
use super::result::histogram;
use super::would_block;
use crate::measure::monotonic_ns;

const ACCEPT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 << 10;

/// The connection, and the latencies of what has come over it.
pub(super) struct Echo {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    count: u64,
    latencies: Histogram<u64>,
}

/// Listens before anything is sent.
pub(super) struct Listening(TcpListener, SocketAddr);

impl Listening {
    pub(super) fn at(at: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener, at))
    }
}

impl Echo {
    /// Waits for the receiver's sink.
    pub(super) fn accept(Listening(listener, at): Listening) -> io::Result<Self> {
        let until = Instant::now() + ACCEPT;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if would_block(&error) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    let why = format!("nobody connected to {at} to send messages back: {error}");
                    return Err(io::Error::new(error.kind(), why));
                }
            }
        };
        stream.set_nonblocking(true)?;
        let buffer = vec![0; READ_BYTES];
        Ok(Self { stream, buffer, filled: 0, count: 0, latencies: histogram() })
    }

    /// Takes what has come. A message that was due within the warm-up counts
    /// as come and not as a latency.
    pub(super) fn look(
        &mut self,
        due_ns: impl Fn(u64) -> u64,
        begun: u64,
        warm_up_ns: u64,
    ) -> io::Result<()> {
        let got = match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(got) => got,
            Err(error) if would_block(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = monotonic_ns() - begun;
        self.filled += got;
        let text = &self.buffer[..self.filled];
        let whole = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &text[..whole]) {
            let line = &text[start..end];
            start = end + 1;
            let Some(number) = number(line) else {
                let line = String::from_utf8_lossy(line).into_owned();
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("no number: {line}"),
                ));
            };
            self.count += 1;
            let due = due_ns(number);
            if due >= warm_up_ns {
                self.latencies.saturating_record(now.saturating_sub(due).max(1));
            }
        }
        self.buffer.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn latencies(&self) -> &Histogram<u64> {
        &self.latencies
    }
}
