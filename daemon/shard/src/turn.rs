//! A shard: all flows' parts on one core, and one bounded turn over them.
//!
//! Flows come and go while it runs: parts arrive through an inlet that is
//! looked at once a turn, and a flow that has ended on all its shards, or was
//! aborted, is taken out with its memory and whatever it has open.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use ringmain_base::Now;
use ringmain_connectors::Health;
use ringmain_ring::Doorbell;
use ringmain_runtime::io::{Event, Io};
use ringmain_runtime::{Next, Turn};

use crate::amend::{Refusal, Staged, stage};
use crate::assembly::{Owners, assemble};
use crate::control::Phase;
use crate::flow::{FlowShard, Owner};
use crate::scoped::dispose;
use crate::wiring::FlowParts;

/// Events that one turn takes up.
const EVENTS_PER_TURN: usize = 1024;

/// How often the connectors' health is reported, in microseconds.
const HEALTH_EVERY_US: u64 = 100_000;

/// How long a shard sleeps at most, so that it notices what the controller
/// wants without being rung for.
const NAP_US: u64 = 250_000;

/// The flow of an owner whose flow is gone: its last events may still come.
/// Owners' numbers are not given out again, which costs 16 bytes for each
/// connector of a flow that was ever here.
const GONE: usize = usize::MAX;

/// A flow, and the version that stands by to take its place.
struct Place {
    flow: FlowShard,
    staged: Option<Box<Staged>>,
    opened: bool,
    /// Shards with a part of the flow.
    parts: usize,
}

impl Place {
    /// It has ended here and everywhere else, where its other ends are.
    fn is_over(&self) -> bool {
        self.flow.done && self.flow.control.ended() >= self.parts
    }
}

/// One core's flows.
pub struct Shard {
    /// Places of flows that are gone are taken by new ones.
    flows: Vec<Option<Place>>,
    owners: Vec<(usize, Owner)>,
    inlet: Option<Receiver<FlowParts>>,
    bell: Doorbell,
    events: Vec<Event>,
    health_at_us: u64,
    /// A flow is new until then.
    watch_until_us: u64,
    /// As it was when the last turn began.
    pulse: u64,
}

impl Shard {
    /// Builds the flows' parts of this shard; they open in the first turn.
    /// What cannot be built is reported like what cannot be opened.
    #[must_use]
    pub fn new(parts: Vec<FlowParts>, bell: Doorbell) -> Self {
        let mut shard = Self {
            flows: Vec::new(),
            owners: Vec::new(),
            inlet: None,
            bell,
            events: Vec::with_capacity(EVENTS_PER_TURN),
            health_at_us: 0,
            watch_until_us: 0,
            pulse: 0,
        };
        parts.into_iter().for_each(|parts| shard.add(parts));
        shard
    }

    /// With an inlet for further flows. The shard lives as long as its other
    /// end, also without flows. Whoever sends wakes the shard.
    #[must_use]
    pub fn with_inlet(mut self, inlet: Receiver<FlowParts>) -> Self {
        self.inlet = Some(inlet);
        self
    }

    fn add(&mut self, parts: FlowParts) {
        let control = parts.control.clone();
        let count = usize::from(parts.place.shards);
        let at = self.flows.iter().position(Option::is_none).unwrap_or(self.flows.len());
        let first = self.owners.len();
        let mut owners = Owners { flow: at, table: &mut self.owners };
        match assemble(parts, &mut owners) {
            Ok(flow) => {
                let place = Some(Place { flow, staged: None, opened: false, parts: count });
                match self.flows.get_mut(at) {
                    Some(free) => *free = place,
                    None => self.flows.push(place),
                }
            }
            Err(error) => {
                self.owners.truncate(first);
                control.note_opened(Err(error));
                // Nothing of it is here that could end later.
                control.note_ended();
                control.note_removed();
            }
        }
    }

    /// Has a version stand by for a flow that is here.
    fn amend(&mut self, mut parts: FlowParts, io: &mut dyn Io, now: Now) {
        let Some(amends) = parts.amends.take() else { return };
        let control = parts.control.clone();
        let of = |place: &Option<Place>| {
            place.as_ref().is_some_and(|place| Arc::ptr_eq(&place.flow.control, &amends.control))
        };
        let first = self.owners.len();
        let at = self.flows.iter().position(of);
        let staged = match at.and_then(|at| Some((at, self.flows[at].as_mut()?))) {
            Some((at, place)) => {
                let mut owners = Owners { flow: at, table: &mut self.owners };
                let staged = stage(&mut place.flow, parts, amends, &mut owners, io, now);
                staged.map(|staged| {
                    place.flow.held = true;
                    place.staged = Some(Box::new(staged));
                })
            }
            None => Err(Refusal::Unfit("it is not there any more".into())),
        };
        match staged {
            Ok(()) => return control.note_opened(Ok(())),
            Err(Refusal::Unfit(why)) => control.note_unfit(why),
            Err(Refusal::Failed(error)) => control.note_opened(Err(error)),
        }
        // Events of what was opened may be under way: the numbers stay.
        self.owners[first..].iter_mut().for_each(|(flow, _)| *flow = GONE);
        control.note_ended();
        control.note_removed();
    }

    /// One flow a turn: building it compiles its scripts.
    fn take_flow(&mut self, io: &mut dyn Io, now: Now) -> bool {
        let Some(inlet) = &self.inlet else { return false };
        match inlet.try_recv() {
            Ok(parts) if parts.amends.is_some() => {
                self.amend(parts, io, now);
                true
            }
            Ok(parts) => {
                self.add(parts);
                true
            }
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => {
                self.inlet = None;
                false
            }
        }
    }

    fn open(&mut self, io: &mut dyn Io, now: Now) -> usize {
        let mut opened = 0;
        for place in self.flows.iter_mut().flatten().filter(|place| !place.opened) {
            let Place { flow, opened: done, .. } = place;
            let result = flow.open(io, now);
            flow.control.note_opened(result);
            *done = true;
            opened += 1;
            // The first trouble that it has is told at once.
            self.watch_until_us = now.mono_us + HEALTH_EVERY_US;
        }
        opened
    }

    fn take_events(&mut self, io: &mut dyn Io, now: Now) -> usize {
        io.poll(&mut self.events, EVENTS_PER_TURN);
        let count = self.events.len();
        for event in self.events.drain(..) {
            let (flow, owner) = self.owners[event.op.owner as usize];
            match self.flows.get_mut(flow).and_then(Option::as_mut) {
                Some(Place { flow, staged, .. }) => match (owner, staged) {
                    (
                        Owner::StagedSource(_) | Owner::StagedOutlet(_) | Owner::StagedDead,
                        Some(staged),
                    ) => {
                        staged.on_event(owner, event.op.tag, event.kind, io, now);
                    }
                    _ => flow.on_event(owner, event.op.tag, event.kind, io, now),
                },
                None => dispose(event.kind, io),
            }
        }
        count
    }

    /// Turns of all flows: what was done, and whether any is still at work.
    fn run(&mut self, io: &mut dyn Io, now: Now) -> (usize, bool) {
        let (mut work, mut running) = (0, false);
        for at in 0..self.flows.len() {
            work += self.tend_staged(at, io, now);
            let Some(place) = &mut self.flows[at] else { continue };
            let phase = place.flow.control.phase();
            if phase == Phase::Abort || place.is_over() {
                self.remove(at, io);
                work += 1;
                continue;
            }
            let Place { flow, .. } = place;
            if flow.done {
                continue;
            }
            running = true;
            if phase == Phase::Open {
                continue;
            }
            work += flow.turn(io, now);
            for owner in flow.gone.drain(..) {
                self.owners[owner as usize].0 = GONE;
            }
            if flow.done {
                flow.control.note_health(flow.health());
                flow.control.note_ended();
            }
        }
        (work, running)
    }

    /// Goes on with the version that stands by for a flow.
    fn tend_staged(&mut self, at: usize, io: &mut dyn Io, now: Now) -> usize {
        let Some(place) = &mut self.flows[at] else { return 0 };
        let Some(staged) = &mut place.staged else { return 0 };
        let wanted = staged.control.phase();
        if wanted == Phase::Abort || place.flow.control.phase() > Phase::Run {
            self.unstage(at, io);
            return 1;
        }
        if wanted == Phase::Open {
            place.flow.part(staged, io, now);
            return 0;
        }
        if !place.flow.let_go(staged, now) {
            return 0;
        }
        let Some(staged) = place.staged.take() else { return 0 };
        let mut owners = Owners { flow: at, table: &mut self.owners };
        place.flow.take_over(*staged, &mut owners, io, now);
        // The first trouble that it has is told at once.
        self.watch_until_us = now.mono_us + HEALTH_EVERY_US;
        1
    }

    /// Forgets the version that stands by for a flow.
    #[cold]
    fn unstage(&mut self, at: usize, io: &mut dyn Io) {
        let Some(place) = &mut self.flows[at] else { return };
        let Some(mut staged) = place.staged.take() else { return };
        for owner in staged.close(io) {
            self.owners[owner as usize].0 = GONE;
        }
        (place.flow.held, place.flow.paused) = (false, false);
        staged.control.note_ended();
        staged.control.note_removed();
    }

    /// Takes a flow out: what it has open is closed, its memory is free.
    #[cold]
    fn remove(&mut self, at: usize, io: &mut dyn Io) {
        self.unstage(at, io);
        let Some(mut place) = self.flows[at].take() else { return };
        place.flow.close(io);
        for (flow, _) in self.owners.iter_mut().filter(|(flow, _)| *flow == at) {
            *flow = GONE;
        }
        let (control, ended) = (place.flow.control.clone(), place.flow.done);
        drop(place);
        if !ended {
            control.note_ended();
        }
        control.note_removed();
    }

    fn report_health(&mut self, now: Now) {
        let flows = || self.flows.iter().flatten();
        let mut health = flows().flat_map(|place| place.flow.health());
        let is_new = now.mono_us < self.watch_until_us;
        if is_new && health.any(|(_, health)| health != Health::Good) {
            (self.health_at_us, self.watch_until_us) = (0, 0);
        }
        if now.mono_us >= self.health_at_us {
            self.health_at_us = now.mono_us + HEALTH_EVERY_US;
            for place in self.flows.iter().flatten() {
                place.flow.control.note_health(place.flow.health());
            }
        }
    }

    fn pulse_now(&self) -> u64 {
        let flows = self.flows.iter().flatten().map(|place| place.flow.pulse());
        flows.fold(0, u64::wrapping_add)
    }

    fn wake_in_us(&self, now: Now) -> u64 {
        let flows = self.flows.iter().flatten().map(|place| &place.flow);
        let wakes = flows.filter(|flow| !flow.done).filter_map(FlowShard::wake_at_us);
        let next = wakes.min().map_or(NAP_US, |at| at.saturating_sub(now.mono_us));
        next.min(NAP_US)
    }
}

impl Turn for Shard {
    fn turn(&mut self, io: &mut dyn Io, now: Now) -> Next {
        let added = self.take_flow(io, now);
        if self.open(io, now) > 0 {
            return Next::Busy;
        }
        self.pulse = self.pulse_now();
        let mut work = self.take_events(io, now) + usize::from(added);
        let (done, running) = self.run(io, now);
        work += done;
        self.report_health(now);
        match (running || self.inlet.is_some(), work) {
            (false, _) => Next::Stop,
            (true, 0) => Next::Idle { wake_in_us: Some(self.wake_in_us(now)) },
            (true, _) => Next::Busy,
        }
    }

    fn prepare_park(&mut self) -> bool {
        self.bell.arm();
        self.has_news()
    }

    fn has_news(&self) -> bool {
        self.pulse != self.pulse_now()
    }

    fn unpark(&mut self) {
        self.bell.disarm();
    }
}
