//! The ring itself: set-up, submission, waiting, draining.
//!
//! Set up as `SINGLE_ISSUER | DEFER_TASKRUN`: completions are worked off when
//! this thread enters the kernel, never in between, and only the thread that
//! made the ring may use it (which is why nothing here is `Send`). The
//! kernel says through `TASKRUN_FLAG` when entering would bring something,
//! so a turn without I/O makes no system call.

use std::collections::VecDeque;
use std::io;

use io_uring::{IoUring, Submitter, squeue, types};

use crate::driver::GATHER_US;

const SQ_ENTRIES: u32 = 256;
const CQ_ENTRIES: u32 = 4096;
/// enter(2): run deferred work, do not wait.
const GETEVENTS: u32 = 1;
/// Completions that are worth no longer wait.
const GATHER: usize = 32;

/// One completion, copied out of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

pub(crate) struct Ring {
    ring: IoUring,
    /// Entries that found the submission queue full; they go first.
    spill: VecDeque<squeue::Entry>,
    can_gather: bool,
}

impl Ring {
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(CQ_ENTRIES)
            .dontfork()
            .build(SQ_ENTRIES)?;
        let can_gather = ring.params().is_feature_min_timeout();
        Ok(Self { ring, spill: VecDeque::new(), can_gather })
    }

    pub(crate) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues an entry; a full queue is submitted and filled anew.
    ///
    /// # Safety
    /// What the entry points to stays where it is until its completion has
    /// been drained.
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.spill.is_empty() {
            // SAFETY: passed on to the caller.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Refused only for want of memory or of room for completions; the
            // spill keeps the order until that has passed.
            let _ = self.ring.submit();
            // SAFETY: passed on to the caller.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.spill.push_back(entry);
    }

    fn refill(&mut self) {
        while let Some(entry) = self.spill.front() {
            // SAFETY: `push` has had its caller vouch for every entry.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.spill.pop_front();
        }
    }

    /// Submits what is queued and runs deferred work, if there is either.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        loop {
            let spilled = self.spill.len();
            self.refill();
            let queue = self.ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return Ok(());
            }
            drop(queue);
            self.enter()?;
            // No progress: completions have to be drained first.
            if self.spill.is_empty() || self.spill.len() == spilled {
                return Ok(());
            }
        }
    }

    /// Submits and runs deferred work in any case.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed, so none can dangle.
        let entered =
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) };
        transient(entered)
    }

    /// Submits and waits for a completion, at most `timeout_us`; with `gather`
    /// it sleeps through the first [`GATHER_US`], unless [`GATHER`] are there.
    pub(crate) fn wait(&mut self, timeout_us: Option<u64>, gather: bool) -> io::Result<()> {
        self.refill();
        if !self.spill.is_empty() {
            return self.flush();
        }
        let Some(timeout_us) = timeout_us else {
            return transient(self.ring.submitter().submit_and_wait(1));
        };
        let nanos = (timeout_us % 1_000_000) as u32 * 1_000;
        let timeout = types::Timespec::new().sec(timeout_us / 1_000_000).nsec(nanos);
        let mut args = types::SubmitArgs::new().timespec(&timeout);
        if gather {
            args = args.min_wait_usec(GATHER_US.min(timeout_us) as u32);
        }
        let want = if gather { GATHER } else { 1 };
        transient(self.ring.submitter().submit_with_args(want, &args))
    }

    /// Whether the kernel can (from 6.12 on).
    pub(crate) fn can_gather(&self) -> bool {
        self.can_gather
    }

    /// Moves up to `max` completions out of the queue.
    pub(crate) fn drain(&mut self, into: &mut Vec<Completion>, max: usize) {
        let entries = self.ring.completion().take(max);
        into.extend(entries.map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    pub(crate) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Whether completions are announced through the registered eventfd.
    pub(crate) fn announce(&mut self, on: bool) {
        let queue = self.ring.completion();
        if on {
            queue.enable_eventfd();
        } else {
            queue.disable_eventfd();
        }
    }
}

/// Errors that mean "later", "interrupted" or "time is up".
fn transient(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}
