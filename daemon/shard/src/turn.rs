//! A shard: all flows' parts on one core, and one bounded turn over them.

use ringmain_base::Now;
use ringmain_ring::Doorbell;
use ringmain_runtime::io::{Event, Io};
use ringmain_runtime::{Next, Turn};

use crate::assembly::{Owners, assemble};
use crate::control::Phase;
use crate::flow::{FlowShard, Owner};
use crate::wiring::FlowParts;

/// Events that one turn takes up.
const EVENTS_PER_TURN: usize = 1024;

/// How often the connectors' health is reported, in microseconds.
const HEALTH_EVERY_US: u64 = 100_000;

/// How long a shard sleeps at most, so that it notices what the controller
/// wants without being rung for.
const NAP_US: u64 = 250_000;

/// One core's flows.
pub struct Shard {
    flows: Vec<FlowShard>,
    owners: Vec<(usize, Owner)>,
    bell: Doorbell,
    events: Vec<Event>,
    opened: bool,
    health_at_us: u64,
    /// As it was when the last turn began.
    pulse: u64,
}

impl Shard {
    /// Builds the flows' parts of this shard; they open in the first turn.
    /// What cannot be built is reported like what cannot be opened.
    #[must_use]
    pub fn new(parts: Vec<FlowParts>, bell: Doorbell) -> Self {
        let mut owners = Vec::new();
        let mut flows: Vec<FlowShard> = Vec::new();
        for parts in parts {
            let control = parts.control.clone();
            let mut owners = Owners { flow: flows.len(), table: &mut owners };
            match assemble(parts, &mut owners) {
                Ok(flow) => flows.push(flow),
                Err(error) => control.note_opened(Err(error)),
            }
        }
        Self {
            flows,
            owners,
            bell,
            events: Vec::with_capacity(EVENTS_PER_TURN),
            opened: false,
            health_at_us: 0,
            pulse: 0,
        }
    }

    fn open(&mut self, io: &mut dyn Io, now: Now) {
        for flow in &mut self.flows {
            let result = flow.open(io, now);
            flow.control.note_opened(result);
        }
        self.opened = true;
    }

    fn take_events(&mut self, io: &mut dyn Io, now: Now) -> usize {
        io.poll(&mut self.events, EVENTS_PER_TURN);
        let count = self.events.len();
        for event in self.events.drain(..) {
            let (flow, owner) = self.owners[event.op.owner as usize];
            self.flows[flow].on_event(owner, event.op.tag, event.kind, io, now);
        }
        count
    }

    fn report_health(&mut self, now: Now) {
        if now.mono_us >= self.health_at_us {
            self.health_at_us = now.mono_us + HEALTH_EVERY_US;
            for flow in &self.flows {
                flow.control.note_health(flow.health());
            }
        }
    }

    fn pulse_now(&self) -> u64 {
        self.flows.iter().map(FlowShard::pulse).fold(0, u64::wrapping_add)
    }

    fn wake_in_us(&self, now: Now) -> u64 {
        let wakes = self.flows.iter().filter(|flow| !flow.done).filter_map(FlowShard::wake_at_us);
        let next = wakes.min().map_or(NAP_US, |at| at.saturating_sub(now.mono_us));
        next.min(NAP_US)
    }
}

impl Turn for Shard {
    fn turn(&mut self, io: &mut dyn Io, now: Now) -> Next {
        if !self.opened {
            self.open(io, now);
            return Next::Busy;
        }
        self.pulse = self.pulse_now();
        let mut work = self.take_events(io, now);
        let mut running = false;
        for flow in &mut self.flows {
            let phase = flow.control.phase();
            if flow.done || phase == Phase::Abort {
                continue;
            }
            running = true;
            if phase == Phase::Open {
                continue;
            }
            work += flow.turn(io, now);
            if flow.done {
                flow.control.note_health(flow.health());
                flow.control.note_ended();
            }
        }
        self.report_health(now);
        match (running, work) {
            (false, _) => Next::Stop,
            (true, 0) => Next::Idle { wake_in_us: Some(self.wake_in_us(now)) },
            (true, _) => Next::Busy,
        }
    }

    fn prepare_park(&mut self) -> bool {
        self.bell.arm();
        self.pulse != self.pulse_now()
    }

    fn unpark(&mut self) {
        self.bell.disarm();
    }
}
