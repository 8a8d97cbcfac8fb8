//! State of a partition as bytes, and back. What is read may be anything: it
//! is validated before it is believed.

use ringmain_base::limits::partition_of;
use ringmain_base::{Now, Reason};
use ringmain_slab::{RowRef, Slab};
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::key::{Fields, Reader};
use super::table::{Bounds, Tables};
use super::time::{Timeline, seconds};
use crate::Refuse;

/// The keys of one partition.
#[derive(Archive, Serialize, Deserialize, Debug)]
pub(crate) struct Saved<S> {
    /// What the state was made with; see [`spec`].
    pub(crate) spec: u64,
    pub(crate) entries: Vec<SavedEntry<S>>,
}

/// One key.
#[derive(Archive, Serialize, Deserialize, Debug)]
pub(crate) struct SavedEntry<S> {
    pub(crate) key: Vec<u8>,
    pub(crate) seen_s: u32,
    pub(crate) state: S,
}

/// A number for what must be the same for a state to mean the same.
pub(crate) fn spec(parts: &[&[String]]) -> u64 {
    xxh3_64(format!("{parts:?}").as_bytes())
}

/// Appends a record.
pub(crate) fn write<T>(record: &T, into: &mut Vec<u8>) -> Result<(), String>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Failure>>,
{
    let bytes = rkyv::to_bytes::<Failure>(record).map_err(|_| "the state cannot be written")?;
    into.extend_from_slice(&bytes);
    Ok(())
}

/// Reads a record.
pub(crate) fn read<T>(bytes: &[u8]) -> Result<T, String>
where
    T: Archive,
    T::Archived:
        for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<T, HighDeserializer<Failure>>,
{
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    rkyv::from_bytes::<T, Failure>(&aligned).map_err(|_| "the stored state is damaged".into())
}

/// What is known of a message's key.
pub(crate) struct Known<'a, S> {
    pub(crate) state: &'a mut S,
    /// Nothing was known.
    pub(crate) fresh: bool,
    /// The key itself.
    pub(crate) key: &'a [u8],
}

/// What every operator by key has: the key, the tables, the clock.
pub(crate) struct Store<S> {
    pub(crate) key: Fields,
    pub(crate) tables: Tables<S>,
    pub(crate) timeline: Timeline,
    spec: u64,
    bytes: Vec<u8>,
    now_s: u32,
    /// Partition and hash of messages that are looked up ahead.
    ahead: Vec<(u16, u32)>,
}

/// Messages of a batch that are looked up ahead: what is asked for has to stay
/// in a core's second cache until it is needed.
const AHEAD_ROWS: usize = 2048;

impl<S: Default> Store<S> {
    pub(crate) fn new(key: Fields, bounds: Bounds, spec: u64) -> Self {
        let (timeline, bytes) = (Timeline::default(), Vec::new());
        Self {
            key,
            tables: Tables::new(bounds),
            timeline,
            spec,
            bytes,
            now_s: 0,
            ahead: Vec::new(),
        }
    }

    /// Begins a batch; the time in microseconds.
    pub(crate) fn begin(&mut self, now: Now, slab: &Slab) -> i64 {
        let now_us = self.timeline.now_us(now);
        self.now_s = seconds(now_us);
        self.tables.sweep(self.now_s, 16 + slab.len() / 4);
        if self.tables.is_large() {
            self.look_ahead(slab);
        }
        now_us
    }

    /// Asks for the memory of all keys of a batch, so that one message does not
    /// wait for it after the other: first for where the entries are, then for
    /// the entries.
    fn look_ahead(&mut self, slab: &Slab) {
        self.ahead.clear();
        for row in slab.rows().take(AHEAD_ROWS) {
            if self.key.key(row, &mut self.bytes).is_ok() {
                let (partition, hash) = (self.partition(row), self.tables.hash(&self.bytes));
                self.tables.fetch_index(partition, hash);
                self.ahead.push((partition, hash));
            }
        }
        for (partition, hash) in &self.ahead {
            self.tables.fetch_entry(*partition, *hash);
        }
    }

    #[inline]
    fn partition(&self, row: RowRef<'_>) -> u16 {
        partition_of(row.header().key_hash.to_native(), self.tables.partitions())
    }

    /// What is known of a message's key; nothing when the message was refused.
    #[inline]
    pub(crate) fn of(&mut self, row: RowRef<'_>, refuse: &mut dyn Refuse) -> Option<Known<'_, S>> {
        if let Err(why) = self.key.key(row, &mut self.bytes) {
            refuse.refuse(row, Reason::Field, &why);
            return None;
        }
        let partition = self.partition(row);
        let (state, fresh) = self.tables.get(partition, &self.bytes, self.now_s);
        Some(Known { state, fresh, key: &self.bytes })
    }

    /// As [`Store::of`], but a key for which there is no room is refused
    /// rather than another one forgotten.
    pub(crate) fn of_known(
        &mut self,
        row: RowRef<'_>,
        refuse: &mut dyn Refuse,
    ) -> Option<Known<'_, S>> {
        if let Err(why) = self.key.key(row, &mut self.bytes) {
            refuse.refuse(row, Reason::Field, &why);
            return None;
        }
        let partition = self.partition(row);
        if !self.tables.has_room(partition, &self.bytes) {
            let why = "there are max_keys keys with open windows; raise max_keys";
            refuse.refuse(row, Reason::Limit, why);
            return None;
        }
        let (state, fresh) = self.tables.get(partition, &self.bytes, self.now_s);
        Some(Known { state, fresh, key: &self.bytes })
    }

    /// A partition without keys, for saving.
    pub(crate) fn nothing<T>(&self) -> Saved<T> {
        Saved { spec: self.spec, entries: Vec::new() }
    }

    /// A partition for saving; nothing when it is empty.
    pub(crate) fn take<T>(&self, partition: u16, take: impl Fn(&S) -> T) -> Option<Saved<T>> {
        let entries = self.tables.entries(partition);
        let entry = |entry: &super::table::Entry<S>| SavedEntry {
            key: entry.key().to_vec(),
            seen_s: entry.seen_s(),
            state: take(&entry.state),
        };
        (!entries.is_empty())
            .then(|| Saved { spec: self.spec, entries: entries.iter().map(entry).collect() })
    }

    /// Takes up what was saved.
    ///
    /// # Errors
    /// When it is not a state of an operator like this one.
    pub(crate) fn give<T>(
        &mut self,
        partition: u16,
        saved: Saved<T>,
        give: impl Fn(T) -> Option<S>,
    ) -> Result<(), String> {
        if saved.spec != self.spec {
            let why = "it was saved with other keys or fields; give the operator another name to \
                       begin without state";
            return Err(why.into());
        }
        if partition >= self.tables.partitions() {
            return Err(format!("there is no partition {partition}"));
        }
        let fields = self.key.len();
        for entry in saved.entries {
            if !Reader::new(&entry.key).is_valid(fields) {
                return Err("the stored state has a damaged key".into());
            }
            let state = give(entry.state).ok_or("the stored state is damaged")?;
            if !self.tables.restore(partition, &entry.key, entry.seen_s, state) {
                // max_keys was lowered: the rest is forgotten.
                break;
            }
        }
        Ok(())
    }
}
