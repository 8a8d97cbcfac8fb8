//! What a sink that spills does with its queues: which rows go to the sink,
//! which to disk, and when their sources are told.
//!
//! Rows are handed on in units: what the sink took of one slab, or what was
//! stored of one. Each is finished when the sink has accepted it or when it is
//! on stable storage, whichever comes first, and the slab with its last unit.
//!
//! - A slab that the sink has no room for waits [`PATIENCE_US`], so that a
//!   sink that is only busy costs no disk; then its rest is stored, and so is
//!   all that follows until everything stored has gone out.
//! - What the sink has in hand and does not accept is stored after
//!   [`COVER_AFTER_US`], so that no source waits for a sink that is gone.
//! - Shortly before the last stored rows have gone out, the queue waits for
//!   them, at most [`CATCH_UP_US`]: else there would always be another slab
//!   that has to go behind them.

use std::collections::VecDeque;

use ringmain_base::{Now, Reason};
use ringmain_config::WhenFull;
use ringmain_connectors::{ConnectorError, Health};
use ringmain_runtime::io::Io;

use super::{Current, Outlet, SLABS_PER_TURN};
use crate::dead_letter::DeadLetters;
use crate::spill::{Room, Spill};

/// How long the sink may have no room before messages go to disk.
const PATIENCE_US: u64 = 10_000;

/// How long the sink may leave everything unaccepted that it has.
const COVER_AFTER_US: u64 = 250_000;

/// So little is left on disk that the queue may wait for it.
const CATCH_UP_BYTES: u64 = 512 << 10;

/// How long it waits, and how long then not.
const CATCH_UP_US: u64 = 10_000;
const CATCH_UP_EVERY_US: u64 = 50_000;

/// Rows on their way out, in the order of the queue. `input` is set for the
/// last of a slab.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// The sink has them.
    Given { unit: u64, input: Option<usize> },
    /// In the log up to this place.
    Stored { end: u64, input: usize },
    /// Dropped for want of room.
    Dropped { input: usize },
}

pub(super) struct Spilling {
    pub(super) spill: Spill,
    pending: VecDeque<Unit>,
    /// Rows of the units that the sink has, in its order.
    in_sink: VecDeque<u64>,
    /// Number of the last unit that the sink was given.
    given: u64,
    /// Number of the last that it has accepted.
    accepted: u64,
    /// Since when it has not taken all of a slab at once.
    full_since_us: Option<u64>,
    /// When it last accepted something, or had nothing.
    progress_us: u64,
    /// It did not take all of the stored rows that it was offered.
    resend_blocked: bool,
    hold_until_us: u64,
    hold_again_us: u64,
    /// The log had no room for rows.
    no_room: bool,
    /// Messages wait on disk, and that was told.
    told: bool,
}

impl Spilling {
    pub(super) fn new(spill: Spill) -> Self {
        Self {
            spill,
            pending: VecDeque::new(),
            in_sink: VecDeque::new(),
            given: 0,
            accepted: 0,
            full_since_us: None,
            progress_us: 0,
            resend_blocked: false,
            hold_until_us: 0,
            hold_again_us: 0,
            no_room: false,
            told: false,
        }
    }

    pub(super) fn wake_at_us(&self, waiting: bool) -> Option<u64> {
        let patience = self.full_since_us.filter(|_| waiting && !self.no_room);
        let cover = self.spill.has_copies().then(|| self.progress_us + COVER_AFTER_US);
        let hold = self.spill.has_stored().then_some(self.hold_until_us).filter(|at| *at > 0);
        let own = patience.map(|at| at + PATIENCE_US).into_iter().chain(cover).chain(hold);
        own.chain(self.spill.wake_at_us()).min()
    }

    pub(super) fn health(&self, sink: Health) -> Health {
        let what = match self.spill.plan.when_full.value {
            WhenFull::DropNewest => "new messages are dropped",
            _ => "the flow waits",
        };
        let trouble = self.spill.trouble().map(|why| match self.no_room {
            true => format!("{why}: {what}"),
            false => why,
        });
        match (trouble, sink) {
            (None, sink) => sink,
            (Some(why), Health::Good) => Health::Retrying(why),
            (Some(why), Health::Retrying(sink)) => Health::Retrying(format!("{sink}; {why}")),
            (Some(_), failed @ Health::Failed(_)) => failed,
        }
    }

    /// Gives rows of `current` that the sink took, and that are in no unit, one
    /// of their own.
    fn close_unit(&mut self, current: &mut Current, refused: u64, last: bool) {
        let rows = current.unit_from..current.from;
        current.unit_from = current.from;
        self.given += 1;
        self.in_sink.push_back((rows.len() as u64).saturating_sub(refused));
        let input = last.then_some(current.input);
        self.pending.push_back(Unit::Given { unit: self.given, input });
        self.spill.keep(self.given, &current.slab, rows);
    }

    fn is_finished(&self, unit: Unit) -> bool {
        match unit {
            Unit::Given { unit, .. } => unit <= self.accepted || self.spill.is_covered(unit),
            Unit::Stored { end, .. } => end <= self.spill.safe(),
            Unit::Dropped { .. } => true,
        }
    }
}

impl Outlet {
    pub(super) fn open_spill(
        &mut self,
        io: &mut dyn Io,
        dead: &DeadLetters,
        now: Now,
    ) -> Result<(), ConnectorError> {
        let Some(spilling) = &mut self.spilling else { return Ok(()) };
        let found = spilling.spill.open(io, self.owner);
        let found = found.map_err(|why| ConnectorError::setup("spill", why))?;
        spilling.progress_us = now.mono_us;
        let name = dead.name(self.component);
        if let Some((path, bytes)) = found.torn {
            let path = path.display();
            tracing::warn!("{name}: {bytes} B of a torn end were cut off {path}");
            self.cells[self.component].torn_bytes.add(bytes);
        }
        if found.waiting_bytes > 0 {
            let waiting = ringmain_base::units::format_bytes(found.waiting_bytes);
            tracing::info!("{name}: {waiting} of messages wait on disk since an earlier run");
            spilling.told = true;
        }
        Ok(())
    }

    /// As [`Outlet::turn`], for a sink that spills.
    pub(super) fn turn_spilling(
        &mut self,
        s: &mut Spilling,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
    ) -> usize {
        let live_first = s.spill.plan.live_first;
        let mut work = 0;
        if !live_first {
            work += self.resend(s, io, dead, now);
        }
        work += self.take_live(s, io, dead, now);
        if live_first {
            work += self.resend(s, io, dead, now);
        }
        work += self.account_spilling(s, io, now);
        self.cover(s, now);
        s.spill.poll(io, now, self.flushed || self.stopping);
        self.tell(s, dead);
        work + self.drain_spilling(s, io, dead, now)
    }

    /// Slabs out of the queues: to the sink, or to disk.
    fn take_live(
        &mut self,
        s: &mut Spilling,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
    ) -> usize {
        let mut work = 0;
        for _ in 0..SLABS_PER_TURN {
            if self.current.is_none() && self.may_receive(s, now) {
                self.current = self.receive();
            }
            let Some(mut current) = self.current.take() else { break };
            let before = current.from;
            if (s.spill.plan.live_first || !s.spill.has_stored()) && s.spill.may_shadow() {
                self.push(&mut current, io, dead, now);
            }
            work += usize::from(current.from > before);
            if current.from == current.slab.len() {
                if before == 0 {
                    s.full_since_us = None;
                }
                self.end_unit(s, &mut current, true);
            } else if !self.store_rest(s, &mut current, dead, now) {
                self.current = Some(current);
                break;
            }
            work += 1;
            let Current { input, mut slab, .. } = current;
            slab.clear();
            self.inputs[input].downstream.give_back(slab);
        }
        work
    }

    /// Whether another slab may be taken out of a queue. Close to the end of
    /// what is stored it is left there for a moment.
    fn may_receive(&self, s: &mut Spilling, now: Now) -> bool {
        let near_end = s.spill.backlog_bytes() <= CATCH_UP_BYTES && !s.resend_blocked;
        if s.spill.plan.live_first || !s.spill.has_stored() || !near_end || self.stopping {
            s.hold_until_us = 0;
            return true;
        }
        if now.mono_us >= s.hold_again_us {
            s.hold_until_us = now.mono_us + CATCH_UP_US;
            s.hold_again_us = now.mono_us + CATCH_UP_EVERY_US;
        }
        if now.mono_us < s.hold_until_us {
            return false;
        }
        s.hold_until_us = 0;
        true
    }

    /// Ends the unit of the rows that the sink took last.
    fn end_unit(&mut self, s: &mut Spilling, current: &mut Current, last: bool) {
        let refused = std::mem::take(&mut self.refused.now);
        self.sink.slab_end();
        s.close_unit(current, refused, last);
    }

    /// Stores the rest of a slab, or drops it, as the policy says; false when
    /// it has to wait.
    fn store_rest(
        &mut self,
        s: &mut Spilling,
        current: &mut Current,
        dead: &mut DeadLetters,
        now: Now,
    ) -> bool {
        let since_us = *s.full_since_us.get_or_insert(now.mono_us);
        let in_order = s.spill.has_stored() && !s.spill.plan.live_first;
        let patient = now.mono_us < since_us + PATIENCE_US;
        if !in_order && patient && !self.stopping {
            return false;
        }
        if current.from > current.unit_from {
            self.end_unit(s, current, false);
        }
        let rest = current.from..current.slab.len();
        let input = current.input;
        let room = match s.spill.cover() {
            true => s.spill.room(&current.slab),
            false => s.spill.room(&current.slab).max_wait(),
        };
        let cells = &self.cells[self.component];
        match room {
            Room::Yes => {
                cells.rows_in.add(rest.len() as u64);
                cells.spilled.add(rest.len() as u64);
                let component = self.component;
                let end = s.spill.store(&current.slab, rest, &mut |row| {
                    cells.refuse(Reason::Memory);
                    dead.row(component, row, Reason::Memory, "no memory to store it", now);
                });
                s.pending.push_back(Unit::Stored { end, input });
                s.no_room = false;
                true
            }
            Room::No if s.spill.plan.when_full.value == WhenFull::DropNewest => {
                cells.rows_in.add(rest.len() as u64);
                cells.dropped_full.add(rest.len() as u64);
                s.pending.push_back(Unit::Dropped { input });
                s.no_room = true;
                true
            }
            Room::No => {
                s.no_room = true;
                false
            }
            Room::Busy => false,
        }
    }

    /// Stored rows to the sink, while it takes them.
    fn resend(
        &mut self,
        s: &mut Spilling,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
    ) -> usize {
        let mut work = 0;
        s.resend_blocked = false;
        // What is on disk may stay there; and a unit of live rows that is not
        // ended cannot be cut in two.
        let open = self.current.as_ref().is_some_and(|c| c.from > c.unit_from);
        if self.stopping || open {
            return 0;
        }
        for _ in 0..SLABS_PER_TURN {
            let Some((slab, from)) = s.spill.load(io, now) else { break };
            let rows = slab.len() as u64;
            let took = self.with(io, dead, now, |sink, cx| sink.push(slab, from, cx));
            let cells = &self.cells[self.component];
            cells.resent.add(took as u64);
            if s.spill.is_from_earlier() {
                // They were counted when they came, by a process that is gone.
                cells.rows_in.add(took as u64);
            }
            work += usize::from(took > 0);
            if !s.spill.took(took) {
                s.resend_blocked = true;
                break;
            }
            self.sink.slab_end();
            let refused = std::mem::take(&mut self.refused.now);
            s.given += 1;
            s.in_sink.push_back(rows.saturating_sub(refused));
            s.spill.replayed(s.given);
        }
        work
    }

    /// Stores what the sink has had in hand for long.
    fn cover(&mut self, s: &mut Spilling, now: Now) {
        let open = self.current.as_ref().is_some_and(|c| c.from > c.unit_from);
        if !open && !s.spill.has_copies() {
            s.progress_us = now.mono_us;
            return;
        }
        if now.mono_us < s.progress_us + COVER_AFTER_US {
            return;
        }
        if open && let Some(mut current) = self.current.take() {
            self.end_unit(s, &mut current, false);
            self.current = Some(current);
        }
        s.spill.cover();
    }

    /// Takes note of what the sink has accepted, and tells the queues what is
    /// finished.
    fn account_spilling(&mut self, s: &mut Spilling, io: &mut dyn Io, now: Now) -> usize {
        let total = self.sink.finished();
        let mut work = 0;
        while s.accepted < total
            && let Some(rows) = s.in_sink.pop_front()
        {
            s.accepted += 1;
            let late = self.refused.late.min(rows);
            self.refused.late -= late;
            self.cells[self.component].rows_out.add(rows - late);
            work += 1;
        }
        if work > 0 {
            s.progress_us = now.mono_us;
        }
        s.spill.accepted(s.accepted, io);
        self.cells[self.component].disk_bytes.set(s.spill.disk_bytes());
        let mut finished = 0;
        while let Some(unit) = s.pending.front().copied().filter(|unit| s.is_finished(*unit)) {
            s.pending.pop_front();
            let input = match unit {
                Unit::Given { input, .. } => input,
                Unit::Stored { input, .. } | Unit::Dropped { input } => Some(input),
            };
            if let Some(input) = input {
                self.inputs[input].finished += 1;
                finished += 1;
            }
        }
        if finished > 0 {
            for input in &mut self.inputs {
                input.downstream.ack(input.finished);
            }
        }
        work + finished
    }

    /// Says when messages begin to wait on disk, and when none does any more.
    fn tell(&mut self, s: &mut Spilling, dead: &DeadLetters) {
        let stored = s.spill.has_stored();
        if stored != s.told {
            s.told = stored;
            let name = dead.name(self.component);
            match stored {
                true => tracing::info!("{name}: the sink has no room, messages wait on disk"),
                false => tracing::info!("{name}: no message waits on disk any more"),
            }
        }
        if s.no_room && s.spill.trouble().is_none() {
            s.no_room = false;
        }
    }

    fn drain_spilling(
        &mut self,
        s: &mut Spilling,
        io: &mut dyn Io,
        dead: &mut DeadLetters,
        now: Now,
    ) -> usize {
        let ended = self.current.is_none()
            && self.inputs.iter().all(|input| input.drained && input.downstream.is_empty());
        if self.flushed || !ended || (s.spill.has_stored() && !self.stopping) {
            return 0;
        }
        self.flushed = true;
        self.with(io, dead, now, |sink, cx| sink.flush(true, cx));
        1
    }

    pub(super) fn is_done_spilling(&self, s: &Spilling) -> bool {
        let safe = self.flushed && s.pending.is_empty() && s.spill.is_idle();
        // What the sink has not accepted is on disk, if it has to end.
        safe && (self.stopping || (self.sink.is_idle() && s.in_sink.is_empty()))
    }
}
