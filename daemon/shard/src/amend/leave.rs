//! What leaves: sources before the change, what operators hold back during it,
//! sinks after it.

use ringmain_base::Now;
use ringmain_runtime::io::Io;

use super::{Staged, keeps_letters, same_format};
use crate::control::Phase;
use crate::flow::FlowShard;
use crate::inlet::{RemoteInlet, Stage};
use crate::keep::Former;

/// How long what operators hold back may wait for room when they leave.
const LET_GO_US: u64 = 2_000_000;

impl FlowShard {
    /// Has sources that leave come to their end, when that is wanted; says so
    /// when they have.
    pub(crate) fn part(&mut self, staged: &mut Staged, io: &mut dyn Io, now: Now) {
        if !staged.control.is_parting() || staged.parted {
            return;
        }
        let leaving = &staged.keep.leaving_sources;
        if !staged.parting {
            staged.parting = true;
            let sources = self.sources.iter_mut().filter(|s| leaving.contains(&s.component));
            for inlet in sources {
                let cells = &self.cells[inlet.component];
                inlet.with(io, &mut self.exits.dead, cells, now, |s, _, cx| s.stop(cx));
            }
        }
        let mut sources = self.sources.iter().filter(|s| leaving.contains(&s.component));
        let ended = sources.all(|s| s.stage == Stage::Drained && s.is_settled());
        let mut remotes = self.remotes.iter().filter(|r| leaving.contains(&r.source));
        let acked = |r: &RemoteInlet| r.downstream.acked() == r.downstream.received();
        if ended && remotes.all(|r| r.ended && acked(r)) {
            staged.parted = true;
            staged.control.note_parted();
        }
    }

    /// Has operators that leave give out what they hold back, and dead letters
    /// leave that have gathered; nothing comes in meanwhile. True when there is
    /// no more.
    pub(crate) fn let_go(&mut self, staged: &mut Staged, now: Now) -> bool {
        self.paused = true;
        let (order, until_us) = staged.letting.get_or_insert_with(|| {
            let mut order = self.chain.in_order();
            order.retain(|at| {
                let mut namesakes = staged.keep.operators.iter().enumerate();
                !namesakes.any(|(new, former)| match former {
                    Former::Kept(was) => was == at,
                    Former::Changed(was) if was == at => {
                        let new = staged.operators[new].as_deref();
                        new.is_some_and(|new| same_format(self.chain.operator(*at), new))
                    }
                    _ => false,
                })
            });
            (order, now.mono_us + LET_GO_US)
        });
        while let Some(at) = order.last() {
            if !self.exits.admit(&self.timer_needs, now) {
                return now.mono_us > *until_us;
            }
            self.emitted += 1;
            self.exits.begin(self.timers, self.emitted, now);
            let more = self.chain.on_leave(*at, &mut self.spare, now, &mut self.exits);
            self.exits.end();
            if !more {
                order.pop();
            }
        }
        // Sent by every turn, when there is room.
        let sent = keeps_letters(&staged.keep) || self.exits.dead.is_flushed();
        sent || now.mono_us > *until_us
    }
    /// Lets go of what is left of the version before, when it has come to its
    /// end; successors begin then.
    pub(crate) fn settle_versions(&mut self, io: &mut dyn Io, now: Now) -> usize {
        let hurry = self.control.is_in_a_hurry();
        self.exits.part();
        let mut moved = 0;
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.leaves && !outlet.left) {
            let done = outlet.is_done();
            if !done && hurry {
                self.control.note_discarded(outlet.discard());
            }
            if done || hurry {
                outlet.close(io);
                outlet.left = true;
                self.gone.push(outlet.owner);
                moved += 1;
            }
        }
        let gone = &self.gone;
        // They stand behind all others, and go together: numbers stay.
        if self.outlets.iter().all(|outlet| outlet.leaves == outlet.left) {
            self.outlets.retain(|outlet| !outlet.left);
        }
        if hurry {
            self.exits.leaving.clear();
        }
        for outlet in self.outlets.iter_mut().chain(&mut self.dead_outlet) {
            outlet.after.retain(|owner| !gone.contains(owner));
            if outlet.late && outlet.after.is_empty() {
                outlet.late = false;
                moved += 1;
                if let Err(error) = outlet.open(io, &mut self.exits.dead, now) {
                    let name = &self.control.components[outlet.component];
                    self.control.note_error(format!("{name}: {error}"));
                    // It takes nothing; what is meant for it waits.
                    outlet.after.push(outlet.owner);
                }
            }
        }
        let left = self.outlets.iter().any(|outlet| outlet.leaves);
        if !left && self.exits.leaving.is_empty() && self.control.phase() >= Phase::Run {
            self.settling = false;
            self.control.note_settled();
        }
        moved
    }
}
