//! How other threads end a shard's sleep: an eventfd that its driver watches.
//!
//! Made by the caller before the thread exists, because doorbells are built
//! beforehand. Waking costs a system call: a doorbell calls it only when the
//! shard has said that it is about to sleep.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use ringmain_ring::Wake;

/// Wakes one shard, from any thread.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
}

impl Waker {
    /// A waker for a shard that is to be launched with it.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { event: eventfd(0)? }))
    }

    /// Takes back what wakes have left, so that the descriptor is not
    /// readable until the next one.
    pub(crate) fn clear(&self) {
        drain(self.event.as_fd());
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Wake for Waker {
    fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the descriptor is open as long as self, and `one` is eight
        // readable bytes. A full counter (EAGAIN) is a wake that is pending.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
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
