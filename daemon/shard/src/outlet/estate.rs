//! What a sink that leaves gives to its successor: the bytes that nobody has
//! accepted, the slab at hand, and its queues, with all that waits in them.
//!
//! Invariants:
//! - What is inherited goes out before the successor's own, in its order.
//! - Its sources are told when the successor has had it accepted: the queues
//!   stay what they were, only their reader is another.
//! - What a broken connection may have taken, or a server without an answer,
//!   goes out again: messages may come twice, at the one and at the other
//!   address, none is lost.
//!
//! Deliberately absent: sinks that make other bytes of their messages
//! (`sinks_hand_over`).

use std::collections::VecDeque;

use ringmain_base::Now;
use ringmain_connectors::{Health, Unsent};
use ringmain_runtime::io::Io;

use super::{Current, Input, Outlet, Pending, Refused};
use crate::dead_letter::DeadLetters;

/// How long a sink that leaves may fail before its successor is asked.
const HOPELESS_US: u64 = 1_000_000;

/// How a sink leaves.
#[derive(Debug, Default)]
pub(super) struct Leave {
    /// Since when, and how many slabs were finished then.
    since: Option<(u64, u64)>,
    retiring: bool,
}

impl Leave {
    pub(super) fn is_retiring(&self) -> bool {
        self.retiring
    }

    /// When it is decided whether it is hopeless.
    pub(super) fn looks_at_us(&self) -> Option<u64> {
        let (since_us, _) = self.since.filter(|_| !self.retiring)?;
        Some(since_us + HOPELESS_US)
    }
}

/// Everything that a sink had.
pub(crate) struct Estate {
    inputs: Vec<Input>,
    current: Option<Current>,
    pending: VecDeque<Pending>,
    refused: Refused,
    unsent: Unsent,
}

impl Outlet {
    /// It is not part of the flow any more, and goes when it has come to its
    /// end.
    pub(crate) fn leave(&mut self, now: Now) {
        self.leaves = true;
        self.leave.since = Some((now.mono_us, self.sink.finished()));
        self.stop();
    }

    /// It fails, and has got rid of nothing for a while.
    pub(crate) fn is_hopeless(&mut self, now: Now) -> bool {
        let Some((since_us, finished)) = self.leave.since else { return false };
        if self.leave.retiring || now.mono_us < since_us + HOPELESS_US {
            return self.leave.retiring;
        }
        let fails = !matches!(self.sink.health(), Health::Good);
        let stands = fails && self.sink.finished() == finished;
        // Looked at again later, whoever asks now.
        self.leave.since = Some((now.mono_us, self.sink.finished()));
        stands
    }

    /// Gives up everything that it has. To be called until there is something:
    /// what is being written comes back first.
    pub(crate) fn bequeath(
        &mut self,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
    ) -> Option<Estate> {
        self.leave.retiring = true;
        let retired =
            self.scoped(io, |outlet, io| outlet.with(io, dead, now, |sink, cx| sink.retire(cx)));
        if !retired {
            return None;
        }
        self.account();
        let unsent = self.sink.take_unsent()?;
        let given = self.pending.iter().filter(|p| matches!(p, Pending::Pushed { .. })).count();
        debug_assert_eq!(given as u64, unsent.slabs(), "each slab that it has is accounted for");
        Some(Estate {
            inputs: std::mem::take(&mut self.inputs),
            current: self.current.take(),
            pending: std::mem::take(&mut self.pending),
            refused: std::mem::take(&mut self.refused),
            unsent,
        })
    }

    /// Goes on with what another leaves, before it begins with its own; how
    /// many messages that one had begun with.
    pub(crate) fn inherit(&mut self, estate: Estate) -> u64 {
        let Estate { inputs, current, pending, refused, unsent } = estate;
        debug_assert!(self.pending.is_empty() && self.current.is_none(), "it has not begun");
        let at_hand = current.as_ref().map_or(0, |current| current.slab.len() as u64);
        let rows = at_hand + pending.iter().map(Pending::rows).sum::<u64>();
        let (offset, last) = (self.inputs.len(), inputs.iter().map(|input| input.rank).max());
        for input in &mut self.inputs {
            input.rank += last.unwrap_or(0) + 1;
        }
        for mut input in inputs {
            input.inherited = true;
            input.shed.hand_over();
            input.downstream.nudge();
            self.inputs.push(input);
        }
        self.current = current.map(|current| Current { input: current.input + offset, ..current });
        self.pending = pending.into_iter().map(|pending| pending.moved(offset)).collect();
        self.refused = refused;
        self.sink.inherit(unsent);
        rows
    }

    /// What comes first now: inherited queues, until they have come to their
    /// end.
    pub(super) fn rank_at_hand(&self) -> u32 {
        let open = self.inputs.iter().filter(|input| !input.is_over());
        open.map(|input| input.rank).min().unwrap_or(u32::MAX)
    }

    /// Lets go of inherited queues that have come to their end.
    pub(super) fn drop_empty_estate(&mut self) {
        let is_empty = |input: &Input| {
            input.inherited && input.is_over() && input.finished == input.downstream.received()
        };
        while let Some(at) = self.inputs.iter().position(is_empty) {
            self.inputs.remove(at);
            let behind = |input: &mut usize| *input -= usize::from(*input > at);
            self.current.iter_mut().for_each(|current| behind(&mut current.input));
            for pending in &mut self.pending {
                let (Pending::Pushed { input, .. } | Pending::Shed(input)) = pending;
                behind(input);
            }
        }
    }
}

impl Input {
    /// Nothing comes any more.
    fn is_over(&self) -> bool {
        self.drained && self.downstream.is_empty()
    }
}

impl Pending {
    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Pushed { rows, .. } => *rows,
            Self::Shed(_) => 0,
        }
    }

    fn moved(self, offset: usize) -> Self {
        match self {
            Self::Pushed { input, rows } => Self::Pushed { input: input + offset, rows },
            Self::Shed(input) => Self::Shed(input + offset),
        }
    }
}
