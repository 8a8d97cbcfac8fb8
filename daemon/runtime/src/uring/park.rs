//! Sleeping: in the ring for a short while, or by way of an eventfd that an
//! executor can wait for.
//!
//! With `DEFER_TASKRUN` the ring's own descriptor never becomes readable, so
//! a registered eventfd stands in for it. It is switched on only to park: a
//! signal per completion would cost more than the completion.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::{opcode, types};

use super::UringIo;
use super::op::{TOKEN_IGNORE, TOKEN_PARK, TOKEN_WAKE};
use crate::driver::shorter;
use crate::waker;

impl UringIo {
    /// What becomes readable when a parked driver has something to do.
    pub(crate) fn park_event(&self) -> BorrowedFd<'_> {
        self.park_event.as_fd()
    }

    /// Gets ready to be woken through [`Self::park_event`]. `false`: there is
    /// something to do already, do not park.
    pub(crate) fn prepare_park(&mut self, timeout_us: Option<u64>) -> io::Result<bool> {
        let timeout_us = shorter(timeout_us, self.timer_in_us());
        if timeout_us == Some(0) || !self.ready.is_empty() {
            return Ok(false);
        }
        if let Some(timeout_us) = timeout_us {
            self.arm_park_timeout(timeout_us);
        }
        self.ring.announce(true);
        // Once more: what came before the announcement was switched on.
        self.ring.enter()?;
        if self.ring.has_completions() {
            self.unpark();
            return Ok(false);
        }
        Ok(true)
    }

    /// Awake again.
    pub(crate) fn unpark(&mut self) {
        self.ring.announce(false);
        waker::drain(self.park_event.as_fd());
    }

    /// One timeout at most is in the kernel: one that fires too early costs a
    /// look, one that would fire too late is moved.
    fn arm_park_timeout(&mut self, timeout_us: u64) {
        let until_us = self.now_us.saturating_add(timeout_us);
        if self.park_until_us.is_some_and(|armed_us| armed_us <= until_us) {
            return;
        }
        let nanos = (timeout_us % 1_000_000) as u32 * 1_000;
        *self.park_timeout = types::Timespec::new().sec(timeout_us / 1_000_000).nsec(nanos);
        let timeout = &raw const *self.park_timeout;
        let entry = if self.park_until_us.is_some() {
            opcode::TimeoutUpdate::new(TOKEN_PARK, timeout).build().user_data(TOKEN_IGNORE)
        } else {
            opcode::Timeout::new(timeout).build().user_data(TOKEN_PARK)
        };
        self.park_until_us = Some(until_us);
        // SAFETY: the timeout is boxed in the driver; the kernel reads it when
        // the entry is submitted, which happens before the next arming.
        unsafe { self.ring.push(entry) };
    }

    pub(super) fn park_timeout_passed(&mut self) {
        self.park_until_us = None;
    }

    /// Microseconds until the next timer is due.
    pub(super) fn timer_in_us(&self) -> Option<u64> {
        self.timers.next_due_us().map(|due_us| due_us.saturating_sub(self.now_us))
    }

    /// A kick: is there anything that the announcement has missed?
    pub(crate) fn has_missed(&mut self) -> bool {
        // An error is met again, and reported, by the next wait.
        let _ = self.ring.enter();
        self.ring.has_completions()
    }

    /// Another thread has used the waker.
    pub(super) fn woken(&mut self, is_last: bool) {
        self.waker.clear();
        if is_last {
            self.watch_waker();
        }
    }

    /// Has every wake from another thread show as a completion.
    pub(super) fn watch_waker(&mut self) {
        let fd = types::Fd(self.waker.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        // SAFETY: the entry points to nothing; the waker outlives the ring.
        unsafe { self.ring.push(entry.user_data(TOKEN_WAKE)) };
    }
}
