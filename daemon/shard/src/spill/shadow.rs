//! Copies of the rows that a sink has taken and not yet accepted.
//!
//! A sink that stalls may keep what it has taken for as long as it likes, and
//! without a copy nobody could be told that these rows are safe. So a sink
//! that spills leaves a copy of each unit of rows here, which is thrown away
//! when the sink accepts it, or goes to disk when that takes long.
//!
//! Bound: units are taken while there are fewer than `bytes_max` bytes.

use std::collections::VecDeque;

/// Buffers kept for the next use.
const SPARE_MAX: usize = 8;

/// The rows of one unit, as a frame without its checksum.
#[derive(Debug)]
pub(super) struct Copy {
    /// The sink's number of the unit.
    pub unit: u64,
    pub frame: Vec<u8>,
    /// Slots of the widest row.
    pub slots: u16,
}

#[derive(Debug)]
pub(super) struct Shadow {
    copies: VecDeque<Copy>,
    bytes: usize,
    bytes_max: usize,
    spare: Vec<Vec<u8>>,
}

impl Shadow {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { copies: VecDeque::new(), bytes: 0, bytes_max, spare: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.bytes_max
    }

    /// Copies what `append` writes; it says how many slots the rows have.
    pub(super) fn keep(&mut self, unit: u64, append: impl FnOnce(&mut Vec<u8>) -> u16) {
        let mut frame = self.spare.pop().unwrap_or_default();
        let slots = append(&mut frame);
        self.bytes += frame.len();
        self.copies.push_back(Copy { unit, frame, slots });
    }

    /// The oldest.
    pub(super) fn front(&self) -> Option<&Copy> {
        self.copies.front()
    }

    pub(super) fn drop_front(&mut self) {
        if let Some(Copy { mut frame, .. }) = self.copies.pop_front() {
            self.bytes -= frame.len();
            if self.spare.len() < SPARE_MAX {
                frame.clear();
                self.spare.push(frame);
            }
        }
    }

    /// The sink has accepted all units up to this one.
    pub(super) fn accepted(&mut self, unit: u64) {
        while self.copies.front().is_some_and(|copy| copy.unit <= unit) {
            self.drop_front();
        }
    }
}
