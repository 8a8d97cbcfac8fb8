//! Messages that wait for their time, within a bound in bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ringmain_base::limits::partition_of;
use ringmain_slab::{RowRef, SCATTERED, SharedSchema, Slab};
use rkyv::{Archive, Deserialize, Serialize};

use super::rows;

/// What a message costs besides its bytes.
const OVERHEAD: u64 = 64;

/// How long a message waits for memory.
const AGAIN_US: i64 = 10_000;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due_us: i64,
    /// Of two with the same time the first to come goes first.
    number: u64,
    key_hash: u32,
    image: Box<[u8]>,
}

/// A message in a checkpoint.
#[derive(Archive, Serialize, Deserialize, Debug)]
pub(crate) struct SavedRow {
    due_us: i64,
    image: Vec<u8>,
}

/// The messages, the next one first.
pub(crate) struct Held {
    waiting: BinaryHeap<Reverse<Waiting>>,
    bytes: u64,
    bytes_max: u64,
    number: u64,
    /// Where edited rows are gathered.
    aside: Option<Slab>,
}

impl Held {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { waiting: BinaryHeap::new(), bytes: 0, bytes_max, number: 0, aside: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the next one leaves.
    pub(crate) fn due_us(&self) -> Option<i64> {
        self.waiting.peek().map(|next| next.0.due_us)
    }

    /// Copies a row; false when there is no room.
    pub(crate) fn push(&mut self, row: RowRef<'_>, due_us: i64) -> bool {
        let bytes = row.image_bound() as u64 + OVERHEAD;
        if self.bytes + bytes > self.bytes_max {
            return false;
        }
        let key_hash = row.header().key_hash.to_native();
        let image: Box<[u8]> = if row.header().flags.to_native() & SCATTERED == 0 {
            row.image().into()
        } else {
            let budget = || ringmain_slab::Budget::new(self.bytes_max);
            let aside = self.aside.get_or_insert_with(|| Slab::new(1024, &budget()));
            aside.clear();
            if aside.reserve(row.image_bound()).is_err() || aside.push_copy(row).is_err() {
                return false;
            }
            aside.row(0).image().into()
        };
        self.put(due_us, key_hash, image);
        true
    }

    fn put(&mut self, due_us: i64, key_hash: u32, image: Box<[u8]>) {
        self.bytes += image.len() as u64 + OVERHEAD;
        self.number += 1;
        let number = self.number;
        self.waiting.push(Reverse(Waiting { due_us, number, key_hash, image }));
    }

    /// Moves what is due to `slab`, as much as it has room for.
    pub(crate) fn release(&mut self, now_us: i64, slab: &mut Slab) {
        while self.due_us().is_some_and(|due| due <= now_us) {
            let Some(Reverse(next)) = self.waiting.pop() else { return };
            let fits = slab.room() >= next.image.len() || slab.is_empty();
            let fits = fits && slab.reserve(next.image.len()).is_ok();
            if fits && slab.push_checked(&next.image).is_ok() {
                self.bytes -= next.image.len() as u64 + OVERHEAD;
                continue;
            }
            // Behind no other one: those of the same key are due later. Only
            // a slab that could not grow makes it wait.
            let due_us = if slab.is_empty() { now_us + AGAIN_US } else { next.due_us };
            self.waiting.push(Reverse(Waiting { due_us, ..next }));
            return;
        }
    }

    /// What belongs to a partition.
    pub(crate) fn saved(&self, partition: u16, partitions: u16) -> Vec<SavedRow> {
        let mine = |w: &&Reverse<Waiting>| partition_of(w.0.key_hash, partitions) == partition;
        let mut mine: Vec<_> = self.waiting.iter().filter(mine).map(|w| &w.0).collect();
        mine.sort_unstable_by_key(|waiting| (waiting.due_us, waiting.number));
        let row = |w: &Waiting| SavedRow { due_us: w.due_us, image: w.image.to_vec() };
        mine.into_iter().map(row).collect()
    }

    /// Takes up what was saved, with the names that its slots had.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn restore(
        &mut self,
        saved: &[SavedRow],
        names: &[String],
        schema: &SharedSchema,
    ) -> Result<(), String> {
        for row in saved {
            let (image, key_hash) = rows::renumber(&row.image, names, schema)?;
            self.put(row.due_us, key_hash, image);
        }
        Ok(())
    }
}
