//! Lines gathered into datagrams.

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cadence::MetricSink;

/// What fits into one Ethernet frame behind the headers of IPv6 and UDP.
const PACKET_BYTES: usize = 1432;

/// Where a StatsD client leaves its lines; cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Packets(Arc<Mutex<State>>);

struct State {
    to: String,
    socket: Option<UdpSocket>,
    packet: Vec<u8>,
    failed: bool,
}

impl Packets {
    /// Nothing is sent or resolved yet.
    pub(crate) fn new(to: &str) -> Self {
        let packet = Vec::with_capacity(PACKET_BYTES);
        let state = State { to: to.to_owned(), socket: None, packet, failed: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Sends what has gathered.
    pub(crate) fn flush(&self) {
        self.state().flush();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricSink for Packets {
    fn emit(&self, metric: &str) -> io::Result<usize> {
        let mut state = self.state();
        if !state.packet.is_empty() && state.packet.len() + 1 + metric.len() > PACKET_BYTES {
            state.flush();
        }
        if !state.packet.is_empty() {
            state.packet.push(b'\n');
        }
        state.packet.extend_from_slice(metric.as_bytes());
        Ok(metric.len())
    }
}

impl State {
    /// A server that is away loses figures, as UDP does; it is told once.
    fn flush(&mut self) {
        if self.packet.is_empty() {
            return;
        }
        let result = self.send();
        self.packet.clear();
        match result {
            Ok(()) => self.failed = false,
            Err(error) => {
                // The name may lead elsewhere by now.
                self.socket = None;
                if !std::mem::replace(&mut self.failed, true) {
                    let to = &self.to;
                    tracing::warn!("[metrics]: cannot send to {to}: {error}; it goes on trying");
                }
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(connect(&self.to)?),
        };
        socket.send(&self.packet).map(|_| ())
    }
}

fn connect(to: &str) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in to.to_socket_addrs()? {
        let any = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).and_then(|socket| {
            socket.connect(addr)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
