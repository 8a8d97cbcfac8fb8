//! A datagram for each message, UDP or Unix.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use super::pace::{State, Wire, wait_for_room};
use super::{Kind, LoadArgs, address, would_block};

/// What every kernel with UDP_SEGMENT takes at once.
const SEGMENTS: usize = 64;
/// The most that an UDP datagram holds, split or not.
const BURST_BYTES: usize = 65_000;
const CONNECT: Duration = Duration::from_secs(30);

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.send(bytes),
            Self::Unix(socket) => socket.send(bytes),
        }
    }
}

/// A socket, and the datagrams that wait for it.
pub(super) struct Datagrams {
    socket: Socket,
    size: usize,
    /// Datagrams in one system call.
    burst: usize,
    waiting: Vec<u8>,
}

impl Datagrams {
    pub(super) fn connect(args: &LoadArgs) -> io::Result<Self> {
        let size = super::message::Messages::new(args.bytes).bytes();
        let socket = if args.kind == Kind::UnixDatagram {
            Socket::Unix(connect_unix(&args.to)?)
        } else {
            let to = address(&args.to)?;
            let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(to)?;
            if args.gso {
                setsockopt(&socket, UdpGsoSegment, &(size as i32))?;
            }
            socket.set_nonblocking(true)?;
            Socket::Udp(socket)
        };
        let burst = if args.gso { SEGMENTS.min(BURST_BYTES / size).max(1) } else { 1 };
        Ok(Self { socket, size, burst, waiting: Vec::with_capacity(SEGMENTS * size) })
    }
}

fn connect_unix(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let until = Instant::now() + CONNECT;
    while let Err(error) = socket.connect(path) {
        if Instant::now() > until {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Wire for Datagrams {
    fn has_room(&self) -> bool {
        self.waiting.len() < SEGMENTS * self.size
    }

    fn push(&mut self, message: &[u8], _: u64) {
        self.waiting.extend_from_slice(message);
    }

    fn flush(&mut self, _: u64) -> io::Result<State> {
        let mut at = 0;
        let mut state = State::Flushed;
        for burst in self.waiting.chunks(self.burst * self.size) {
            match self.socket.send(burst) {
                Ok(_) => at += burst.len(),
                Err(error) if would_block(&error) => {
                    state = State::Full;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.waiting.drain(..at);
        Ok(state)
    }

    fn rest(&self) {
        match &self.socket {
            Socket::Udp(socket) => wait_for_room(socket),
            Socket::Unix(socket) => wait_for_room(socket),
        }
    }

    fn end(&mut self) {}

    fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    fn pushes_back(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }
}
