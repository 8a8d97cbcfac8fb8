//! One reading of a flow's table.

use ringmain_base::Reason;

use crate::named::{self, NamedSnapshot};
use crate::{Cells, Counter, FlowMetrics, Role};

/// A component's counts, over all shards.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentSnapshot {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Messages that came in.
    pub rows_in: u64,
    /// Messages that went out.
    pub rows_out: u64,
    /// Messages dropped on purpose or by a full edge's policy.
    pub dropped: u64,
    /// The part of `dropped` that a full edge's policy dropped.
    pub dropped_full: u64,
    /// Messages refused.
    pub dead: u64,
    /// Refused messages by reason, those above zero.
    pub dead_by_reason: Vec<(Reason, u64)>,
    /// Bytes read from outside.
    pub bytes_in: u64,
    /// Bytes written to the outside.
    pub bytes_out: u64,
    /// Keys that an operator knows now.
    pub keys: u64,
    /// Keys that it has forgotten to make room.
    pub evicted: u64,
    /// Keys that it has forgotten because their time was over.
    pub expired: u64,
    /// Messages that came after their window was closed.
    pub late: u64,
    /// Messages that it holds back now.
    pub held: u64,
    /// Messages that were stored on disk because the sink had no room.
    pub spilled: u64,
    /// Stored messages that the sink was given.
    pub resent: u64,
    /// Bytes of torn ends of what was stored, cut off at start.
    pub torn_bytes: u64,
    /// Bytes that stored messages take on disk.
    pub disk_bytes: u64,
    /// Failures that belong to no message, such as a timer's.
    pub errors: u64,
    /// How long a source takes to give out a batch, in nanoseconds: the
    /// slowest of its shards.
    pub pull_ns: Option<u64>,
    /// Metrics that its code names itself, by name.
    pub named: Vec<NamedSnapshot>,
}

/// An edge's time without credit.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSnapshot {
    /// Producer.
    pub from: String,
    /// Consumer.
    pub to: String,
    /// Time without credit since the start: the longest of its queues.
    pub blocked_us: u64,
    /// Slabs on their way in the queues behind it.
    pub queued: u64,
}

/// Counts of a flow at one moment. Counters of different components are read
/// one after the other, so a running flow may be caught between two of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The flow's name.
    pub flow: String,
    /// When it was read, on the monotonic clock.
    pub now_us: u64,
    /// Counts by component.
    pub components: Vec<ComponentSnapshot>,
    /// Edges.
    pub edges: Vec<EdgeSnapshot>,
}

pub(crate) fn take(metrics: &FlowMetrics, now_us: u64) -> Snapshot {
    let components = metrics.components.iter().enumerate();
    let components = components.map(|(at, (name, role))| component(metrics, at, name, *role));
    let edges = metrics.edges.iter().map(|edge| EdgeSnapshot {
        from: edge.from.clone(),
        to: edge.to.clone(),
        blocked_us: edge.meters.iter().map(|m| m.blocked_us(now_us)).max().unwrap_or(0),
        queued: edge.meters.iter().map(|m| m.queued()).sum(),
    });
    Snapshot {
        flow: metrics.flow.clone(),
        now_us,
        components: components.collect(),
        edges: edges.collect(),
    }
}

fn component(metrics: &FlowMetrics, at: usize, name: &str, role: Role) -> ComponentSnapshot {
    let sum = |counter: fn(&Cells) -> &Counter| {
        metrics.shards.iter().map(|cells| counter(&cells[at]).get()).sum::<u64>()
    };
    let dead = |reason: Reason| {
        metrics.shards.iter().map(|cells| cells[at].dead[reason as usize].get()).sum::<u64>()
    };
    let by_reason = Reason::ALL.into_iter().map(|reason| (reason, dead(reason)));
    let dead_by_reason: Vec<_> = by_reason.filter(|(_, count)| *count > 0).collect();
    let dropped_full = sum(|c| &c.dropped_full);
    ComponentSnapshot {
        name: name.to_owned(),
        role,
        rows_in: sum(|c| &c.rows_in),
        rows_out: sum(|c| &c.rows_out),
        dropped: sum(|c| &c.dropped) + dropped_full,
        dropped_full,
        dead: dead_by_reason.iter().map(|(_, count)| count).sum(),
        dead_by_reason,
        bytes_in: sum(|c| &c.bytes_in),
        bytes_out: sum(|c| &c.bytes_out),
        keys: sum(|c| &c.keys),
        evicted: sum(|c| &c.evicted),
        expired: sum(|c| &c.expired),
        late: sum(|c| &c.late),
        held: sum(|c| &c.held),
        spilled: sum(|c| &c.spilled),
        resent: sum(|c| &c.resent),
        torn_bytes: sum(|c| &c.torn_bytes),
        disk_bytes: metrics.shards.iter().map(|cells| cells[at].disk_bytes.get()).sum(),
        errors: sum(|c| &c.errors),
        pull_ns: {
            let pulls = metrics.shards.iter().map(|cells| cells[at].pull_ns.get());
            pulls.max().filter(|ns| *ns > 0)
        },
        named: named::merge(metrics.shards.iter().map(|cells| cells[at].named_snapshot())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sums_the_shards() {
        let names = vec![("in".to_owned(), Role::Source), ("out".to_owned(), Role::Sink)];
        let metrics = FlowMetrics::new("f", names, 2);
        metrics.shards[0][1].rows_in.add(3);
        metrics.shards[1][1].rows_in.add(4);
        metrics.shards[1][1].refuse(Reason::Encode);
        metrics.shards[0][1].dropped_full.add(2);
        let snapshot = metrics.snapshot(0);
        let sink = &snapshot.components[1];
        assert_eq!((sink.rows_in, sink.dropped, sink.dead), (7, 2, 1));
        assert_eq!(sink.dead_by_reason, [(Reason::Encode, 1)]);
        assert_eq!(snapshot.components[0].rows_in, 0);
    }
}
