//! What a producer knows about unfinished work on one edge.
//!
//! Owns a queue of what was sent: per slab and inlet, the lowest sequence
//! number that the slab carries. (An inlet is where messages come into a shard:
//! a source, or an edge from another shard.) The consumer reports one number,
//! the cumulative count of slabs it has finished; that takes entries off the
//! front. What is left of an inlet bounds its position.
//!
//! Invariants:
//! 1. The queue is ordered by slab number, so finishing only pops.
//! 2. The entries of one inlet are linked from oldest to newest, and `low` of
//!    each is the lowest number of itself **and of all newer ones** of that
//!    inlet. So the oldest entry alone gives the position, also when spans
//!    come out of order or overlap (two target slabs share a source slab).
//! 3. When the queue is full, neighbours of the same inlet become one entry
//!    that finishes with the newer of the two. A position may then be lower
//!    than the truth, never higher, and it is exact again once they finish.
//! 4. Nothing allocates after construction, except when an inlet above
//!    [`INLETS_RESERVED`] is first seen, or more inlets than half the capacity
//!    have unfinished slabs (merging could not help).
//!
//! Cost: push and pop O(1), position O(1), a span out of order O(entries of
//! that inlet), merging O(capacity) once per half capacity.
//!
//! Deliberately absent: `last` of a span. What is unfinished starts at the
//! lowest number; where it ends does not matter to anyone.

use std::collections::VecDeque;

use crate::Span;

/// Entries of an edge's tracker: 96 KiB, touched as they are used.
pub const ENTRIES: usize = 4096;

/// Inlets that need no allocation when they are first seen.
pub const INLETS_RESERVED: usize = 64;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    /// Finished when the consumer's count reaches this; 0 in a merged one that
    /// is about to go.
    slab: u64,
    low: u64,
    /// Next newer entry of the same inlet, as a queue number.
    newer: u32,
    inlet: u16,
}

/// What an entry costs; the sum of an edge's memory needs it.
pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();
/// What an inlet costs.
pub(crate) const LANE_BYTES: usize = size_of::<Lane>();
const _: () = assert!(ENTRY_BYTES == 24 && LANE_BYTES == 8);

/// Oldest and newest entry of one inlet, as queue numbers.
#[derive(Clone, Copy)]
struct Lane {
    oldest: u32,
    newest: u32,
}

impl Lane {
    const EMPTY: Self = Self { oldest: NONE, newest: NONE };
}

/// The tracker. Slabs are numbered from 1 in the order of [`InFlight::sent`].
pub struct InFlight {
    entries: VecDeque<Entry>,
    /// Queue number of the front entry; numbers run below `NONE` and start
    /// over when the queue is renumbered.
    base: u32,
    lanes: Vec<Lane>,
    capacity: usize,
    sent: u64,
    finished: u64,
}

impl InFlight {
    /// Room for `capacity` entries, at least 2.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(2);
        Self {
            entries: VecDeque::with_capacity(capacity),
            base: 0,
            lanes: Vec::with_capacity(INLETS_RESERVED),
            capacity,
            sent: 0,
            finished: 0,
        }
    }

    /// Notes that the slab which is sent next carries `span` of `inlet`. May be
    /// called for several inlets, several times for one, and not at all for a
    /// slab that nobody waits for. Counts as unfinished from now on.
    pub fn carry(&mut self, inlet: u16, span: Span) {
        if span.is_empty() {
            return;
        }
        if self.is_full() {
            self.make_room();
        }
        if self.base >= NONE - 1 - self.entries.len() as u32 {
            self.link();
        }
        let slab = self.sent + 1;
        if let Some(newest) = self.newest(inlet) {
            if newest.low > span.first {
                self.lower(inlet, span.first);
            }
            if newest.slab == slab {
                return;
            }
        }
        self.append(Entry { slab, low: span.first, newer: NONE, inlet });
    }

    /// The slab is sent; its number.
    pub fn sent(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// The consumer has finished the first `count` slabs.
    ///
    /// # Panics
    /// When the count goes back, or beyond what was sent.
    pub fn finish(&mut self, count: u64) {
        assert!(
            self.finished <= count && count <= self.sent,
            "finished {count} of {}, was {}",
            self.sent,
            self.finished,
        );
        self.finished = count;
        while let Some(entry) = self.entries.front() {
            if entry.slab > count {
                break;
            }
            let lane = &mut self.lanes[usize::from(entry.inlet)];
            *lane = match entry.newer {
                NONE => Lane::EMPTY,
                newer => Lane { oldest: newer, ..*lane },
            };
            self.entries.pop_front();
            self.base += 1;
        }
    }

    /// The highest number such that everything of `inlet` up to it is finished
    /// here; `upto` when nothing is left of that inlet.
    ///
    /// `upto` is the last number that the caller has handed out completely.
    /// Rows in a slab that is still being filled are known here only if they
    /// were announced with [`InFlight::carry`]; else `upto` must be below them.
    /// With sequence numbers that rise, the position never goes back.
    #[must_use]
    pub fn position(&self, inlet: u16, upto: u64) -> u64 {
        match self.lanes.get(usize::from(inlet)) {
            Some(lane) if lane.oldest != NONE => {
                upto.min(self.entries[self.at(lane.oldest)].low.saturating_sub(1))
            }
            _ => upto,
        }
    }

    /// Whether the next entry makes it merge.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() == self.capacity
    }

    /// Entries that it holds now.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Slabs sent and not finished.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.sent - self.finished
    }

    /// Slabs sent since the beginning.
    #[must_use]
    pub fn sent_count(&self) -> u64 {
        self.sent
    }

    /// Slabs finished since the beginning.
    #[must_use]
    pub fn finished_count(&self) -> u64 {
        self.finished
    }

    fn at(&self, number: u32) -> usize {
        (number - self.base) as usize
    }

    fn newest(&self, inlet: u16) -> Option<Entry> {
        let lane = self.lanes.get(usize::from(inlet))?;
        (lane.newest != NONE).then(|| self.entries[self.at(lane.newest)])
    }

    /// Keeps invariant 2 for a span that starts below an older one.
    #[cold]
    fn lower(&mut self, inlet: u16, low: u64) {
        let mut number = self.lanes[usize::from(inlet)].oldest;
        while number != NONE {
            let at = self.at(number);
            let entry = &mut self.entries[at];
            entry.low = entry.low.min(low);
            number = entry.newer;
        }
    }

    fn append(&mut self, entry: Entry) {
        let number = self.base + self.entries.len() as u32;
        let inlet = usize::from(entry.inlet);
        if inlet >= self.lanes.len() {
            self.lanes.resize(inlet + 1, Lane::EMPTY);
        }
        let lane = self.lanes[inlet];
        if lane.oldest == NONE {
            self.lanes[inlet] = Lane { oldest: number, newest: number };
        } else {
            let newest = self.at(lane.newest);
            self.entries[newest].newer = number;
            self.lanes[inlet].newest = number;
        }
        self.entries.push_back(entry);
    }

    /// Merges, and grows only when too many inlets left too little to merge.
    #[cold]
    fn make_room(&mut self) {
        self.merge_neighbours();
        let gained = self.capacity - self.entries.len();
        if gained < (self.capacity / 4).max(1) {
            self.capacity *= 2;
            self.entries.reserve(self.capacity - self.entries.len());
        }
    }

    /// Every second entry of each inlet takes in the one before it.
    fn merge_neighbours(&mut self) {
        self.lanes.fill(Lane::EMPTY);
        for at in 0..self.entries.len() {
            let Entry { inlet, .. } = self.entries[at];
            let waiting = &mut self.lanes[usize::from(inlet)].oldest;
            if *waiting == NONE {
                *waiting = at as u32;
                continue;
            }
            let older = std::mem::replace(waiting, NONE) as usize;
            // The older one's `low` covers both (invariant 2).
            self.entries[at].low = self.entries[older].low;
            self.entries[older].slab = 0;
        }
        self.entries.retain(|entry| entry.slab != 0);
        self.link();
    }

    /// Renumbers the queue from 0 and links it anew.
    #[cold]
    fn link(&mut self) {
        self.base = 0;
        self.lanes.fill(Lane::EMPTY);
        for at in 0..self.entries.len() {
            let number = at as u32;
            self.entries[at].newer = NONE;
            let lane = &mut self.lanes[usize::from(self.entries[at].inlet)];
            let newest = std::mem::replace(&mut lane.newest, number);
            if lane.oldest == NONE {
                lane.oldest = number;
            } else {
                self.entries[newest as usize].newer = number;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn queue_numbers_start_over_without_a_trace() {
        let mut acks = InFlight::new(8);
        acks.base = NONE - 20;
        for number in 1..=100u64 {
            acks.carry((number % 2) as u16, Span::new(number, number));
            acks.sent();
            acks.finish(number.saturating_sub(4));
            let open = number.saturating_sub(4) + 1;
            for inlet in 0..2u16 {
                let first = if open % 2 == u64::from(inlet) { open } else { open + 1 };
                assert_eq!(acks.position(inlet, number), number.min(first - 1));
            }
        }
        assert!(acks.base < 100);
    }
}
