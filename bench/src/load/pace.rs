//! The open loop: what is due is pushed, whatever has become of the rest.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::LoadArgs;
use super::echo::{Echo, Listening};
use super::message::Messages;
use super::result::{LoadResult, Sent, histogram};
use crate::measure::{monotonic_ns, thread_cpu_s};

/// Messages in one pass, so that what comes back is looked at in between.
const PASS: u64 = 1024;
/// Without a rate the clock is looked at every so many messages.
const FAST_PASS: u64 = 64;
/// How long to wait for the last answers: only a daemon that stands still, or a
/// debug build on a machine with ten others at work, comes near it.
const PATIENCE_NS: u64 = 60_000_000_000;
/// With one core, the receiver needs it too; and what waits for a receiver that
/// is behind may leave its core to the kernel.
const REST: Duration = Duration::from_micros(200);

/// [`Wire::rest`] of a socket.
pub(super) fn wait_for_room(socket: impl AsFd) {
    wait_for(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)]);
}

/// [`Wire::rest`] of sockets, for what is said of each.
pub(super) fn wait_for(sockets: &mut [PollFd<'_>]) {
    // An error shows at the next write.
    let _ = poll(sockets, PollTimeout::from(1u8));
}

/// What a wire has to say about a look at its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing waits here.
    Flushed,
    /// The receiver takes nothing at the moment.
    Full,
}

/// Something that carries messages.
pub(super) trait Wire {
    /// Whether it takes another message.
    fn has_room(&self) -> bool;
    /// Takes a message that was due at this time (ns since the start).
    fn push(&mut self, message: &[u8], due_ns: u64);
    /// Hands over to the kernel what it can, and reads answers.
    fn flush(&mut self, now_ns: u64) -> io::Result<State>;
    /// Waits until the receiver may take more, a millisecond at most.
    fn rest(&self) {
        std::thread::sleep(REST);
    }
    /// No more messages come.
    fn end(&mut self);
    /// Whether everything was sent and, where there are answers, answered.
    fn is_done(&self) -> bool;
    /// Latencies of answers, where the wire has answers.
    fn answers(&self) -> Option<&Histogram<u64>> {
        None
    }
    /// Whether a receiver that is behind makes itself felt.
    fn pushes_back(&self) -> bool {
        true
    }
}

/// Runs the schedule.
pub(super) fn run(
    args: &LoadArgs,
    wire: &mut dyn Wire,
    echo: Option<Listening>,
) -> io::Result<LoadResult> {
    let mut messages = Messages::new(args.bytes);
    let mut echo = echo.map(Echo::accept).transpose()?;
    let total = match (args.count, args.rate) {
        (Some(count), _) => count,
        (None, Some(rate)) => (args.seconds * rate as f64) as u64,
        (None, None) => u64::MAX,
    };
    let one_core = std::thread::available_parallelism().map_or(1, usize::from) < 2;
    // On a core of its own it keeps its schedule by looking all the time: what
    // it slept would be in the latencies.
    let sleeps = one_core && (args.core.is_none() || args.rate.is_none());
    let warm_up_ns = (args.warm_up * 1e9) as u64;
    let due_ns =
        |n: u64| args.rate.map_or(0, |rate| (n as u128 * 1_000_000_000 / rate as u128) as u64);
    let mut late = histogram();
    let (begun, cpu) = (monotonic_ns(), thread_cpu_s());
    let mut sent = Sent { began_ns: begun, message_bytes: messages.bytes(), ..Sent::default() };
    let (mut next, mut last_ns, mut was_full) = (0, 0, false);
    while next < total {
        let now = monotonic_ns() - begun;
        if was_full {
            sent.blocked_ns += now - last_ns;
        }
        last_ns = now;
        let due = match args.rate {
            Some(rate) => ((now as u128 * rate as u128 / 1_000_000_000) as u64 + 1).min(total),
            None if args.count.is_none() && now as f64 > args.seconds * 1e9 => break,
            None => total.min(next + FAST_PASS),
        };
        let until = due.min(next + PASS);
        let idle = next >= until;
        while next < until && wire.has_room() {
            let at = due_ns(next);
            if !was_full && args.rate.is_some() {
                late.saturating_record(now.saturating_sub(at));
            }
            wire.push(messages.get(next), at);
            next += 1;
        }
        was_full = wire.flush(now)? == State::Full || !wire.has_room();
        if let Some(echo) = &mut echo {
            echo.look(due_ns, begun, warm_up_ns)?;
        }
        if sleeps && was_full {
            wire.rest();
        } else if sleeps && idle {
            std::thread::sleep(REST);
        }
    }
    wire.end();
    sent.messages = next;
    sent.ended_ns = monotonic_ns();
    sent.cpu_s = thread_cpu_s() - cpu;
    let patience = sent.ended_ns + PATIENCE_NS;
    loop {
        wire.flush(monotonic_ns() - begun)?;
        let all_back = match &mut echo {
            Some(echo) => {
                echo.look(due_ns, begun, warm_up_ns)?;
                echo.count() >= next
            }
            None => true,
        };
        if wire.is_done() && all_back || monotonic_ns() > patience {
            break;
        }
        std::thread::yield_now();
    }
    let latencies = echo.as_ref().map(Echo::latencies).or_else(|| wire.answers());
    let lost = echo.as_ref().map_or(0, |echo| next.saturating_sub(echo.count()));
    Ok(LoadResult::new(args, &sent, &late, latencies, lost, wire.pushes_back()))
}
