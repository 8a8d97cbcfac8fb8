//! Lines over a connection, TCP or Unix.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::pace::{State, Wire, wait_for_room};
use super::result::{LoadResult, Sent, histogram};
use super::{Kind, LoadArgs, address, would_block};
use crate::measure::{monotonic_ns, thread_cpu_s};

/// Bytes that wait here at most while the receiver takes none.
const WAIT_BYTES: usize = 256 << 10;
const WRITE_BYTES: usize = 256 << 10;
const SILENT_MS: u16 = 10_000;

/// A socket of either kind.
pub(super) trait Socket: Read + Write + AsFd {}
impl<T: Read + Write + AsFd> Socket for T {}

/// A connection, and what waits for it.
pub(super) struct Stream {
    socket: Box<dyn Socket>,
    waiting: Vec<u8>,
    at: usize,
    sent: u64,
    /// Lines that the receiver has acknowledged, when it does.
    acked: Option<u64>,
    ack_digits: u64,
}

impl Stream {
    /// Connects as soon as somebody listens.
    pub(super) fn connect(args: &LoadArgs) -> io::Result<Self> {
        let socket = socket(args)?;
        let acked = args.acks.then_some(0);
        let waiting = Vec::with_capacity(2 * WAIT_BYTES);
        Ok(Self { socket, waiting, at: 0, sent: 0, acked, ack_digits: 0 })
    }

    /// Reads how many lines were accepted: decimal numbers, a line each.
    fn read_acks(&mut self) -> io::Result<()> {
        let Some(acked) = &mut self.acked else { return Ok(()) };
        let mut buffer = [0; 4096];
        loop {
            let got = match self.socket.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => got,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            for byte in &buffer[..got] {
                match byte {
                    b'0'..=b'9' => self.ack_digits = self.ack_digits * 10 + u64::from(byte - b'0'),
                    _ => *acked = std::mem::take(&mut self.ack_digits),
                }
            }
        }
    }

    /// Waits until the socket takes more, or has something to say.
    fn wait(&self) -> io::Result<()> {
        let mut flags = PollFlags::POLLOUT;
        if self.acked.is_some() {
            flags |= PollFlags::POLLIN;
        }
        let mut fds = [PollFd::new(self.socket.as_fd(), flags)];
        match poll(&mut fds, PollTimeout::from(SILENT_MS))? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the receiver takes nothing")),
            _ => Ok(()),
        }
    }
}

/// A connection that does not wait.
pub(super) fn socket(args: &LoadArgs) -> io::Result<Box<dyn Socket>> {
    let (kind, to) = (args.kind, args.to.as_str());
    let until = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let made: io::Result<Box<dyn Socket>> = if kind == Kind::Unix {
            UnixStream::connect(to).and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(Box::new(socket) as Box<dyn Socket>)
            })
        } else {
            TcpStream::connect(address(to)?).and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok(Box::new(socket) as Box<dyn Socket>)
            })
        };
        match made {
            Err(error) if Instant::now() > until => {
                return Err(io::Error::new(error.kind(), format!("{to}: {error}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
            Ok(socket) => return Ok(socket),
        }
    }
}

impl Wire for Stream {
    fn has_room(&self) -> bool {
        self.waiting.len() - self.at < WAIT_BYTES
    }

    fn push(&mut self, message: &[u8], _: u64) {
        self.waiting.extend_from_slice(message);
        self.waiting.push(b'\n');
        self.sent += 1;
    }

    fn flush(&mut self, _: u64) -> io::Result<State> {
        self.read_acks()?;
        let mut state = State::Flushed;
        while self.at < self.waiting.len() {
            match self.socket.write(&self.waiting[self.at..]) {
                Ok(wrote) => self.at += wrote,
                Err(error) if would_block(&error) => {
                    state = State::Full;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if self.at == self.waiting.len() {
            self.waiting.clear();
            self.at = 0;
        } else if self.at > WAIT_BYTES {
            self.waiting.drain(..self.at);
            self.at = 0;
        }
        Ok(state)
    }

    fn rest(&self) {
        wait_for_room(self.socket.as_fd());
    }

    fn end(&mut self) {}

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.acked.is_none_or(|acked| acked >= self.sent)
    }
}

/// Sends a block of lines so many times, or for the time that was asked for,
/// as fast as the receiver takes it.
pub(super) fn send_block(
    stream: &mut Stream,
    block: &[u8],
    times: u64,
    args: &LoadArgs,
) -> io::Result<LoadResult> {
    let lines = memchr::memchr_iter(b'\n', block).count() as u64;
    let bytes = block.len() / (lines.max(1) as usize) - 1;
    let timed = times == u64::MAX;
    let (began_ns, cpu) = (monotonic_ns(), thread_cpu_s());
    let limit_ns = (args.seconds * 1e9) as u64;
    let mut sent = Sent { began_ns, message_bytes: bytes, ..Sent::default() };
    for _ in 0..times {
        for part in block.chunks(WRITE_BYTES) {
            sent.blocked_ns += write_all(stream, part)?;
        }
        sent.messages += lines;
        if timed && monotonic_ns() - began_ns > limit_ns {
            break;
        }
    }
    while stream.acked.is_some_and(|acked| acked < sent.messages) {
        let before = monotonic_ns();
        // Only what it says is waited for now.
        let mut fds = [PollFd::new(stream.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(SILENT_MS))? == 0 {
            break;
        }
        stream.read_acks()?;
        sent.blocked_ns += monotonic_ns() - before;
    }
    let lost = stream.acked.map_or(0, |acked| sent.messages - acked);
    sent.ended_ns = monotonic_ns();
    sent.cpu_s = thread_cpu_s() - cpu;
    Ok(LoadResult::new(args, &sent, &histogram(), None, lost, true))
}

/// How long it had to wait.
fn write_all(stream: &mut Stream, mut rest: &[u8]) -> io::Result<u64> {
    let mut blocked_ns = 0;
    while !rest.is_empty() {
        match stream.socket.write(rest) {
            Ok(wrote) => rest = &rest[wrote..],
            Err(error) if would_block(&error) => {
                let before = monotonic_ns();
                stream.wait()?;
                blocked_ns += monotonic_ns() - before;
            }
            Err(error) => return Err(error),
        }
        stream.read_acks()?;
    }
    Ok(blocked_ns)
}
