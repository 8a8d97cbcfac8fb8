//! One-shot timers of a driver: a heap over the turn's clock.
//!
//! Kept out of the kernel and out of the executor: arming one costs a push,
//! and a turn looks only at the earliest. Equal deadlines fire in the order
//! in which they were set. Cancelling is linear in the number of timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::io::OpId;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u64, u32, u32)>>,
    sequence: u64,
}

impl Timers {
    pub(crate) fn add(&mut self, due_us: u64, op: OpId) {
        self.sequence += 1;
        self.heap.push(Reverse((due_us, self.sequence, op.owner, op.tag)));
    }

    /// Removes every timer of this id; says how many there were.
    pub(crate) fn cancel(&mut self, op: OpId) -> usize {
        let before = self.heap.len();
        self.heap.retain(|Reverse((_, _, owner, tag))| (*owner, *tag) != (op.owner, op.tag));
        before - self.heap.len()
    }

    /// The earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now_us: u64) -> Option<OpId> {
        let Reverse((due_us, _, owner, tag)) = *self.heap.peek()?;
        if due_us > now_us {
            return None;
        }
        self.heap.pop();
        Some(OpId { owner, tag })
    }

    pub(crate) fn next_due_us(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_us, ..))| *due_us)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(tag: u32) -> OpId {
        OpId { owner: 0, tag }
    }

    #[test]
    fn timers_fire_by_deadline_then_by_age() {
        let mut timers = Timers::default();
        for (due_us, tag) in [(30, 1), (10, 2), (20, 3), (10, 4)] {
            timers.add(due_us, op(tag));
        }
        assert_eq!(timers.pop_due(9), None);
        let mut fired = Vec::new();
        while let Some(op) = timers.pop_due(25) {
            fired.push(op.tag);
        }
        assert_eq!(fired, [2, 4, 3]);
        assert_eq!(timers.next_due_us(), Some(30));
    }

    #[test]
    fn a_cancelled_timer_does_not_fire() {
        let mut timers = Timers::default();
        timers.add(1, op(1));
        timers.add(2, op(2));
        assert_eq!(timers.cancel(op(1)), 1);
        assert_eq!(timers.cancel(op(1)), 0);
        assert_eq!(timers.pop_due(9), Some(op(2)));
        assert_eq!(timers.len(), 0);
    }
}
