//! What an operator remembers by key, within a bound.
//!
//! Owns: one table per partition, eviction when there are too many keys,
//! forgetting after a time.
//!
//! Invariants:
//! - Keys are compared byte by byte; the hash only finds candidates.
//! - Nothing is allocated for a key that is known.
//! - At most `max_keys` keys over all partitions, and at most
//!   [`LONG_KEY_BYTES`] per key for those that do not fit an entry.
//! - Work per call is bounded: an eviction looks at [`SAMPLE`] entries, a sweep
//!   at a few for each message.
//!
//! Deliberately absent: clocks. Time comes in as seconds of a [`Timeline`].
//!
//! [`Timeline`]: super::time::Timeline

use std::hash::{BuildHasher, RandomState};

use ringmain_slab::fetch_to_write;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::index::Index;
use crate::Tally;

/// Bytes of a key that lie in its entry.
const INLINE: usize = 30;

/// Average bytes per key that long keys may take outside of their entries.
pub(crate) const LONG_KEY_BYTES: usize = 64;

/// Entries that an eviction chooses from: the longest unused one goes.
const SAMPLE: usize = 8;

/// Tables of this size are in the second cache of any core that is in use.
const AT_HAND_BYTES: usize = 512 << 10;

/// A key of any length in 32 bytes.
#[derive(Clone, Debug)]
enum Key {
    Inline(u8, [u8; INLINE]),
    Long(Box<[u8]>),
}

impl Key {
    fn new(bytes: &[u8]) -> Self {
        if bytes.len() > INLINE {
            return Self::Long(bytes.into());
        }
        let mut inline = [0; INLINE];
        inline[..bytes.len()].copy_from_slice(bytes);
        Self::Inline(bytes.len() as u8, inline)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    fn long_bytes(&self) -> usize {
        match self {
            Self::Inline(..) => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

/// A key and what is known of it.
pub(crate) struct Entry<S> {
    key: Key,
    hash: u32,
    /// When it was asked for last, in seconds.
    seen_s: u32,
    /// What the operator keeps.
    pub(crate) state: S,
}

impl<S> Entry<S> {
    pub(crate) fn key(&self) -> &[u8] {
        self.key.bytes()
    }

    pub(crate) fn seen_s(&self) -> u32 {
        self.seen_s
    }
}

/// The keys of one partition.
struct Table<S> {
    index: Index,
    entries: Vec<Entry<S>>,
    /// Where the next eviction looks.
    hand: usize,
}

impl<S> Table<S> {
    fn new() -> Self {
        Self { index: Index::default(), entries: Vec::new(), hand: 0 }
    }

    #[inline]
    fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        self.index.find(hash, |at| self.entries[at].key.bytes() == key)
    }

    fn insert(&mut self, entry: Entry<S>) -> usize {
        let at = self.entries.len();
        self.index.insert(entry.hash, at);
        self.entries.push(entry);
        at
    }

    /// Removes the entry at `at`; the last one takes its place.
    fn remove(&mut self, at: usize) -> Entry<S> {
        let last = self.entries.len() - 1;
        self.index.remove(self.entries[at].hash, at);
        if at != last {
            self.index.moved(self.entries[last].hash, last, at);
        }
        self.entries.swap_remove(at)
    }

    /// Gives memory back that many keys have left behind.
    fn shrink(&mut self) {
        let len = self.entries.len();
        if self.entries.capacity() > (len * 4).max(256) {
            self.entries.shrink_to(len * 2);
            self.index.shrink_to(len * 2);
        }
    }
}

/// How much is remembered, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) partitions: u16,
    pub(crate) max_keys: usize,
    /// Keys that nobody asked for in so many seconds are forgotten.
    pub(crate) ttl_s: Option<u32>,
}

/// The keys of all partitions of an operator on one shard.
pub(crate) struct Tables<S> {
    parts: Vec<Option<Box<Table<S>>>>,
    bounds: Bounds,
    len: usize,
    long_bytes: usize,
    seed: u64,
    /// Partition and entry where the next sweep goes on.
    sweep: (usize, usize),
    evicted: u64,
    expired: u64,
}

impl<S: Default> Tables<S> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let parts = (0..bounds.partitions.max(1)).map(|_| None).collect();
        // Not known outside, so that nobody can choose keys that collide.
        let seed = RandomState::new().hash_one(0u8);
        let (len, long_bytes, evicted, expired) = (0, 0, 0, 0);
        Self { parts, bounds, len, long_bytes, seed, sweep: (0, 0), evicted, expired }
    }

    /// What is known of a key; true when nothing was, or no longer.
    #[inline]
    pub(crate) fn get(&mut self, partition: u16, key: &[u8], now_s: u32) -> (&mut S, bool) {
        let hash = self.hash(key);
        let part = usize::from(partition);
        let found = self.parts[part].as_ref().and_then(|table| table.find(hash, key));
        let (at, mut fresh) = match found {
            Some(at) => (at, false),
            None => (self.insert(part, hash, key), true),
        };
        let table = self.parts[part].as_mut().expect("the key was found in it, or put there");
        let entry = &mut table.entries[at];
        let expired = self.bounds.ttl_s.is_some_and(|ttl| now_s.saturating_sub(entry.seen_s) > ttl);
        if expired && !fresh {
            entry.state = S::default();
            self.expired += 1;
            fresh = true;
        }
        entry.seen_s = now_s;
        (&mut entry.state, fresh)
    }

    /// Whether the tables are larger than what a core keeps at hand.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.len * size_of::<Entry<S>>() > AT_HAND_BYTES
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u32 {
        xxh3_64_with_seed(key, self.seed) as u32
    }

    /// Asks for what finds the entry of a key.
    #[inline]
    pub(crate) fn fetch_index(&self, partition: u16, hash: u32) {
        if let Some(table) = &self.parts[usize::from(partition)] {
            table.index.fetch(hash);
        }
    }

    /// Asks for the entry of a key.
    #[inline]
    pub(crate) fn fetch_entry(&self, partition: u16, hash: u32) {
        let Some(table) = &self.parts[usize::from(partition)] else { return };
        if let Some(at) = table.index.find(hash, |_| true) {
            let entry = &table.entries[at];
            // It begins in one line and may end in the next; which of these
            // come first is the compiler's choice.
            fetch_to_write(&entry.key);
            fetch_to_write(&entry.state);
            fetch_to_write(&entry.seen_s);
        }
    }

    /// Whether a key that is not known could be taken up without forgetting
    /// another.
    pub(crate) fn has_room(&self, partition: u16, key: &[u8]) -> bool {
        self.len < self.bounds.max_keys || {
            let hash = self.hash(key);
            let table = self.parts[usize::from(partition)].as_ref();
            table.is_some_and(|table| table.find(hash, key).is_some())
        }
    }

    #[cold]
    fn insert(&mut self, part: usize, hash: u32, key: &[u8]) -> usize {
        let key = Key::new(key);
        let long = key.long_bytes();
        while self.len > 0
            && (self.len >= self.bounds.max_keys
                || self.long_bytes + long > self.bounds.max_keys.saturating_mul(LONG_KEY_BYTES))
        {
            self.evict(part);
        }
        self.len += 1;
        self.long_bytes += long;
        let table = self.parts[part].get_or_insert_with(|| Box::new(Table::new()));
        table.insert(Entry { key, hash, seen_s: 0, state: S::default() })
    }

    /// Forgets one of the keys that were not asked for in the longest time, of
    /// this partition if it has any.
    fn evict(&mut self, part: usize) {
        let count = self.parts.len();
        let has = |part: &usize| self.parts[*part].as_ref().is_some_and(|t| !t.entries.is_empty());
        let Some(part) = (0..count).map(|step| (part + step) % count).find(has) else { return };
        let Some(table) = &mut self.parts[part] else { return };
        let len = table.entries.len();
        let sample = (0..SAMPLE.min(len)).map(|step| (table.hand + step) % len);
        let victim = sample.min_by_key(|at| table.entries[*at].seen_s).unwrap_or(0);
        table.hand = (table.hand + SAMPLE) % len;
        self.evicted += 1;
        self.remove(part, victim);
    }

    fn remove(&mut self, part: usize, at: usize) {
        let Some(table) = &mut self.parts[part] else { return };
        let entry = table.remove(at);
        self.len -= 1;
        self.long_bytes -= entry.key.long_bytes();
    }

    /// Looks at about `work` entries, and forgets those whose time is over.
    pub(crate) fn sweep(&mut self, now_s: u32, work: usize) {
        let Some(ttl) = self.bounds.ttl_s.filter(|_| self.len > 0) else { return };
        for _ in 0..work {
            let (part, at) = self.sweep;
            let entry = self.parts[part].as_ref().and_then(|table| table.entries.get(at));
            match entry.map(|entry| now_s.saturating_sub(entry.seen_s) > ttl) {
                Some(true) => {
                    self.expired += 1;
                    self.remove(part, at);
                }
                Some(false) => self.sweep.1 += 1,
                None => {
                    if let Some(table) = &mut self.parts[part] {
                        table.shrink();
                    }
                    self.sweep = ((part + 1) % self.parts.len(), 0);
                }
            }
        }
    }

    /// Keys of one partition.
    pub(crate) fn entries(&self, partition: u16) -> &[Entry<S>] {
        let table = self.parts.get(usize::from(partition)).and_then(Option::as_ref);
        table.map_or(&[], |table| &table.entries)
    }

    /// Goes through the keys of one partition from number `from` on, until
    /// `visit` says stop; those that it gives up are forgotten. Returns where
    /// to go on, or `None` at the end.
    pub(crate) fn visit(
        &mut self,
        partition: u16,
        from: usize,
        mut visit: impl FnMut(&mut Entry<S>) -> Visit,
    ) -> Option<usize> {
        let part = usize::from(partition);
        let mut at = from;
        while let Some(entry) = self.parts[part].as_mut().and_then(|t| t.entries.get_mut(at)) {
            match visit(entry) {
                Visit::Keep => at += 1,
                Visit::Forget => self.remove(part, at),
                Visit::Stop => return Some(at),
            }
        }
        if let Some(table) = &mut self.parts[part] {
            table.shrink();
        }
        None
    }

    /// Takes up a key with its state, from a checkpoint; false when there are
    /// too many.
    pub(crate) fn restore(&mut self, partition: u16, key: &[u8], seen_s: u32, state: S) -> bool {
        if !self.has_room(partition, key) {
            return false;
        }
        *self.get(partition, key, seen_s).0 = state;
        true
    }

    /// Partitions.
    pub(crate) fn partitions(&self) -> u16 {
        self.parts.len() as u16
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            keys: self.len as u64,
            evicted: self.evicted,
            expired: self.expired,
            ..Tally::default()
        }
    }
}

/// What becomes of a visited key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    Keep,
    Forget,
    Stop,
}

/// Bytes that one key takes at most, besides what its state allocates: the
/// entry in a vector that may be half empty, its slot in an index of which
/// three eighths are taken after it has grown, and its share of long keys.
pub(crate) const fn key_bytes<S>() -> u64 {
    (2 * size_of::<Entry<S>>() + 22 + LONG_KEY_BYTES) as u64
}
