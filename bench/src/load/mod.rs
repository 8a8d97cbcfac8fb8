//! The load generator: `ringmain-bench load`, a process of its own.
//!
//! Open loop: message `n` is due `n / rate` after the start, whatever became of
//! those before it, and its latency counts from then (so a receiver that
//! stalls is charged for all messages that it kept waiting). Without a rate it
//! sends as fast as it is let.
//!
//! Owns: the schedule (`pace`), messages (`message`), the wires (`stream`,
//! `datagram`, `http`, `mqtt`), what comes back (`echo`) and the result.
//!
//! Invariants:
//! - One thread does everything, so that nothing of the generator waits for
//!   another part of it on the one core that it has.
//! - It says who was the limit: the receiver when the wire was full, the
//!   generator when it was late on a wire that was not.
//!
//! Deliberately absent: answers that slow down what is sent.

pub(crate) mod child;
mod datagram;
mod echo;
mod http;
mod message;
mod mqtt;
mod pace;
mod result;
mod stream;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::datagram::Datagrams;
use self::http::Http;
use self::message::Messages;
use self::mqtt::Mqtt;
pub(crate) use self::result::{Limit, LoadResult};
use self::stream::Stream;
use crate::measure::pin;

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Lines over a TCP connection
    Tcp,
    /// A datagram for each message
    Udp,
    /// Lines over a Unix socket
    Unix,
    /// A datagram for each message, to a Unix socket
    UnixDatagram,
    /// POST requests
    Http,
    /// Publications to a broker (MQTT 3.1.1)
    Mqtt,
}

/// Sends messages on a schedule, or as fast as it is let, and measures how
/// long each took to come back.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// What carries the messages
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Where to: HOST:PORT, or the path of a socket
    pub(crate) to: String,
    /// Messages per second; without: as fast as it goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// How long to send
    #[arg(long, value_name = "S", default_value_t = 5.0, conflicts_with = "count")]
    pub(crate) seconds: f64,
    /// How many messages to send, instead of a time
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Seconds at the start whose latencies do not count
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub(crate) warm_up: f64,
    /// Size of a message, without its line feed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(64..=60_000))]
    pub(crate) bytes: u64,
    /// Listen here for the messages to come back as lines of JSON
    #[arg(long, value_name = "ADDR", requires = "rate")]
    pub(crate) echo: Option<SocketAddr>,
    /// Send the lines of this file, again and again, instead of messages
    /// (tcp and unix, without a rate)
    #[arg(long, value_name = "PATH", conflicts_with_all = ["rate", "echo"], requires = "times")]
    pub(crate) file: Option<PathBuf>,
    /// How often to send the file
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<u64>,
    /// Read the receiver's line acknowledgements, and wait for the last (tcp)
    #[arg(long)]
    pub(crate) acks: bool,
    /// Several datagrams in one system call, for the kernel to split (udp)
    #[arg(long)]
    pub(crate) gso: bool,
    /// Connections (http)
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) connections: usize,
    /// Messages in a request (http)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) batch: u64,
    /// Path of requests (http), or topic (mqtt)
    #[arg(long, value_name = "TEXT", default_value = "/")]
    pub(crate) path: String,
    /// Quality of service, 0 or 1 (mqtt)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) qos: u8,
    /// Seconds to wait for somebody who listens
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub(crate) wait: u64,
    /// The core to stay on
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the generator.
pub(crate) fn run(args: &LoadArgs) -> io::Result<LoadResult> {
    pin(args.core.map(|id| core_affinity::CoreId { id }));
    if let Some(path) = &args.file {
        let (block, times) = (std::fs::read(path)?, args.times.unwrap_or(1));
        return stream::send_block(&mut Stream::connect(args)?, &block, times, args);
    }
    let echo = args.echo.map(echo::Listening::at).transpose()?;
    match args.kind {
        Kind::Tcp | Kind::Unix => {
            let mut wire = Stream::connect(args)?;
            if args.rate.is_none() {
                let messages = Messages::new(args.bytes);
                let (block, times) = messages.block(args);
                return stream::send_block(&mut wire, &block, times, args);
            }
            pace::run(args, &mut wire, echo)
        }
        Kind::Udp | Kind::UnixDatagram => pace::run(args, &mut Datagrams::connect(args)?, echo),
        Kind::Http => pace::run(args, &mut Http::connect(args)?, echo),
        Kind::Mqtt => pace::run(args, &mut Mqtt::connect(args)?, echo),
    }
}

/// The address that a text names.
fn address(to: &str) -> io::Result<SocketAddr> {
    let none = || io::Error::new(io::ErrorKind::NotFound, format!("'{to}' has no address"));
    to.to_socket_addrs()?.next().ok_or_else(none)
}

/// Whether an operation has to be tried again later.
fn would_block(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    // A full queue of a Unix datagram socket, and of a device.
    error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
        || matches!(error.kind(), WouldBlock | Interrupted)
}
