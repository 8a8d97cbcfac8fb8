//! Dropping a driver that has operations in flight.
//!
//! The kernel may write to our memory until it has completed an operation, so
//! a drop cancels everything and waits for the completions. What does not end
//! in time (a disk that hangs) keeps its memory for ever: a leak is the only
//! safe answer then.

use std::time::{Duration, Instant};

use super::UringIo;
use crate::slots::{Key, Slots};

const REAP_TIME: Duration = Duration::from_secs(2);

impl Drop for UringIo {
    fn drop(&mut self) {
        let keys: Vec<Key> = self.ops.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.cancel_key(key);
        }
        let deadline = Instant::now() + REAP_TIME;
        while self.has_kernel_ops() && Instant::now() < deadline {
            if self.ring.wait(Some(10_000), false).is_err() {
                break;
            }
            self.collect(usize::MAX);
            self.ready.clear();
        }
        if self.has_kernel_ops() {
            // Deliberate: the kernel still owns buffers of these.
            std::mem::forget(std::mem::replace(&mut self.ops, Slots::new(0, 1)));
            std::mem::forget(std::mem::take(&mut self.groups));
        }
    }
}

impl UringIo {
    fn has_kernel_ops(&self) -> bool {
        self.ops.iter().any(|(_, op)| op.in_kernel)
    }
}
