//! What a flow counts: cells that one shard writes and anyone may read.
//!
//! Owns: [`Counter`], the cells of a component on a shard ([`Cells`]), the
//! metrics that an operator's code names itself ([`Named`]), the table of a
//! flow's components and edges ([`FlowMetrics`]) and its [`Snapshot`].
//!
//! Invariants:
//! - A counter has one writer, so counting is a load, an add and a store, no
//!   locked instruction; it is touched once per slab, never per message.
//! - For every component, `in = out + dropped + dead` once the flow is at rest.
//!
//! Deliberately absent: exporters, HTTP, and names without a bound: the table
//! is laid out when the flow is built, and [`Named`] has room for a few.
#![forbid(unsafe_code)]

mod named;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ringmain_base::Reason;
use ringmain_ring::Meter;

pub use named::{
    BUCKETS, HistogramSnapshot, Kind, NAME_BYTES_MAX, NAMES_MAX, NameError, Named, NamedSnapshot,
    bound,
};
pub use snapshot::{ComponentSnapshot, EdgeSnapshot, Snapshot};

/// A count that one thread writes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets what was counted elsewhere. Only the owning shard may call it.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that one thread sets.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Only the owning shard may call it.
    #[inline]
    pub fn set(&self, level: u64) {
        self.0.store(level, Ordering::Relaxed);
    }

    /// The level now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of one component on one shard.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Cells {
    /// Messages that came in.
    pub rows_in: Counter,
    /// Messages that went out, each once, however many read it.
    pub rows_out: Counter,
    /// Messages dropped by what the component is for (a filter).
    pub dropped: Counter,
    /// Messages dropped because an edge was full and its policy says so.
    pub dropped_full: Counter,
    /// Messages refused, by [`Reason`].
    pub dead: [Counter; Reason::ALL.len()],
    /// Bytes read from outside.
    pub bytes_in: Counter,
    /// Bytes written to the outside.
    pub bytes_out: Counter,
    /// Keys that an operator knows now.
    pub keys: Counter,
    /// Keys that were forgotten to make room.
    pub evicted: Counter,
    /// Keys that were forgotten because their time was over.
    pub expired: Counter,
    /// Messages that came after their window was closed.
    pub late: Counter,
    /// Messages that an operator holds back now.
    pub held: Counter,
    /// Messages that were stored on disk because the sink had no room.
    pub spilled: Counter,
    /// Stored messages that the sink was given.
    pub resent: Counter,
    /// Bytes of torn ends of what was stored, cut off at start.
    pub torn_bytes: Counter,
    /// Bytes that stored messages take on disk now.
    pub disk_bytes: Gauge,
    /// Failures that belong to no message, such as a timer's.
    pub errors: Counter,
    /// How long a source takes to give out a batch, smoothed, in nanoseconds;
    /// 0 as long as none was timed.
    pub pull_ns: Gauge,
    named: OnceLock<Arc<Named>>,
}

impl Cells {
    /// Counts one refused message.
    pub fn refuse(&self, reason: Reason) {
        self.dead[reason as usize].add(1);
    }

    /// The metrics that the component's code names itself, made when they are
    /// first asked for.
    pub fn named(&self) -> &Arc<Named> {
        self.named.get_or_init(Arc::default)
    }

    /// The same, read now; none if nobody asked for them.
    #[must_use]
    pub fn named_snapshot(&self) -> Vec<NamedSnapshot> {
        self.named.get().map_or_else(Vec::new, |named| named.snapshot())
    }

    /// Messages refused for any reason.
    #[must_use]
    pub fn dead_total(&self) -> u64 {
        self.dead.iter().map(Counter::get).sum()
    }
}

/// What a component is in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Brings messages in.
    Source,
    /// Works on them.
    Operator,
    /// Takes them out.
    Sink,
}

/// One edge of the graph, with the meters of the queues that it consists of
/// (one per shard it leaves), or, where it is fused into its producer's chain,
/// of the queues behind it.
#[derive(Clone)]
pub struct Edge {
    /// The producer's name, with its port if it has several.
    pub from: String,
    /// The consumer's name.
    pub to: String,
    /// Time without credit.
    pub meters: Vec<Arc<Meter>>,
}

/// The table of a flow.
#[derive(Clone)]
pub struct FlowMetrics {
    /// The flow's name.
    pub flow: String,
    /// Names and roles; the position is the component's number.
    pub components: Vec<(String, Role)>,
    /// Cells by shard, then by component; a component that is kept when the
    /// flow is amended keeps its own.
    pub shards: Vec<Arc<[Arc<Cells>]>>,
    /// The edges.
    pub edges: Vec<Edge>,
}

impl FlowMetrics {
    /// A table of zeroes.
    #[must_use]
    pub fn new(flow: &str, components: Vec<(String, Role)>, shards: usize) -> Self {
        let cells = || (0..components.len()).map(|_| Arc::default()).collect();
        let shards = (0..shards).map(|_| cells()).collect();
        Self { flow: flow.to_owned(), components, shards, edges: Vec::new() }
    }

    /// Goes on counting where another table of the flow is: for components of
    /// the same name and role.
    pub fn go_on(&mut self, before: &Self) {
        for (cells, old) in self.shards.iter_mut().zip(&before.shards) {
            let of = |(component, new): (&(String, Role), &Arc<Cells>)| {
                let at = before.components.iter().position(|before| before == component);
                at.map_or_else(|| new.clone(), |at| old[at].clone())
            };
            *cells = self.components.iter().zip(cells.iter()).map(of).collect();
        }
    }

    /// Everything, read now.
    #[must_use]
    pub fn snapshot(&self, now_us: u64) -> Snapshot {
        snapshot::take(self, now_us)
    }
}
