//! `Driver`: an [`Io`] that a thread can sleep in.
//!
//! Connectors see only [`Io`]; the loop of a shard, and a test that has no
//! shard, also need the clock's reading handed in and a way to wait.

use std::io;

use crate::io::Io;

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
