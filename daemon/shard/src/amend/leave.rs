//! What leaves: sources before the change, what operators hold back during it,
//! sinks after it.

use ringmain_base::Now;
use ringmain_runtime::io::Io;

use super::{Staged, keeps_letters, same_format};
use crate::control::Phase;
use crate::flow::FlowShard;
use crate::inlet::{RemoteInlet, Stage};
use crate::keep::Former;
use crate::outlet::Outlet;

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
        for at in 0..self.outlets.len() {
            let outlet = &mut self.outlets[at];
            if !outlet.leaves || outlet.left {
                continue;
            }
            let mut done = outlet.is_done();
            if !done && (hurry || outlet.is_hopeless(now)) {
                done = match self.heir(at) {
                    Some(heir) => self.hand_over(at, heir, io, now),
                    None if hurry => {
                        self.control.note_discarded(self.outlets[at].discard());
                        true
                    }
                    None => false,
                };
            }
            if done {
                let outlet = &mut self.outlets[at];
                outlet.close(io);
                outlet.left = true;
                self.gone.push(outlet.owner);
                moved += 1;
            }
        }
        // They stand behind all others, and go together: numbers stay.
        if self.outlets.iter().all(|outlet| outlet.leaves == outlet.left) {
            self.outlets.retain(|outlet| !outlet.left);
        }
        moved += self.begin_successors(io, now);
        let left = self.outlets.iter().any(|outlet| outlet.leaves);
        let wait = self.exits.leaving.iter().any(|exit| !exit.shed.is_handed_over());
        if !left && !wait && self.control.phase() >= Phase::Run {
            self.settling = false;
            self.legacy = !self.exits.leaving.is_empty();
            if self.legacy {
                self.control.begin_legacy();
            }
            self.control.note_settled();
        }
        moved
    }

    /// Opens and lets begin whoever waited for sinks that are gone.
    fn begin_successors(&mut self, io: &mut dyn Io, now: Now) -> usize {
        let (gone, mut moved) = (&self.gone, 0);
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
        moved
    }

    /// Who can send what a sink that leaves does not get rid of.
    fn heir(&self, leaving: usize) -> Option<usize> {
        let owner = self.outlets[leaving].owner;
        let follows = |outlet: &Outlet| outlet.inherits && outlet.after == [owner];
        self.outlets.iter().position(follows)
    }

    /// Gives everything that a sink has, and everything on its way to it, to
    /// its successor. True when that is done.
    fn hand_over(&mut self, from: usize, to: usize, io: &mut dyn Io, now: Now) -> bool {
        let dead = &mut self.exits.dead;
        let Some(estate) = self.outlets[from].bequeath(io, dead, now) else { return false };
        self.control.note_handed_over(self.outlets[to].inherit(estate));
        true
    }

    /// Looks whether successors have emptied the queues that they took over.
    pub(crate) fn settle_legacy(&mut self) {
        self.exits.part();
        if self.exits.leaving.is_empty() {
            self.legacy = false;
            self.control.end_legacy();
        }
    }
}
