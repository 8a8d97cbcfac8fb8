//! Repartition by key: every row of a source goes to the shard that its
//! partition is pinned to.
//!
//! Invariants:
//! - Partition `p` of `count` is pinned to shard `p % shards`; the partition of
//!   a key depends on the key and `count` alone, for as long as there is state.
//! - Rows of one key keep their order: once a row for a shard finds no room,
//!   every later one for that shard waits behind it.
//! - A row is copied at most once, into a slab of the edge to its shard; rows
//!   for this shard are not copied at all.

use ringmain_base::Now;
use ringmain_base::limits::partition_of;
use ringmain_ring::{Marker, Span, Upstream};
use ringmain_slab::{RowRef, SharedSchema, Slab, ValueRef};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::exits::pulse;

/// Room for markers that versions leave to barriers and the end.
const MARKERS_SPARED: usize = 4;

/// Finds the hash of a row's key, and with it its partition.
pub(crate) struct Keys {
    /// Slots of the key's fields; looked up when the flow is built.
    slots: Vec<u16>,
    pub count: u16,
}

impl Keys {
    /// # Panics
    /// When the flow has more key fields than slots; `check` refuses that.
    pub(crate) fn new(names: &[String], count: u16, shared: &SharedSchema) -> Self {
        let slot = |name: &String| shared.intern(name).expect("key fields get their slots first");
        let slots = names.iter().map(slot).collect();
        Self { slots, count: count.max(1) }
    }

    /// Writes the hash of its key into every row.
    #[inline]
    pub(crate) fn hash(&self, slab: &mut Slab) {
        slab.hash_keys(|row| {
            let hash = |seed, slot: &u16| hash_value(row.get(*slot), seed);
            (self.slots.iter().fold(0, hash) >> 32) as u32
        });
    }
}

#[inline]
fn partition(row: RowRef<'_>, count: u16) -> usize {
    usize::from(partition_of(row.header().key_hash.to_native(), count))
}

/// XXH3 is specified for all time, unlike the hash functions that are made for
/// tables in memory: a key must find its state after an upgrade, too. Numbers
/// that are equal are one key, whichever way they were written.
#[inline]
fn hash_value(value: ValueRef<'_>, seed: u64) -> u64 {
    match value {
        ValueRef::Str(text) => xxh3_64_with_seed(text.as_bytes(), seed),
        ValueRef::Bytes(bytes) => xxh3_64_with_seed(bytes, seed),
        ValueRef::Int(v) => xxh3_64_with_seed(&v.to_le_bytes(), seed ^ 1),
        ValueRef::Float(v) if v == (v as i64) as f64 => {
            xxh3_64_with_seed(&(v as i64).to_le_bytes(), seed ^ 1)
        }
        ValueRef::Float(v) => xxh3_64_with_seed(&v.to_le_bytes(), seed ^ 2),
        ValueRef::Number(text) => xxh3_64_with_seed(text.as_bytes(), seed ^ 2),
        ValueRef::Bool(v) => xxh3_64_with_seed(&[u8::from(v)], seed ^ 3),
        ValueRef::Null | ValueRef::Absent => xxh3_64_with_seed(&[], seed ^ 4),
        ValueRef::List(_) | ValueRef::Map(_) => hash_tree(value, seed ^ 5),
    }
}

#[cold]
fn hash_tree(value: ValueRef<'_>, seed: u64) -> u64 {
    match value {
        ValueRef::List(list) => list.iter().fold(seed, |seed, item| hash_value(item, seed)),
        ValueRef::Map(map) => map.iter().fold(seed, |seed, (key, item)| {
            hash_value(item, xxh3_64_with_seed(key.as_bytes(), seed))
        }),
        _ => seed,
    }
}

/// The shard, of so many, that a partition is pinned to.
pub(crate) fn owner(partition: u16, shards: usize) -> u16 {
    (usize::from(partition) % shards) as u16
}

/// Whether a row whose key is hashed belongs to a shard, of so many.
pub(crate) fn owns(me: u16, shards: usize, row: RowRef<'_>, count: u16) -> bool {
    owner(partition(row, count) as u16, shards) == me
}

/// The way to one other shard.
struct Lane {
    upstream: Upstream<Slab>,
    open: Option<Open>,
    drained: bool,
}

/// A slab that is being filled.
struct Open {
    slab: Slab,
    span: Span,
    since_us: u64,
}

/// The exchange behind one source on one shard.
pub(crate) struct Exchange {
    keys: Keys,
    me: u16,
    /// By partition: the shard that it is pinned to. A look-up costs less
    /// than the division by the number of shards.
    owners: Box<[u16]>,
    /// By target shard; none for this one.
    lanes: Vec<Option<Lane>>,
    /// By target shard: which rows of the batch at hand are for it.
    places: Vec<Vec<u32>>,
    linger_us: u64,
    /// Somebody reads the hashes: another shard's lane, or an operator that
    /// keeps its state by partition.
    hashes: bool,
}

impl Exchange {
    pub(crate) fn new(
        keys: Keys,
        me: usize,
        lanes: Vec<Option<Upstream<Slab>>>,
        linger_us: u64,
        stateful: bool,
    ) -> Self {
        let hashes = stateful || lanes.len() > 1;
        let lane = |upstream| Lane { upstream, open: None, drained: false };
        let shards = lanes.len();
        let owners = (0..keys.count).map(|partition| owner(partition, shards)).collect();
        let lanes = lanes.into_iter().map(|upstream| upstream.map(lane)).collect();
        let places = vec![Vec::new(); shards];
        Self { keys, me: me as u16, owners, lanes, places, linger_us, hashes }
    }

    /// Computes the keys' hashes of a new batch.
    pub(crate) fn hash(&self, slab: &mut Slab) {
        if self.hashes {
            self.keys.hash(slab);
        }
    }

    /// Whether there is room for a batch, whichever shards its rows are for.
    /// A batch of rows that made their slab grow may find too little still.
    pub(crate) fn admits(&mut self, now: Now) -> bool {
        let mut admitted = true;
        // Every lane is asked, so that every meter sees its own lack.
        for lane in self.lanes.iter_mut().flatten() {
            match lane.upstream.take_empty(now.mono_us) {
                Some(slab) => lane.upstream.put_back(slab),
                None => admitted = false,
            }
        }
        admitted
    }

    /// Copies the rows for other shards out of `slab`, number `number` of
    /// inlet `inlet`. Rows for this shard, and rows that found no room, stay.
    /// Returns how many found no room.
    pub(crate) fn scatter(&mut self, slab: &mut Slab, inlet: u16, number: u64, now: Now) -> usize {
        if self.lanes.len() == 1 {
            return 0;
        }
        let (count, owners) = (self.keys.count, &self.owners);
        slab.divide(&mut self.places, |row| usize::from(owners[partition(row, count)]));
        let mut mine = std::mem::take(&mut self.places[usize::from(self.me)]);
        let mut stuck = 0;
        for (lane, places) in self.lanes.iter_mut().zip(&self.places) {
            let Some(lane) = lane else { continue };
            let copied = lane.push_all(slab, places, inlet, number, now);
            mine.extend_from_slice(&places[copied..]);
            stuck += places.len() - copied;
        }
        if stuck > 0 {
            mine.sort_unstable();
        }
        slab.select(&mine);
        self.places[usize::from(self.me)] = mine;
        stuck
    }

    /// Of a batch after [`Exchange::scatter`]: moves the rows for this shard to
    /// `mine`. What there is no memory for stays, with all rows behind it.
    pub(crate) fn take_mine(&self, slab: &mut Slab, mine: &mut Slab) {
        let (count, owners, me) = (self.keys.count, &self.owners, self.me);
        let mut full = false;
        slab.retain(|row| {
            if full || owners[partition(row, count)] != me {
                return true;
            }
            let fits = mine.reserve(row.image_bound()).is_ok() && mine.push_copy(row).is_ok();
            full = !fits;
            full
        });
    }

    /// Sends partly filled slabs whose reader is idle or whose time has come.
    pub(crate) fn flush(&mut self, inlet: u16, force: bool, now: Now) {
        let linger_us = self.linger_us;
        for lane in self.lanes.iter_mut().flatten() {
            let due = lane.open.as_ref().is_some_and(|open| {
                force || now.mono_us.saturating_sub(open.since_us) >= linger_us
            });
            if due || (lane.open.is_some() && lane.upstream.idle()) {
                lane.send(inlet);
            }
        }
    }

    /// When a partly filled slab must leave.
    pub(crate) fn wake_at_us(&self) -> Option<u64> {
        let open = self.lanes.iter().flatten().filter_map(|lane| lane.open.as_ref());
        open.map(|open| open.since_us + self.linger_us).min()
    }

    /// Everything of `inlet` up to this number has been accepted.
    pub(crate) fn position(&mut self, inlet: u16, upto: u64) -> u64 {
        self.lanes.iter_mut().flatten().fold(upto, |least, lane| {
            let open = lane.open.as_ref().map_or(u64::MAX, |open| open.span.first - 1);
            least.min(lane.upstream.position(inlet, upto)).min(open)
        })
    }

    /// Changes when credit or an ack comes back.
    pub(crate) fn pulse(&self) -> u64 {
        self.lanes.iter().flatten().map(|l| pulse(&l.upstream)).fold(0, u64::wrapping_add)
    }

    /// Sends everything, and the barrier of a checkpoint behind it.
    pub(crate) fn barrier(&mut self, inlet: u16, epoch: u64, now: Now) {
        self.flush(inlet, true, now);
        for lane in self.lanes.iter_mut().flatten().filter(|lane| !lane.drained) {
            let sent = lane.upstream.send_marker(Marker::Barrier(epoch));
            // One barrier and one drain at most are under way; a consumer that
            // is gone needs neither.
            assert!(sent.is_ok() || lane.upstream.is_closed(), "there is room for a barrier");
        }
    }

    /// Somebody reads the hashes from now on, or nobody does.
    pub(crate) fn set_stateful(&mut self, stateful: bool) {
        self.hashes = stateful || self.lanes.len() > 1;
    }

    /// Sends everything, and says that what follows is of another version. A
    /// lane that has no room for that is told nothing: its rows are taken for
    /// earlier ones, which is no harm.
    pub(crate) fn version(&mut self, inlet: u16, version: u64, now: Now) {
        self.flush(inlet, true, now);
        for lane in self.lanes.iter_mut().flatten().filter(|lane| !lane.drained) {
            if lane.upstream.markers_left() > MARKERS_SPARED {
                let _ = lane.upstream.send_marker(Marker::Version(version));
            }
        }
    }

    /// Whether every lane has room for a barrier, and for the end.
    pub(crate) fn takes_barrier(&mut self) -> bool {
        let open = self.lanes.iter_mut().flatten().filter(|lane| !lane.drained);
        open.map(|lane| lane.upstream.markers_left()).all(|left| left >= 2)
    }

    /// Sends everything and announces the end. True when all have been told.
    pub(crate) fn drain(&mut self, inlet: u16, now: Now) -> bool {
        self.flush(inlet, true, now);
        let mut told = true;
        for lane in self.lanes.iter_mut().flatten() {
            lane.drained = lane.drained || lane.upstream.send_marker(Marker::Drain).is_ok();
            told &= lane.drained;
        }
        told
    }
}

impl Lane {
    /// Copies the rows at `places` until one finds no room; says how many.
    fn push_all(
        &mut self,
        slab: &Slab,
        places: &[u32],
        inlet: u16,
        number: u64,
        now: Now,
    ) -> usize {
        let fits = |place: &&u32| self.push(slab.row(**place as usize), inlet, number, now);
        places.iter().take_while(fits).count()
    }

    /// False when there is no credit.
    #[inline]
    fn push(&mut self, row: RowRef<'_>, inlet: u16, number: u64, now: Now) -> bool {
        loop {
            let Some(open) = &mut self.open else {
                let Some(slab) = self.upstream.take_empty(now.mono_us) else { return false };
                let span = Span { first: number, last: number };
                self.open = Some(Open { slab, span, since_us: now.mono_us });
                continue;
            };
            if open.slab.push_copy(row).is_ok() {
                open.span.last = number;
                return true;
            }
            if open.slab.is_empty() {
                // Larger than a slab: grow, or wait for memory.
                if open.slab.reserve(row.image_bound()).is_err() {
                    return false;
                }
                continue;
            }
            self.send(inlet);
        }
    }

    fn send(&mut self, inlet: u16) {
        if let Some(open) = self.open.take() {
            if open.slab.is_empty() {
                self.upstream.put_back(open.slab);
            } else {
                self.upstream.send(open.slab, inlet, open.span);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmain_slab::{Budget, Scalar, Scratch};

    fn rows(values: &[Scalar<'_>]) -> (Slab, SharedSchema) {
        let schema = SharedSchema::new();
        schema.intern("device").unwrap();
        let mut slab = Slab::new(64 << 10, &Budget::new(0));
        let mut scratch = Scratch::default();
        for value in values {
            let mut row = slab.build(1, 1, &mut scratch);
            row.set(0, *value);
            row.finish(0).unwrap();
        }
        (slab, schema)
    }

    #[test]
    fn equal_numbers_are_one_key_however_they_are_written() {
        let (mut slab, schema) = rows(&[Scalar::Int(7), Scalar::Float(7.0), Scalar::Str("7")]);
        Keys::new(&["device".into()], 64, &schema).hash(&mut slab);
        assert_eq!(partition(slab.row(0), 64), partition(slab.row(1), 64));
    }

    #[test]
    fn a_key_has_the_same_partition_for_all_time() {
        let values = [Scalar::Str("motor-0001"), Scalar::Int(42), Scalar::Null];
        let (mut slab, schema) = rows(&values);
        Keys::new(&["device".into()], 64, &schema).hash(&mut slab);
        let partitions: Vec<_> = slab.rows().map(|row| partition(row, 64)).collect();
        // These numbers are on disk in checkpoints. If this fails, so does
        // every restart with state.
        assert_eq!(partitions, [48, 25, 49]);
    }

    #[test]
    fn partitions_spread_evenly() {
        let names: Vec<String> = (0..6400).map(|n| format!("motor-{n:04}")).collect();
        let schema = SharedSchema::new();
        let keys = Keys::new(&["device".into()], 64, &schema);
        let mut slab = Slab::new(1 << 20, &Budget::new(0));
        let mut counts = [0u32; 64];
        for name in &names {
            slab.clear();
            let mut scratch = Scratch::default();
            let mut row = slab.build(1, 1, &mut scratch);
            row.set_str(0, name);
            row.finish(0).unwrap();
            keys.hash(&mut slab);
            counts[partition(slab.row(0), 64)] += 1;
        }
        assert!(counts.iter().all(|count| (50..=160).contains(count)), "{counts:?}");
    }
}
