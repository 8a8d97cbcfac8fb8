//! A new version of a flow takes the place of one that runs, on one shard.
//!
//! First it stands by ([`stage`]): what is new of it is built and opened while
//! the old one runs, so that what cannot be opened disturbs nothing. Then, when
//! every shard says that it stands, it takes over between two turns
//! (`take_over`). Between turns nothing is inside the chain: all
//! that is in flight waits in queues, at sources, and in sinks. So what is kept
//! is moved as it is: a source with its connections and the numbers of its
//! batches, a sink with its queues and all that it has not accepted, an
//! operator with its state. Nothing is drained, and a dead sink holds nothing
//! up.
//!
//! Invariants:
//! - A batch is numbered by its inlet, and a kept inlet keeps its number: what
//!   is under way on a kept queue is accepted for the source that it came from.
//! - A sink that leaves is given what was meant for it, and its successor
//!   begins when it has come to its end: order holds, nothing is sent twice.
//!   One that cannot get rid of it leaves it to its successor, where both
//!   make the same bytes of their messages ([`crate::outlet`]).
//! - Every row passes an operator of one version or of the other. One that
//!   comes over a lane and was sent by the version before passes the filters of
//!   its front again; a shard that has not been taken over yet leaves what a
//!   later version sent where it is.
//! - A checkpoint that was under way is void; what was accepted of it stays so.
//!
//! Deliberately absent: going back. What can fail has been done before.

mod leave;
mod stage;
mod take_over;

use ringmain_ops::Operator;

use crate::checkpoint::Checkpoints;
use crate::keep::{Former, Keep};
use crate::wiring::FlowParts;

pub(crate) use stage::{Refusal, Staged, stage};

fn own_partitions(parts: &FlowParts) -> Vec<u16> {
    let count = parts.plan.partition.as_ref().map_or(0, |partition| partition.count);
    Checkpoints::partitions_of(count, parts.place.shard, usize::from(parts.place.shards))
}

fn same_format(old: &dyn Operator, new: &dyn Operator) -> bool {
    old.state_format().is_some() && old.state_format() == new.state_format()
}

fn keeps_letters(keep: &Keep) -> bool {
    keep.letters.and_then(Former::kept).is_some()
}
