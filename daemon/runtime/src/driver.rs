//! `Driver`: an [`Io`] that a thread can sleep in.
//!
//! Connectors see only [`Io`]; the loop of a shard, and a test that has no
//! shard, also need the clock's reading handed in and a way to wait.

use std::io;

use crate::io::Io;

/// How long a driver sleeps that gathers what happens, in microseconds. As
/// often as a short write to a file begins; a window of 20 messages, the
/// smallest that a broker in use has by default, still carries 80,000 a
/// second.
pub const GATHER_US: u64 = 200;

/// An [`Io`] with a clock and a way to wait.
pub trait Driver: Io {
    /// Sets the time that timers count from, in microseconds of the
    /// monotonic clock.
    fn begin_turn(&mut self, mono_us: u64);

    /// Submits what was asked for and sleeps until something has happened, a
    /// timer is due, the waker was used, or `timeout_us` has passed (`None`:
    /// as long as it takes). May return early.
    ///
    /// # Errors
    /// When the kernel refuses; the driver is of no use then.
    fn wait(&mut self, timeout_us: Option<u64>) -> io::Result<()>;

    /// Whether little comes at a time, and nobody waits for an answer to it
    /// ([`Io::patient`]).
    fn may_gather(&self) -> bool {
        false
    }

    /// As [`Driver::wait`], but takes what happens within [`GATHER_US`] up
    /// together. For when it [may](Driver::may_gather), and things happen so
    /// often that a sleep for each costs more than what is done about it. From
    /// then to the next wait, turns do not look for what has come meanwhile.
    ///
    /// # Errors
    /// As [`Driver::wait`].
    fn wait_for_more(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        self.wait(timeout_us)
    }

    /// The operating system's way that it uses, for logs: `io_uring`, `poll`
    /// or `memory`.
    fn name(&self) -> &'static str;
}

/// The shorter of two waits, `None` being without end.
pub(crate) fn shorter(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
