//! Dead letters that go in again while their flow runs, at the component that
//! refused them.
//!
//! The controller hands over bytes and says where they go in; every shard with
//! a part of the flow decodes them and runs the rows whose keys are its own. A
//! replay is done when everything of it has been accepted, refused messages as
//! new dead letters.
//!
//! Before that, the file of the dead letters is closed and another one begun,
//! so that the controller may take out of it what was replayed.
//!
//! Invariants: like any batch, one of a replay runs only with credit, and is
//! numbered, so that its acceptance is known. Nothing is taken in once the
//! flow drains. Deliberately absent: a position. A replay that is cut off leaves
//! the letters where they were; what it has done to the state of operators may
//! be in a checkpoint, and is done again when they are replayed.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringmain_base::Now;
use ringmain_base::limits::FRAME_BYTES_LIMIT;
use ringmain_codec::{Decoder, Framer, Framing, Limits};
use ringmain_config::plan::DecodePlan;
use ringmain_ops::chain::{Outside, Target};
use ringmain_slab::SharedSchema;

use crate::checkpoint::Checkpoints;
use crate::control::FlowControl;
use crate::exchange::{Keys, owns};
use crate::flow::FlowShard;
use crate::graph::Graph;

/// Batches that one turn runs of a replay: live messages go first.
const BATCHES_PER_TURN: usize = 2;

/// Letters that go in at one place in one form.
#[derive(Clone, Debug)]
pub struct ReplayGroup {
    /// The number of the component that they go in at.
    pub component: usize,
    /// What their bytes are.
    pub decode: DecodePlan,
    /// Frames, each with its length before it (32 bits, big-endian).
    pub bytes: Vec<u8>,
}

/// Letters on their way through a flow.
#[derive(Debug)]
pub struct Replay {
    groups: Vec<ReplayGroup>,
    parts: usize,
    done: AtomicUsize,
    refused: AtomicU64,
    cut: AtomicBool,
}

impl Replay {
    /// Everything of it has been accepted, or refused again.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.parts && !self.is_cut()
    }

    /// The flow has ended before that.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Messages that decoders and operators have refused again.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Acquire)
    }
}

/// What is asked of the shards.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    asked: AtomicU64,
    newest: Mutex<Option<Arc<Replay>>>,
    asides: AtomicU64,
    set_aside: AtomicU64,
}

impl Replays {
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    fn newest(&self) -> Option<Arc<Replay>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl FlowControl {
    /// Has the flow's shards, so many, take letters in again. One at a time.
    pub fn replay(&self, groups: Vec<ReplayGroup>, parts: usize) -> Arc<Replay> {
        let replay = Arc::new(Replay {
            groups,
            parts,
            done: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        });
        let mut newest = self.replays.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Some(replay.clone());
        self.replays.asked.fetch_add(1, Ordering::AcqRel);
        replay
    }

    /// Has the dead letters' file closed and another one begun; what to give
    /// to [`FlowControl::is_set_aside`].
    pub fn set_letters_aside(&self) -> u64 {
        self.replays.asides.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether that has been done.
    #[must_use]
    pub fn is_set_aside(&self, asked: u64) -> bool {
        self.replays.set_aside.load(Ordering::Acquire) >= asked
    }
}

/// What a shard needs to take letters in.
pub(crate) struct Intake {
    pub graph: Graph,
    pub schema: SharedSchema,
    pub keys: Option<Keys>,
    /// By exit: slabs that what comes from outside a cycle leaves free.
    pub spared: Vec<usize>,
    pub me: u16,
    pub shards: usize,
    /// The number of its inlet, and of the last batch.
    pub inlet: u16,
    pub number: u64,
    pub seen: u64,
    pub aside: u64,
    pub current: Option<Box<Current>>,
}

/// A replay under way.
pub(crate) struct Current {
    replay: Arc<Replay>,
    group: usize,
    consumed: usize,
    way: Option<Way>,
}

/// Where the letters of one group go.
struct Way {
    targets: Vec<Target>,
    needs: Vec<usize>,
    decoder: Decoder,
    framer: Framer,
}

impl Intake {
    /// The flow is another version from now on: what is under way, or has been
    /// asked for, stays where it is.
    pub(crate) fn cut(&mut self, control: &FlowControl) {
        let asked = control.replays.newest().filter(|_| self.seen != control.replays.asked());
        let current = self.current.take().map(|current| current.replay);
        for replay in asked.into_iter().chain(current) {
            replay.cut.store(true, Ordering::Release);
        }
    }

    fn way(&self, group: &ReplayGroup) -> Way {
        let targets = self.graph.entered_at(group.component);
        let mut needs = self.graph.needs(&targets);
        for (need, spared) in needs.iter_mut().zip(&self.spared) {
            *need += if *need > 0 { *spared } else { 0 };
        }
        let limits = Limits { frame_bytes: FRAME_BYTES_LIMIT };
        Way {
            targets,
            needs,
            decoder: ringmain_connectors::decoder(&group.decode, &self.schema),
            framer: Framer::new(Framing::U32Be, limits),
        }
    }
}

impl FlowShard {
    /// Whether letters are on their way in.
    pub(crate) fn is_replaying(&self) -> bool {
        self.intake.current.is_some()
    }

    /// Takes letters in again, if there are any.
    pub(crate) fn run_replay(&mut self, now: Now) -> usize {
        let asked = self.control.replays.asked();
        if self.intake.seen != asked {
            self.intake.seen = asked;
            let replay = self.control.replays.newest();
            let current = |replay| Box::new(Current { replay, group: 0, consumed: 0, way: None });
            self.intake.current = replay.map(current);
        }
        let Some(mut current) = self.intake.current.take() else { return 0 };
        if self.stopping || self.operators_ended || self.exits_drained {
            current.replay.cut.store(true, Ordering::Release);
            return 1;
        }
        // The state that is being saved is that of a moment.
        let aligning = self.checkpoints.as_ref().is_some_and(Checkpoints::is_aligning);
        let mut work = 0;
        for _ in 0..if aligning { 0 } else { BATCHES_PER_TURN } {
            match self.replay_batch(&mut current, now) {
                Some(rows) => work += rows,
                None => break,
            }
        }
        let number = self.intake.number;
        let read = current.group == current.replay.groups.len();
        if read && self.exits.position(self.intake.inlet, number) >= number {
            current.replay.done.fetch_add(1, Ordering::AcqRel);
            return work + 1;
        }
        self.intake.current = Some(current);
        work
    }

    /// One batch; `None` when there is no more to do now.
    fn replay_batch(&mut self, current: &mut Current, now: Now) -> Option<usize> {
        let replay = current.replay.clone();
        let group = replay.groups.get(current.group)?;
        let intake = &mut self.intake;
        if current.way.is_none() {
            current.way = Some(intake.way(group));
        }
        let way = current.way.as_mut()?;
        if !self.exits.admit(&way.needs, now) {
            return None;
        }
        self.exits.begin(intake.inlet, intake.number + 1, now);
        let source = intake.graph.is_source(group.component).then_some(group.component);
        self.exits.dead.source = source;
        // What is refused here is refused by every shard: one of them says so.
        let (says, cells, dead) =
            (intake.me == 0, &self.cells[group.component], &mut self.exits.dead);
        let mut refused = |letter: ringmain_codec::Refused<'_>| {
            if says {
                cells.rows_in.add(1);
                cells.refuse(letter.reason);
                let (detail, origin) = (letter.detail, ("", 0));
                dead.bytes(group.component, letter.frame, origin, letter.reason, detail, now);
            }
        };
        let rest = &group.bytes[current.consumed..];
        let slab = &mut self.spare;
        let progress = way.decoder.feed(&mut way.framer, rest, slab, now.wall_us, &mut refused);
        current.consumed += progress.consumed;
        if let Some(keys) = &intake.keys {
            keys.hash(slab);
            slab.retain(|row| owns(intake.me, intake.shards, row, keys.count));
        }
        if source.is_some() && self.exits.taps.is_open() {
            self.exits.passed(group.component, slab);
        }
        self.exits.refused = 0;
        self.chain.run(&way.targets, slab, now, &mut self.exits);
        let again = self.exits.refused + if says { progress.refused } else { 0 };
        replay.refused.fetch_add(again, Ordering::AcqRel);
        self.exits.end();
        intake.number += 1;
        if current.consumed == group.bytes.len() {
            (current.group, current.consumed, current.way) = (current.group + 1, 0, None);
        }
        Some(1)
    }

    /// Has the dead letters' sink begin another file, when that is asked for.
    pub(crate) fn set_letters_aside(&mut self, io: &mut dyn ringmain_runtime::io::Io, now: Now) {
        let asked = self.control.replays.asides.load(Ordering::Acquire);
        if asked == self.intake.aside {
            return;
        }
        let Some(outlet) = &mut self.dead_outlet else {
            self.intake.aside = asked;
            return;
        };
        if outlet.set_aside(io, &mut self.last_resort, now) {
            self.intake.aside = asked;
            self.control.replays.set_aside.store(asked, Ordering::Release);
        }
    }
}
