//! Windows: what the messages of a key come to in a span of time.
//!
//! Time is cut into panes as long as a window slides; a window is so many panes,
//! and its result what they come to together. A message is counted once, in
//! its pane. Windows are closed per partition: by the server's clock at their
//! end, by event time when the watermark (the latest time seen less the
//! allowed lateness) has reached it.
//!
//! Invariants:
//! - Every window of a key in which a message fell leaves once, in order.
//! - Results leave as slabs have room; what is open meanwhile stays open.
//! - A key with open windows is never forgotten to make room: messages of keys
//!   for which there is none are refused.

mod function;
mod sketch;
#[cfg(test)]
mod tests;

use ringmain_base::Reason;
use ringmain_base::limits::partition_of;
use ringmain_slab::{Full, RowRef, Scratch, Slab};
use rkyv::{Archive, Deserialize, Serialize};

pub use function::Compute;
pub(crate) use function::Function;
use function::{Acc, reset};

use super::key::Reader;
use super::saved::{self, Known, Saved, Store};
use super::table::{Entry, Visit};
use super::time::{EventTime, TimeUnit};
use crate::{Context, Operator, Tally};

/// Bytes of a function's memory, besides what it allocates.
pub(crate) const ACC_BYTES: u64 = size_of::<Acc>() as u64;

/// Bytes of a pane besides, with its share of a vector that is half empty.
pub(crate) const PANE_BYTES: u64 = 2 * size_of::<Pane>() as u64 + 32;

/// How long results wait for memory.
const AGAIN_US: u64 = 10_000;

/// Bytes that a result takes besides its fields.
const ROW_BYTES: usize = 256;

/// What happens to a message that comes after its windows are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It is dropped and counted.
    Drop,
    /// It becomes a dead letter.
    DeadLetter,
    /// It leaves through the port `late`.
    Port,
}

/// What a key's messages came to in a pane.
#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Pane {
    /// Number of the pane since 1970.
    number: i64,
    accs: Vec<Acc>,
}

/// What is kept of a key.
#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
pub(crate) struct State {
    /// In order.
    panes: Vec<Pane>,
    /// The last window that left, by the number of its last pane.
    left: i64,
    key_hash: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { panes: Vec::new(), left: i64::MIN, key_hash: 0 }
    }
}

/// How far a partition is.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
struct Progress {
    /// The latest time seen.
    seen_us: i64,
    /// Windows up to this one have left.
    closed: i64,
    /// Windows up to this one are leaving, from this key on.
    closing: Option<(i64, u64)>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { seen_us: i64::MIN, closed: i64::MIN, closing: None }
    }
}

#[derive(Archive, Serialize, Deserialize, Debug)]
struct SavedWindows {
    keys: Saved<State>,
    progress: Progress,
}

/// When windows begin and end.
pub(crate) struct Span {
    pub(crate) slide_us: i64,
    /// Panes of a window.
    pub(crate) panes: i64,
    /// The messages' own time; the server's without.
    pub(crate) event: Option<EventTime>,
    pub(crate) lateness_us: i64,
}

/// What a result looks like.
pub(crate) struct Output {
    pub(crate) functions: Vec<Function>,
    pub(crate) key: Vec<u16>,
    pub(crate) start: u16,
    pub(crate) end: u16,
    pub(crate) unit: TimeUnit,
    pub(crate) slots: u16,
    pub(crate) version: u16,
}

pub(crate) struct Aggregate {
    store: Store<State>,
    span: Span,
    result: Output,
    late: Late,
    ports: Vec<String>,
    /// By partition.
    progress: Vec<Progress>,
    /// The next boundary, by the server's clock.
    due_us: Option<i64>,
    /// Results wait: for room, or for memory until then.
    waiting: Option<u64>,
    late_count: u64,
    bytes: Vec<u8>,
    merged: Vec<Acc>,
    scratch: Scratch,
}

impl Aggregate {
    pub(crate) fn new(store: Store<State>, span: Span, result: Output, late: Late) -> Self {
        let ports = if late == Late::Port { vec!["late".to_owned()] } else { Vec::new() };
        let partitions = usize::from(store.tables.partitions());
        let merged = result.functions.iter().map(Function::start).collect();
        Self {
            store,
            span,
            result,
            late,
            ports,
            progress: vec![Progress::default(); partitions],
            due_us: None,
            waiting: None,
            late_count: 0,
            bytes: Vec::new(),
            merged,
            scratch: Scratch::default(),
        }
    }

    /// Counts a message in; an error says why it is late or wrong.
    fn take(&mut self, row: RowRef<'_>, now_us: i64, cx: &mut Context<'_>) {
        let time_us = match &self.span.event {
            None => now_us,
            Some(time) => match time.of(row) {
                Ok(us) => us,
                Err(why) => return cx.refuse.refuse(row, Reason::Field, &why),
            },
        };
        let bytes = &mut self.bytes;
        let objection = self.result.functions.iter().find_map(|f| f.objects(row, bytes));
        if let Some(why) = objection {
            return cx.refuse.refuse(row, Reason::Field, &why);
        }
        let number = time_us.div_euclid(self.span.slide_us);
        let last = number.saturating_add(self.span.panes - 1);
        let key_hash = row.header().key_hash.to_native();
        let partition = partition_of(key_hash, self.store.tables.partitions());
        let progress = &mut self.progress[usize::from(partition)];
        if last <= progress.closed {
            return self.refuse_late(row, cx);
        }
        let Some(Known { state, .. }) = self.store.of_known(row, cx.refuse) else { return };
        if last <= state.left {
            return self.refuse_late(row, cx);
        }
        state.key_hash = key_hash;
        progress.seen_us = progress.seen_us.max(time_us);
        let at = match state.panes.binary_search_by_key(&number, |pane| pane.number) {
            Ok(at) => at,
            Err(at) => {
                let accs = self.result.functions.iter().map(Function::start).collect();
                state.panes.insert(at, Pane { number, accs });
                at
            }
        };
        let accs = self.result.functions.iter().zip(&mut state.panes[at].accs);
        accs.for_each(|(function, acc)| function.take(acc, row, time_us, &mut self.bytes));
    }

    #[cold]
    fn refuse_late(&mut self, row: RowRef<'_>, cx: &mut Context<'_>) {
        self.late_count += 1;
        match self.late {
            Late::Drop => {}
            Late::Port => super::to_port(row, cx),
            Late::DeadLetter => {
                cx.refuse.refuse(row, Reason::Limit, "the window of the message is closed");
            }
        }
    }

    /// Closes the windows of a partition up to the one whose last pane is
    /// `upto`; false when there is no room for all results.
    fn close(&mut self, partition: u16, upto: i64, now_us: i64, slab: &mut Slab) -> bool {
        let progress = self.progress[usize::from(partition)];
        let (upto, mut at) = match progress.closing {
            Some((closing, at)) => (closing, at as usize),
            None if upto <= progress.closed => return true,
            None => (upto, 0),
        };
        let (result, panes, slide_us) = (&self.result, self.span.panes, self.span.slide_us);
        let (merged, scratch) = (&mut self.merged, &mut self.scratch);
        let mut full = None;
        let stopped = self.store.tables.visit(partition, at, |entry| {
            if entry.state.panes.is_empty() {
                return Visit::Forget;
            }
            while let Some(last) = next_window(&entry.state, panes).filter(|last| *last <= upto) {
                let written = result.write(entry, last, (panes, slide_us), merged, scratch, slab);
                if let Err(error) = written {
                    full = Some(error);
                    return Visit::Stop;
                }
                entry.state.left = last;
                // Panes that no later window has.
                entry.state.panes.retain(|pane| pane.number > last - panes + 1);
            }
            entry.state.left = entry.state.left.max(upto);
            Visit::Keep
        });
        if let Some(stopped) = stopped {
            at = stopped;
            let memory = slab.is_empty() && full.is_some();
            self.waiting = Some(if memory {
                self.store.timeline.mono_us(now_us).saturating_add(AGAIN_US)
            } else {
                0
            });
            self.progress[usize::from(partition)].closing = Some((upto, at as u64));
            return false;
        }
        let progress = &mut self.progress[usize::from(partition)];
        progress.closed = progress.closed.max(upto);
        progress.closing = None;
        true
    }

    /// The last window that may be closed in a partition.
    fn target(&self, partition: u16, now_us: i64) -> i64 {
        let clock = match self.span.event {
            None => now_us,
            Some(_) => {
                let seen_us = self.progress[usize::from(partition)].seen_us;
                if seen_us == i64::MIN {
                    return i64::MIN;
                }
                seen_us.saturating_sub(self.span.lateness_us)
            }
        };
        clock.div_euclid(self.span.slide_us) - 1
    }

    /// Closes what is due in every partition; the slab gets the results.
    fn close_due(&mut self, now_us: i64, slab: &mut Slab, everything: bool) -> bool {
        self.waiting = None;
        for partition in 0..self.store.tables.partitions() {
            // What was begun is ended first, and then what came meanwhile.
            loop {
                let begun = self.progress[usize::from(partition)].closing.is_some();
                let upto = if everything { i64::MAX } else { self.target(partition, now_us) };
                if !self.close(partition, upto, now_us, slab) {
                    return false;
                }
                if !begun {
                    break;
                }
            }
        }
        let open = self.store.tables.tally().keys > 0;
        let next = now_us.div_euclid(self.span.slide_us).saturating_add(1);
        self.due_us =
            (self.span.event.is_none() && open).then(|| next.saturating_mul(self.span.slide_us));
        true
    }
}

/// The number of the last pane of the first window that has not left.
fn next_window(state: &State, panes: i64) -> Option<i64> {
    let first = state.panes.first()?.number;
    let after = first.max(state.left.saturating_add(1));
    // A gap longer than a window: no window lies in it.
    (after <= state.panes.last()?.number.saturating_add(panes - 1)).then_some(after).map(|last| {
        let begins = |last: i64| last.saturating_sub(panes - 1);
        let seen = state.panes.iter().find(|pane| pane.number >= begins(last));
        seen.map_or(last, |pane| last.max(pane.number))
    })
}

impl Output {
    /// Appends the result of a window.
    fn write(
        &self,
        entry: &Entry<State>,
        last: i64,
        (panes, slide_us): (i64, i64),
        merged: &mut [Acc],
        scratch: &mut Scratch,
        slab: &mut Slab,
    ) -> Result<(), Full> {
        let first = last.saturating_sub(panes - 1);
        merged.iter_mut().for_each(reset);
        let inside = |pane: &&Pane| (first..=last).contains(&pane.number);
        for pane in entry.state.panes.iter().filter(inside) {
            for ((function, acc), part) in self.functions.iter().zip(&mut *merged).zip(&pane.accs) {
                function.merge(acc, part);
            }
        }
        let bound = ROW_BYTES * (1 + self.functions.len())
            + usize::from(self.slots) * 16
            + entry.key().len() * 16;
        if slab.room() < bound {
            if !slab.is_empty() {
                return Err(Full);
            }
            slab.reserve(bound)?;
        }
        let (start_us, end_us) =
            (first.saturating_mul(slide_us), last.saturating_add(1).saturating_mul(slide_us));
        let mut row = slab.build(self.version, self.slots, scratch);
        let mut key = Reader::new(entry.key());
        self.key.iter().for_each(|slot| key.set(&mut row, *slot));
        row.set_int(self.start, self.unit.of_us(start_us));
        row.set_int(self.end, self.unit.of_us(end_us));
        for (function, acc) in self.functions.iter().zip(merged) {
            function.write(acc, &mut row);
        }
        row.finish(end_us)?;
        let at = slab.len() - 1;
        slab.edit(at).set_key_hash(entry.state.key_hash);
        Ok(())
    }
}

impl Operator for Aggregate {
    fn ports(&self) -> &[String] {
        &self.ports
    }

    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let now_us = self.store.begin(cx.now, slab);
        for row in slab.rows() {
            self.take(row, now_us, cx);
        }
        slab.clear();
        if self.span.event.is_some() {
            self.close_due(now_us, slab, false);
        } else if self.due_us.is_none() {
            let next = now_us.div_euclid(self.span.slide_us).saturating_add(1);
            self.due_us = Some(next.saturating_mul(self.span.slide_us));
        }
    }

    fn timer_at_us(&self) -> Option<u64> {
        let due = self.due_us.map(|due| self.store.timeline.mono_us(due));
        [due, self.waiting].into_iter().flatten().min()
    }

    fn on_timer(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let now_us = self.store.timeline.now_us(cx.now);
        self.close_due(now_us, slab, false);
    }

    fn on_end(&mut self, slab: &mut Slab, cx: &mut Context<'_>) -> bool {
        let now_us = self.store.timeline.now_us(cx.now);
        // A slab that cannot have one result will have none later either.
        !self.close_due(now_us, slab, true) && !slab.is_empty()
    }

    fn state_format(&self) -> Option<&'static str> {
        Some("aggregate/1")
    }

    fn save(&mut self, partition: u16, into: &mut Vec<u8>) -> Result<(), String> {
        let progress = self.progress[usize::from(partition)];
        if progress.seen_us == i64::MIN {
            return Ok(());
        }
        let keys = self.store.take(partition, State::clone).unwrap_or(self.store.nothing());
        // Where closing stands is in the keys.
        let progress = Progress { closing: None, ..progress };
        saved::write(&SavedWindows { keys, progress }, into)
    }

    fn restore(&mut self, partition: u16, bytes: &[u8]) -> Result<(), String> {
        let saved: SavedWindows = saved::read(bytes)?;
        let functions = &self.result.functions;
        let state = |state: State| {
            let sorted = state.panes.windows(2).all(|pair| pair[0].number < pair[1].number);
            let valid = |pane: &Pane| {
                pane.accs.len() == functions.len()
                    && functions.iter().zip(&pane.accs).all(|(f, acc)| f.is_valid(acc))
            };
            (sorted && state.panes.iter().all(valid)).then_some(state)
        };
        self.store.give(partition, saved.keys, state)?;
        self.progress[usize::from(partition)] = Progress { closing: None, ..saved.progress };
        // The clock is not known yet: the timer looks at once.
        self.waiting = Some(0);
        Ok(())
    }

    fn tally(&self) -> Option<Tally> {
        Some(Tally { late: self.late_count, ..self.store.tables.tally() })
    }
}
