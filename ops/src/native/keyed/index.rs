//! From the hash of a key to where its entry is.
//!
//! Owns: pairs of hash and place, eight to a cache line, in a table with open
//! addressing and linear probing. Written by hand because a million keys are in
//! no cache: a lookup costs the lines that it waits for (170 ns each, but 16 ns
//! when many are asked for at once), and no table of a library lets a caller
//! who knows the keys of a whole batch ask for their lines first.
//!
//! Invariants:
//! - At most three quarters of the slots are taken, so every search ends.
//! - Between a pair's home and its slot there is no free slot; a removal moves
//!   what follows (Knuth, The Art of Computer Programming, 6.4, algorithm R),
//!   so nothing is left behind.
//!
//! Deliberately absent: the keys. Whoever searches compares them.

use ringmain_slab::fetch_to_write;

const SLOTS_MIN: usize = 16;

/// Hash in the upper half, place + 1 in the lower; 0 is a free slot.
#[derive(Default)]
pub(super) struct Index {
    slots: Vec<u64>,
    len: usize,
}

fn pair(hash: u32, place: usize) -> u64 {
    let place = u32::try_from(place + 1).expect("an operator has fewer than 2^32 keys");
    u64::from(hash) << 32 | u64::from(place)
}

fn hash_of(pair: u64) -> u32 {
    (pair >> 32) as u32
}

fn place_of(pair: u64) -> usize {
    pair as u32 as usize - 1
}

impl Index {
    /// The place with this hash that is the `same`.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut same: impl FnMut(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if hash_of(slot) == hash && same(place_of(slot)) {
                return Some(place_of(slot));
            }
            at = self.after(at);
        }
    }

    /// Asks for the memory in which [`Index::find`] will look first.
    #[inline]
    pub(super) fn fetch(&self, hash: u32) {
        if !self.slots.is_empty() {
            fetch_to_write(&self.slots[self.home(hash)]);
        }
    }

    /// Takes up a place that is not in it.
    pub(super) fn insert(&mut self, hash: u32, place: usize) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(SLOTS_MIN));
        }
        self.put(pair(hash, place));
        self.len += 1;
    }

    /// Gives up a place.
    pub(super) fn remove(&mut self, hash: u32, place: usize) {
        let mut hole = self.slot_of(hash, place);
        let mut at = self.after(hole);
        while self.slots[at] != 0 {
            let from_home = self.steps(self.home(hash_of(self.slots[at])), at);
            if from_home >= self.steps(hole, at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.slots[hole] = 0;
        self.len -= 1;
    }

    /// What was at one place is at another now.
    pub(super) fn moved(&mut self, hash: u32, from: usize, to: usize) {
        let slot = self.slot_of(hash, from);
        self.slots[slot] = pair(hash, to);
    }

    /// Gives back memory that is not needed for `len` pairs.
    pub(super) fn shrink_to(&mut self, len: usize) {
        let slots = (len.max(self.len) * 2).next_power_of_two().max(SLOTS_MIN);
        if slots < self.slots.len() {
            self.resize(slots);
        }
    }

    fn resize(&mut self, slots: usize) {
        debug_assert!(slots.is_power_of_two() && self.len * 4 <= slots * 3);
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        old.into_iter().filter(|slot| *slot != 0).for_each(|slot| self.put(slot));
    }

    fn put(&mut self, pair: u64) {
        let mut at = self.home(hash_of(pair));
        while self.slots[at] != 0 {
            at = self.after(at);
        }
        self.slots[at] = pair;
    }

    fn slot_of(&self, hash: u32, place: usize) -> usize {
        let (wanted, mut at) = (pair(hash, place), self.home(hash));
        while self.slots[at] != wanted {
            assert!(self.slots[at] != 0, "place {place} is not in the index");
            at = self.after(at);
        }
        at
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// From one slot up to another, around the end.
    fn steps(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Few hashes, many of them at the end of the table: clusters that grow
        // together and around the end.
        #[test]
        fn it_knows_what_a_set_knows(
            steps in prop::collection::vec((0u32..40, 0usize..60, 0u8..8), 1..400),
        ) {
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            for (hash, place, what) in steps {
                let hash = hash.wrapping_sub(20);
                let known = model.contains(&(hash, place));
                match what {
                    0 => index.shrink_to(0),
                    1..=3 if known => {
                        index.remove(hash, place);
                        model.remove(&(hash, place));
                    }
                    4 if known && !model.contains(&(hash, place + 100)) => {
                        index.moved(hash, place, place + 100);
                        model.remove(&(hash, place));
                        model.insert((hash, place + 100));
                    }
                    _ if !known => {
                        index.insert(hash, place);
                        model.insert((hash, place));
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len, model.len());
                for (hash, place) in &model {
                    prop_assert_eq!(index.find(*hash, |at| at == *place), Some(*place));
                }
                let mut seen = Vec::new();
                prop_assert_eq!(index.find(hash, |at| { seen.push(at); false }), None);
                seen.sort_unstable();
                let of_hash = model.iter().filter(|(other, _)| *other == hash);
                prop_assert_eq!(seen, of_hash.map(|(_, place)| *place).collect::<Vec<_>>());
            }
        }
    }
}
