//! How other threads end a shard's sleep: a pipe whose end its driver watches.
//!
//! Made by the caller before the thread exists, because doorbells are built
//! beforehand. Waking costs a system call: a doorbell calls it only when the
//! shard has said that it is about to sleep.
//!
//! A pipe and not an eventfd: a ring that is parked announces completions
//! through an eventfd of its own, and the kernel does not signal one eventfd
//! from within another. It puts that off by a grace period (18 ms measured on
//! Linux 6.18), and forgets it the second time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use ringmain_ring::Wake;

/// Wakes one shard, from any thread.
#[derive(Debug)]
pub struct Waker {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Waker {
    /// A waker for a shard that is to be launched with it.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for the two descriptors.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us both descriptors.
        let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Arc::new(Self { reader, writer }))
    }

    /// Takes back what wakes have left, so that the next one shows.
    pub(crate) fn clear(&self) {
        let mut bytes = [0_u8; 256];
        // SAFETY: `bytes` is writable; the pipe does not block.
        while unsafe { libc::read(self.reader.as_raw_fd(), bytes.as_mut_ptr().cast(), 256) } == 256
        {
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Wake for Waker {
    fn wake(&self) {
        // SAFETY: the descriptor is open as long as self, the byte readable.
        // A full pipe (EAGAIN) is a wake that is pending.
        unsafe { libc::write(self.writer.as_raw_fd(), [1_u8].as_ptr().cast(), 1) };
    }
}

/// A non-blocking eventfd.
pub(crate) fn eventfd(initial: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::eventfd(initial, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an eventfd unreadable.
pub(crate) fn drain(event: BorrowedFd<'_>) {
    let mut count = [0_u8; 8];
    // SAFETY: `count` is eight writable bytes; the descriptor is borrowed and
    // does not block, so an empty one is only an error that is not looked at.
    unsafe { libc::read(event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

/// Whether something is there to be read.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one initialised entry; the descriptor is borrowed.
    unsafe { libc::poll(&raw mut entry, 1, 0) == 1 }
}
