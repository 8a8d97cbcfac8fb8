//! Publications to a broker, MQTT 3.1.1, QoS 0 or 1.
//!
//! Four packets are all that it takes; rumqttc, whose event loop the daemon is
//! compared with, is not part of this.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::pace::{State, Wire, wait_for};
use super::stream::{Socket, socket};
use super::{LoadArgs, would_block};

const WAIT_BYTES: usize = 64 << 10;
const CONNACK: Duration = Duration::from_secs(10);
/// Publications of QoS 1 that may wait for the broker.
const INFLIGHT_MAX: usize = 1000;
const PUBACK: [u8; 2] = [0x40, 2];

/// A connection to a broker.
pub(super) struct Mqtt {
    socket: Box<dyn Socket>,
    topic: String,
    qos: u8,
    waiting: Vec<u8>,
    at: usize,
    /// Beginning of an acknowledgement.
    partial: Vec<u8>,
    inflight: usize,
    next_id: u16,
}

impl Mqtt {
    pub(super) fn connect(args: &LoadArgs) -> io::Result<Self> {
        let mut socket = socket(args)?;
        let id = format!("ringmain-bench-{}", std::process::id());
        // CONNECT: protocol MQTT, level 4, clean session, no keep-alive.
        let mut connect = vec![0x10, 12 + id.len() as u8, 0, 4];
        connect.extend_from_slice(b"MQTT\x04\x02\0\0\0");
        connect.push(id.len() as u8);
        connect.extend_from_slice(id.as_bytes());
        socket.write_all(&connect)?;
        let (until, mut answer) = (Instant::now() + CONNACK, [0; 4]);
        let mut got = 0;
        while got < answer.len() {
            match socket.read(&mut answer[got..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => got += more,
                Err(error) if would_block(&error) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        if answer[3] != 0 {
            let why = format!("the broker refuses the connection: code {}", answer[3]);
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, why));
        }
        let topic = args.path.clone();
        let waiting = Vec::with_capacity(2 * WAIT_BYTES);
        let (partial, inflight) = (Vec::new(), 0);
        Ok(Self { socket, topic, qos: args.qos, waiting, at: 0, partial, inflight, next_id: 1 })
    }

    fn read_acks(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => self.partial.extend_from_slice(&buffer[..got]),
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            let whole = self.partial.len() / 4 * 4;
            for packet in self.partial[..whole].chunks_exact(4) {
                if packet[..2] != PUBACK {
                    let why = format!("the broker sends {packet:02x?}, not PUBACK");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                self.inflight = self.inflight.saturating_sub(1);
            }
            self.partial.drain(..whole);
        }
    }
}

impl Wire for Mqtt {
    fn has_room(&self) -> bool {
        self.waiting.len() < WAIT_BYTES && self.inflight < INFLIGHT_MAX
    }

    fn push(&mut self, message: &[u8], _: u64) {
        let id_bytes = if self.qos == 0 { 0 } else { 2 };
        self.waiting.push(0x30 | self.qos << 1);
        let mut length = 2 + self.topic.len() + id_bytes + message.len();
        while length >= 0x80 {
            self.waiting.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.waiting.push(length as u8);
        self.waiting.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        self.waiting.extend_from_slice(self.topic.as_bytes());
        if self.qos > 0 {
            self.waiting.extend_from_slice(&self.next_id.to_be_bytes());
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            self.inflight += 1;
        }
        self.waiting.extend_from_slice(message);
    }

    fn flush(&mut self, _: u64) -> io::Result<State> {
        if self.qos > 0 {
            self.read_acks()?;
        }
        while self.at < self.waiting.len() {
            match self.socket.write(&self.waiting[self.at..]) {
                Ok(wrote) => self.at += wrote,
                Err(error) if would_block(&error) => return Ok(State::Full),
                Err(error) => return Err(error),
            }
        }
        self.waiting.clear();
        self.at = 0;
        Ok(State::Flushed)
    }

    fn rest(&self) {
        let mut flags = PollFlags::POLLOUT;
        if self.qos > 0 {
            flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !self.waiting.is_empty());
        }
        wait_for(&mut [PollFd::new(self.socket.as_fd(), flags)]);
    }

    fn end(&mut self) {}

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.inflight == 0
    }
}
