//! Signals that end or reload the daemon, as a descriptor to read.
//!
//! A blocked signal waits in the kernel until the controlling thread reads it
//! (signalfd), so nothing runs in a handler. The mask is inherited by threads
//! that are spawned afterwards, so watch before the first of them; programs
//! that std starts get an empty mask.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::sys::check;
use crate::waker::Waker;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The first SIGINT or SIGTERM: finish what was begun, then end.
    Drain,
    /// Another one: end at once.
    Quit,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Signals of this process.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    draining: bool,
}

/// Blocks SIGINT, SIGTERM and SIGHUP for this thread and those it spawns from
/// now on, and watches for them.
///
/// # Errors
/// When the process is out of descriptors.
pub fn watch() -> io::Result<Signals> {
    // SAFETY: all zeroes is a signal set; sigemptyset makes it an empty one.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a local; the numbers are signals.
    let fd = unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        let blocked = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    check(fd as libc::ssize_t)?;
    // SAFETY: the kernel has just given us this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Signals { fd, draining: false })
}

impl Signals {
    /// The next signal that has come, if one has. Does not wait: to wait with
    /// a reactor, watch the descriptor.
    pub fn pending(&mut self) -> Option<Signal> {
        // SAFETY: all zeroes is a valid signalfd_siginfo, which is numbers.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` is writable for `len` bytes.
        let got = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), len) };
        if got != len as isize {
            return None;
        }
        if info.ssi_signo == libc::SIGHUP as u32 {
            return Some(Signal::Reload);
        }
        let again = std::mem::replace(&mut self.draining, true);
        Some(if again { Signal::Quit } else { Signal::Drain })
    }

    /// Waits for a signal, at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<Signal> {
        self.poll(timeout, None);
        self.pending()
    }

    /// Waits for a signal or a wake, at most `timeout`. Wakes that have come
    /// are taken back.
    pub fn wait_or_wake(&mut self, timeout: Duration, waker: &Waker) -> Option<Signal> {
        self.poll(timeout, Some(waker.as_fd()));
        waker.clear();
        self.pending()
    }

    fn poll(&self, timeout: Duration, other: Option<BorrowedFd<'_>>) {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // A negative descriptor is not looked at.
        let other = other.map_or(-1, |fd| fd.as_raw_fd());
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut entries = [entry(self.fd.as_raw_fd()), entry(other)];
        // SAFETY: two initialised entries.
        unsafe { libc::poll(entries.as_mut_ptr(), 2, timeout_ms) };
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
