//! One flow on one shard: inlets, chain, exits, outlets, and the turn that
//! moves batches through them.

use std::sync::Arc;
use std::time::Instant;

use ringmain_base::Now;
use ringmain_connectors::{Health, Pull};
use ringmain_metrics::Cells;
use ringmain_ops::chain::{Chain, Outside, Trouble};
use ringmain_ring::{Item, Marker, Span};
use ringmain_runtime::io::{EventKind, Io};
use ringmain_slab::Slab;

use crate::checkpoint::Checkpoints;
use crate::control::{FlowControl, Phase, ScriptReport};
use crate::dead_letter::DeadLetters;
use crate::exchange::Exchange;
use crate::exits::Exits;
use crate::inlet::{LoopInlet, RemoteInlet, SourceInlet, Stage};
use crate::outlet::Outlet;
use crate::replay::Intake;

/// Batches that one inlet may run per turn.
const BATCHES_PER_TURN: usize = 8;

/// The inlet number under which a sink's own dead letters are sent: nothing
/// waits for their acknowledgement.
pub(crate) const SINK_LETTERS: u16 = u16::MAX;

/// Who an operation of the shard's `Io` belongs to, within a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    Source(usize),
    Outlet(usize),
    /// The same, of a version that has not taken over yet.
    StagedSource(usize),
    StagedOutlet(usize),
    StagedDead,
    DeadOutlet,
}

/// A flow on a shard.
pub(crate) struct FlowShard {
    pub control: Arc<FlowControl>,
    pub cells: Arc<[Arc<Cells>]>,
    pub sources: Vec<SourceInlet>,
    pub remotes: Vec<RemoteInlet>,
    pub loops: Vec<LoopInlet>,
    pub chain: Chain,
    pub exits: Exits,
    pub outlets: Vec<Outlet>,
    /// The sink of the dead letters, on the flow's home shard.
    pub dead_outlet: Option<Outlet>,
    /// Takes what the dead letters' sink itself refuses.
    pub last_resort: DeadLetters,
    pub sinks: usize,
    /// Empty between batches.
    pub spare: Slab,
    pub timer_needs: Vec<usize>,
    pub stopping: bool,
    pub operators_ended: bool,
    pub exits_drained: bool,
    pub dead_drained: bool,
    pub done: bool,
    pub letters: u64,
    pub shard: u16,
    /// The newest version of any script that was taken up.
    pub scripts_seen: u64,
    /// Set when the flow keeps state and there is a place for it.
    pub checkpoints: Option<Checkpoints>,
    /// The inlet of what timers emit, and the last batch of it.
    pub timers: u16,
    pub emitted: u64,
    /// A checkpoint cannot begin before rows that wait have found room; no new
    /// batch comes before it.
    pub checkpoint_wanted: bool,
    /// Dead letters that go in again.
    pub intake: Intake,
    /// The number of the next inlet.
    pub inlets: u16,
    /// Another version stands by: the flow does not come to its end.
    pub held: bool,
    /// Nothing comes into the chain: another version is about to take over.
    pub paused: bool,
    /// Something of the version before is left.
    pub settling: bool,
    /// Queues of the version before are still being emptied by the successors
    /// of their sinks.
    pub legacy: bool,
    /// Owners' numbers of connectors that are gone.
    pub gone: Vec<u32>,
    /// Checkpoints up to here are void.
    pub floor: u64,
}

impl FlowShard {
    /// Opens sinks, then sources.
    pub(crate) fn open(&mut self, io: &mut dyn Io, now: Now) -> Result<(), String> {
        let name = &self.control.components;
        let at = |component: usize, error| format!("{}: {error}", name[component]);
        if let Some(outlet) = &mut self.dead_outlet {
            let result = outlet.open(io, &mut self.last_resort, now);
            result.map_err(|e| at(outlet.component, e))?;
        }
        for outlet in &mut self.outlets {
            outlet.open(io, &mut self.exits.dead, now).map_err(|e| at(outlet.component, e))?;
        }
        for inlet in &mut self.sources {
            let cells = &self.cells[inlet.component];
            let result = inlet.with(io, &mut self.exits.dead, cells, now, |s, _, cx| s.open(cx));
            result.map_err(|e| at(inlet.component, e))?;
        }
        for (operator, code) in self.chain.code_versions() {
            self.control.note_code(operator, code, now.wall_us);
        }
        Ok(())
    }

    pub(crate) fn on_event(
        &mut self,
        owner: Owner,
        tag: u32,
        event: EventKind,
        io: &mut dyn Io,
        now: Now,
    ) {
        let dead = &mut self.exits.dead;
        match owner {
            Owner::Source(at) => {
                let inlet = &mut self.sources[at];
                inlet.holdings.note(&event);
                let cells = &self.cells[inlet.component];
                inlet.with(io, dead, cells, now, |s, _, cx| s.on_event(tag, event, cx));
            }
            Owner::Outlet(at) => self.outlets[at].on_event(tag, event, io, dead, now),
            Owner::DeadOutlet => {
                if let Some(outlet) = &mut self.dead_outlet {
                    outlet.on_event(tag, event, io, &mut self.last_resort, now);
                }
            }
            // The version that stands by has them.
            Owner::StagedSource(_) | Owner::StagedOutlet(_) | Owner::StagedDead => {}
        }
    }

    /// One bounded turn; returns how much was done.
    pub(crate) fn turn(&mut self, io: &mut dyn Io, now: Now) -> usize {
        if self.control.phase() == Phase::Drain && !self.stopping {
            self.stop(io, now);
        }
        if self.control.newest_script() != self.scripts_seen {
            self.replace_scripts(now.wall_us);
        }
        if self.control.taps.version() != self.exits.taps.version() {
            self.exits.taps.update(&self.control.taps);
            self.chain.watch(self.exits.taps.is_open());
        }
        let mut work = if self.paused { 0 } else { self.run_inlets(io, now) };
        self.set_letters_aside(io, now);
        work += self.run_outlets(io, now);
        self.flush_letters(now);
        self.account(io, now);
        self.exits.settle(now);
        if self.settling {
            work += self.settle_versions(io, now);
        } else if self.legacy {
            self.settle_legacy();
        }
        work + self.advance_end(now)
    }

    fn run_inlets(&mut self, io: &mut dyn Io, now: Now) -> usize {
        let mut work = self.begin_checkpoint(now);
        work += self.run_sources(io, now);
        work += self.run_remotes(BATCHES_PER_TURN, now);
        work += self.align_checkpoint();
        work += self.run_loops(now);
        work += self.run_timers(now);
        work + self.run_replay(now)
    }

    /// Closes everything that it has open.
    pub(crate) fn close(&mut self, io: &mut dyn Io) {
        self.sources.iter_mut().for_each(|inlet| inlet.holdings.close(io));
        self.outlets.iter_mut().chain(&mut self.dead_outlet).for_each(|outlet| outlet.close(io));
    }

    /// When the flow wants a turn though nothing happens.
    pub(crate) fn wake_at_us(&self) -> Option<u64> {
        // Nothing runs before new code comes, with which the flow is woken.
        let open = !self.exits.blocked;
        let sources = self.sources.iter().filter(|s| open && s.stage == Stage::Running);
        let sources = sources.filter_map(|s| s.source.wake_at_us());
        let timers = self.chain.timer_at_us().filter(|_| open);
        let lanes = self.sources.iter().filter_map(|s| s.exchange.as_ref()?.wake_at_us());
        let outlets = self.outlets.iter().chain(&self.dead_outlet);
        let outlets = outlets.filter_map(Outlet::wake_at_us);
        sources.chain(lanes).chain(outlets).chain(timers).min()
    }

    /// A number that changes when something arrives, or credit or an ack comes
    /// back. Compared between the beginning of a turn that did nothing and the
    /// moment before parking: what was there in vain then is no reason to stay
    /// awake, what has come since is.
    pub(crate) fn pulse(&self) -> u64 {
        let lanes = self.sources.iter().filter_map(|s| s.exchange.as_ref()).map(Exchange::pulse);
        let outlets = self.outlets.iter().chain(&self.dead_outlet).map(Outlet::waiting);
        let remotes = self.remotes.iter().filter(|r| !r.downstream.is_empty()).count();
        let waiting = outlets.sum::<usize>() + remotes;
        lanes.fold(self.exits.pulse(), u64::wrapping_add).wrapping_add((waiting as u64) << 40)
    }

    /// How its components are doing.
    pub(crate) fn health(&self) -> impl Iterator<Item = (usize, Health)> {
        let sources = self.sources.iter().map(|s| (s.component, s.source.health()));
        let outlets = self.outlets.iter().chain(&self.dead_outlet);
        let health = |trouble: Option<Trouble>| match trouble {
            None => Health::Good,
            Some(Trouble::Failing(why)) => Health::Retrying(why),
            Some(Trouble::Failed(why)) => Health::Failed(why),
        };
        let operators = self.chain.troubles().map(move |(at, trouble)| (at, health(trouble)));
        let outlets = outlets.filter(|o| !o.leaves).map(|o| (o.component, o.health()));
        sources.chain(operators).chain(outlets)
    }

    fn stop(&mut self, io: &mut dyn Io, now: Now) {
        self.stopping = true;
        self.outlets.iter_mut().for_each(Outlet::stop);
        for inlet in &mut self.sources {
            let cells = &self.cells[inlet.component];
            inlet.with(io, &mut self.exits.dead, cells, now, |s, _, cx| s.stop(cx));
        }
    }

    /// Swaps in new versions of scripts. Between batches, so no message sees
    /// half of one.
    #[cold]
    fn replace_scripts(&mut self, wall_us: i64) {
        for script in self.control.scripts_since(self.scripts_seen) {
            let start = Instant::now();
            let result = self.chain.reload(script.operator, &script.code);
            let swap_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            let (shard, operator, version) = (self.shard, script.operator, script.version);
            let code = self.chain.code_version(operator);
            let report = ScriptReport { shard, operator, version, swap_us, code, result };
            self.control.report_script(report, wall_us);
            self.scripts_seen = version;
        }
        self.exits.blocked = self.chain.is_blocked();
    }

    fn run_sources(&mut self, io: &mut dyn Io, now: Now) -> usize {
        let mut work = 0;
        if self.checkpoints.as_ref().is_some_and(Checkpoints::is_aligning) {
            return 0;
        }
        for at in 0..self.sources.len() {
            for _ in 0..BATCHES_PER_TURN {
                match self.run_source(at, io, now) {
                    Some(done) => work += done,
                    None => break,
                }
                // A batch for a batch: what comes from other shards is taken
                // as fast as they are sent to, and no lane runs full.
                work += self.run_remotes(1, now);
            }
            let inlet = &mut self.sources[at];
            if let Some(exchange) = &mut inlet.exchange {
                exchange.flush(inlet.id, false, now);
            }
        }
        work
    }

    /// One batch of a source; `None` when there is no more to do now.
    fn run_source(&mut self, at: usize, io: &mut dyn Io, now: Now) -> Option<usize> {
        let inlet = &mut self.sources[at];
        if inlet.stuck {
            return self.run_stuck(at, now);
        }
        if inlet.stage != Stage::Running
            || self.checkpoint_wanted
            || !self.exits.admit(&inlet.needs, now)
            || inlet.exchange.as_mut().is_some_and(|exchange| !exchange.admits(now))
        {
            return None;
        }
        self.exits.begin(inlet.id, inlet.number + 1, now);
        let cells = &self.cells[inlet.component];
        let (pull, rows) = inlet.pull(io, &mut self.exits.dead, cells, now);
        if rows > 0 {
            if self.exits.taps.is_open() {
                self.exits.passed(inlet.component, &inlet.work);
            }
            self.chain.run_through(&inlet.front, &mut inlet.work, now, &mut self.exits);
            if let Some(exchange) = &inlet.exchange {
                exchange.hash(&mut inlet.work);
            }
            self.scatter(at, now);
        }
        self.exits.end();
        match pull {
            Pull::More => Some(rows),
            Pull::Idle | Pull::Ended => None,
        }
    }

    /// A batch of which rows wait for room on the way to another shard.
    fn run_stuck(&mut self, at: usize, now: Now) -> Option<usize> {
        let inlet = &self.sources[at];
        if !self.exits.admit(&inlet.needs, now) {
            return None;
        }
        self.exits.begin(inlet.id, inlet.number, now);
        let inlet = &mut self.sources[at];
        let before = inlet.work.len();
        if std::mem::take(&mut inlet.refront) {
            self.chain.run_through(&inlet.front, &mut inlet.work, now, &mut self.exits);
        }
        self.scatter(at, now);
        self.exits.end();
        let inlet = &self.sources[at];
        (!inlet.stuck).then_some(before)
    }

    /// Sends rows of other shards on their way and runs this shard's.
    fn scatter(&mut self, at: usize, now: Now) {
        let inlet = &mut self.sources[at];
        let Some(exchange) = &mut inlet.exchange else {
            self.chain.run(&inlet.targets, &mut inlet.work, now, &mut self.exits);
            return;
        };
        let retry = inlet.stuck;
        let stuck = exchange.scatter(&mut inlet.work, inlet.id, inlet.number, now);
        inlet.stuck = stuck > 0;
        if stuck == 0 {
            self.chain.run(&inlet.targets, &mut inlet.work, now, &mut self.exits);
        } else if !retry {
            // This shard's rows do not wait for other shards. Those that find
            // no memory beside the waiting ones run after them.
            exchange.take_mine(&mut inlet.work, &mut self.spare);
            self.chain.run(&inlet.targets, &mut self.spare, now, &mut self.exits);
        }
    }

    /// So many batches, at most, from each exchange of another shard.
    fn run_remotes(&mut self, batches: usize, now: Now) -> usize {
        let mut work = 0;
        for inlet in &mut self.remotes {
            for _ in 0..batches {
                if inlet.barred
                    || inlet.ahead
                    || inlet.downstream.is_empty()
                    || !self.exits.admit(&inlet.needs, now)
                {
                    break;
                }
                work += 1;
                match inlet.downstream.recv() {
                    Some(Item::Slab { mut slab, .. }) => {
                        // The empty one goes back at once: credit for the
                        // other shard while this batch runs.
                        std::mem::swap(&mut slab, &mut self.spare);
                        inlet.downstream.give_back(slab);
                        self.exits.begin(inlet.id, inlet.downstream.received(), now);
                        let targets = if inlet.behind { &inlet.whole } else { &inlet.targets };
                        self.chain.run(targets, &mut self.spare, now, &mut self.exits);
                        self.exits.end();
                    }
                    Some(Item::Marker(Marker::Drain)) => inlet.ended = true,
                    Some(Item::Marker(Marker::Barrier(epoch))) => {
                        inlet.barred = epoch > self.floor;
                    }
                    Some(Item::Marker(Marker::Version(version))) => {
                        inlet.behind &= version < self.control.version;
                        inlet.ahead = version > self.control.version;
                    }
                    Some(Item::Marker(_)) | None => {}
                }
            }
        }
        work
    }

    fn run_loops(&mut self, now: Now) -> usize {
        let mut work = 0;
        for inlet in &mut self.loops {
            if self.exits.exits[inlet.exit].shed.take_shed() {
                work += shed(inlet, &self.exits);
            }
            // What waits at the beginning of the turn, no more: what comes
            // back meanwhile is for the next one.
            for _ in 0..BATCHES_PER_TURN {
                if inlet.downstream.is_empty() || !self.exits.admit(&inlet.needs, now) {
                    break;
                }
                let Some(Item::Slab { mut slab, .. }) = inlet.downstream.recv() else { continue };
                std::mem::swap(&mut slab, &mut self.spare);
                inlet.downstream.give_back(slab);
                // Acknowledgements end at the way back.
                inlet.downstream.ack(inlet.downstream.received());
                self.exits.begin(inlet.id, inlet.downstream.received(), now);
                self.chain.run(&inlet.targets, &mut self.spare, now, &mut self.exits);
                self.exits.end();
                work += 1;
            }
        }
        work
    }

    fn run_timers(&mut self, now: Now) -> usize {
        let due = self.chain.timer_at_us().is_some_and(|at| at <= now.mono_us);
        if !due
            || self.operators_ended
            || self.exits_drained
            || !self.exits.admit(&self.timer_needs, now)
        {
            return 0;
        }
        self.emitted += 1;
        self.exits.begin(self.timers, self.emitted, now);
        self.chain.on_timers(&mut self.spare, now, &mut self.exits);
        self.exits.end();
        1
    }

    fn run_outlets(&mut self, io: &mut dyn Io, now: Now) -> usize {
        let mut work = 0;
        let after = self.dead_outlet.as_ref().map_or(&[][..], |outlet| &outlet.after);
        for outlet in &mut self.outlets {
            if after.contains(&outlet.owner) {
                // The dead letters wait for it, so it does not wait for them.
                work += outlet.turn(io, &mut self.last_resort, now);
            } else if self.exits.dead.is_ready(now) {
                // A sink may refuse rows, too: it gets none while their letters
                // could not be kept.
                work += outlet.turn(io, &mut self.exits.dead, now);
            }
        }
        if let Some(outlet) = &mut self.dead_outlet {
            work += outlet.turn(io, &mut self.last_resort, now);
        }
        work
    }

    fn flush_letters(&mut self, now: Now) {
        if !self.exits.dead.is_flushed() {
            self.letters += 1;
            let span = Span { first: self.letters, last: self.letters };
            self.exits.flush_letters(SINK_LETTERS, span, now);
        }
    }

    /// The end of the flow moves from sources to sinks, stage by stage.
    fn advance_end(&mut self, now: Now) -> usize {
        let mut moved = 0;
        for inlet in &mut self.sources {
            if inlet.stage == Stage::Ended && !inlet.stuck {
                let told = inlet.exchange.as_mut().is_none_or(|e| e.drain(inlet.id, now));
                if told {
                    inlet.stage = Stage::Drained;
                    moved += 1;
                }
            }
        }
        if !self.held && !self.exits_drained && self.is_quiet() && self.end_operators(now) {
            self.exits_drained = self.exits.drain(self.sinks);
            moved += usize::from(self.exits_drained);
        }
        if self.exits_drained && !self.dead_drained && self.outlets.iter().all(Outlet::is_done) {
            self.dead_drained = self.drain_letters();
            moved += usize::from(self.dead_drained);
        }
        let dead_done = self.dead_outlet.as_ref().is_none_or(Outlet::is_done);
        if self.dead_drained && dead_done && self.is_acknowledged() {
            moved += self.end_checkpoints();
            self.done = self.checkpoints.as_ref().is_none_or(Checkpoints::is_ended)
                && self.sources.iter().all(SourceInlet::is_settled);
        }
        moved
    }

    /// Lets operators give out what they hold back, unless a checkpoint takes
    /// it to the next run. True when that is done.
    fn end_operators(&mut self, now: Now) -> bool {
        let kept = self.stopping && self.checkpoints.is_some();
        while !self.operators_ended && !kept {
            if !self.exits.admit(&self.timer_needs, now) {
                return false;
            }
            self.emitted += 1;
            self.exits.begin(self.timers, self.emitted, now);
            self.operators_ended = self.chain.on_end(&mut self.spare, now, &mut self.exits);
            self.exits.end();
        }
        // What was sent round a cycle comes back first.
        self.is_quiet()
    }

    /// Nothing more can come into the chain.
    fn is_quiet(&mut self) -> bool {
        self.sources.iter().all(|s| s.stage == Stage::Drained)
            && self.remotes.iter().all(|r| r.ended)
            && self.loops.iter().all(|l| l.downstream.is_empty())
            && !self.is_replaying()
    }

    fn drain_letters(&mut self) -> bool {
        if !self.exits.dead.is_flushed() {
            return false;
        }
        let Some(upstream) = self.exits.dead.upstream() else { return true };
        upstream.send_marker(Marker::Drain).is_ok()
    }
}

/// Discards the oldest batch on the way back.
fn shed(inlet: &mut LoopInlet, exits: &Exits) -> usize {
    let Some(Item::Slab { mut slab, .. }) = inlet.downstream.recv() else { return 0 };
    let cells = &exits.cells[exits.exits[inlet.exit].component];
    cells.rows_in.add(slab.len() as u64);
    cells.dropped_full.add(slab.len() as u64);
    slab.clear();
    inlet.downstream.give_back(slab);
    inlet.downstream.ack(inlet.downstream.received());
    1
}
