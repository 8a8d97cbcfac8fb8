//! So many messages per key and time: the generic cell rate algorithm, one
//! number per key.
//!
//! What is held back (`delay`) is kept as copies within a bound in bytes, and
//! leaves in the order of its times, so in order per key.

use std::collections::HashMap;

use ringmain_base::Reason;
use ringmain_slab::{RowRef, SharedSchema, Slab};
use rkyv::{Archive, Deserialize, Serialize};

use super::held::{Held, SavedRow};
use super::key::Reader;
use super::saved::{self, Saved, Store};
use crate::{Context, Operator, Tally};

const SECOND_NS: f64 = 1e9;

/// So many messages in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Messages.
    pub rate: f64,
    /// In so many microseconds.
    pub per_us: u64,
    /// At once, after a pause.
    pub burst: u64,
}

impl Limit {
    /// Time between two messages.
    fn step_ns(self) -> i64 {
        let ns = self.per_us as f64 / 1e6 * SECOND_NS / self.rate;
        (ns.clamp(1.0, 1e18)) as i64
    }

    /// How far ahead of their times messages may come.
    fn slack_ns(self) -> i64 {
        self.step_ns().saturating_mul(self.burst.saturating_sub(1).min(i64::MAX as u64) as i64)
    }

    /// When a full burst is possible again, after the last message.
    pub(crate) fn full_us(self) -> u64 {
        let ns = self.slack_ns().saturating_add(self.step_ns());
        (ns / 1000).unsigned_abs() + 1
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} per {} s", self.rate, self.per_us as f64 / 1e6)
    }
}

/// What happens to a message above the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It is dropped.
    Drop,
    /// It becomes a dead letter.
    DeadLetter,
    /// It leaves through the port `over`.
    Port,
    /// It waits, within so many bytes; beyond them, as said.
    Delay(u64, Beyond),
}

/// What happens to a message that cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// It is dropped.
    Drop,
    /// It becomes a dead letter.
    DeadLetter,
    /// It leaves through the port `over`.
    Port,
}

/// The table of limits: a key that is not in it has the default.
pub(crate) struct Limits {
    pub(crate) default: Limit,
    /// By the key's values, joined with commas.
    pub(crate) own: HashMap<String, Limit>,
}

impl Limits {
    fn of(&self, key: &[u8]) -> Limit {
        if self.own.is_empty() {
            return self.default;
        }
        self.own.get(&Reader::new(key).shown()).copied().unwrap_or(self.default)
    }
}

/// What is kept of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// The theoretical arrival time of the next message.
    next_ns: i64,
    /// The key's limit; a step of 0 is not looked up yet.
    step_ns: i64,
    slack_ns: i64,
}

#[derive(Archive, Serialize, Deserialize, Debug)]
struct SavedThrottle {
    keys: Saved<i64>,
    names: Vec<String>,
    held: Vec<SavedRow>,
}

pub(crate) struct Throttle {
    store: Store<State>,
    limits: Limits,
    over: Over,
    ports: Vec<String>,
    held: Held,
    schema: SharedSchema,
}

impl Throttle {
    pub(crate) fn new(
        store: Store<State>,
        limits: Limits,
        over: Over,
        schema: &SharedSchema,
    ) -> Self {
        let bytes = if let Over::Delay(bytes, _) = over { bytes } else { 0 };
        let port = matches!(over, Over::Port | Over::Delay(_, Beyond::Port));
        let ports = if port { vec!["over".to_owned()] } else { Vec::new() };
        Self { store, limits, over, ports, held: Held::new(bytes), schema: schema.clone() }
    }
}

/// What happens to a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    /// It passes at this time.
    At(i64),
    Over,
}

impl State {
    /// Whether a message passes now; its time is taken when it does, or when
    /// it waits.
    #[inline]
    fn ask(&mut self, now_ns: i64, delay: bool) -> Verdict {
        let at_ns = self.next_ns.max(now_ns) - self.slack_ns;
        if at_ns <= now_ns {
            self.next_ns = self.next_ns.max(now_ns).saturating_add(self.step_ns);
            return Verdict::Pass;
        }
        if delay { Verdict::At(at_ns) } else { Verdict::Over }
    }
}

#[cold]
fn refuse(row: RowRef<'_>, limit: Limit, cx: &mut Context<'_>) {
    cx.refuse.refuse(row, Reason::Limit, &format!("above the limit of {limit} for its key"));
}

impl Operator for Throttle {
    fn ports(&self) -> &[String] {
        &self.ports
    }

    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let now_us = self.store.begin(cx.now, slab);
        let now_ns = now_us.saturating_mul(1000);
        // What waits goes first, so nothing passes it.
        let behind = self.held.due_us().is_some_and(|due| due <= now_us);
        let delay = matches!(self.over, Over::Delay(..));
        let (store, held, over) = (&mut self.store, &mut self.held, self.over);
        let limits = &self.limits;
        slab.retain(|row| {
            let Some(known) = store.of(row, cx.refuse) else { return false };
            let state = known.state;
            if state.step_ns == 0 {
                let limit = limits.of(known.key);
                (state.step_ns, state.slack_ns) = (limit.step_ns(), limit.slack_ns());
                // A clock that was set back must not silence a key for long.
                if !delay {
                    let most = state.slack_ns.saturating_add(state.step_ns);
                    state.next_ns = state.next_ns.min(now_ns.saturating_add(most));
                }
            }
            let verdict = state.ask(now_ns, delay);
            let at_ns = match verdict {
                Verdict::Pass if !behind => return true,
                Verdict::Pass => now_ns,
                Verdict::At(at_ns) => at_ns,
                Verdict::Over => {
                    match over {
                        Over::DeadLetter => refuse(row, limits.of(known.key), cx),
                        Over::Port => super::to_port(row, cx),
                        Over::Drop | Over::Delay(..) => {}
                    }
                    return false;
                }
            };
            // Rounded up: a microsecond early would be above the limit.
            if held.push(row, at_ns.saturating_add(999) / 1000) {
                if let Verdict::At(_) = verdict {
                    state.next_ns = state.next_ns.saturating_add(state.step_ns);
                }
                return false;
            }
            match over {
                Over::Delay(_, Beyond::DeadLetter) => {
                    let why = "too many messages wait already; see delay_buffer";
                    cx.refuse.refuse(row, Reason::Limit, why);
                }
                Over::Delay(_, Beyond::Port) => super::to_port(row, cx),
                _ => {}
            }
            false
        });
    }

    fn timer_at_us(&self) -> Option<u64> {
        self.held.due_us().map(|due| self.store.timeline.mono_us(due))
    }

    fn on_timer(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let now_us = self.store.timeline.now_us(cx.now);
        self.held.release(now_us, slab);
    }

    fn on_end(&mut self, slab: &mut Slab, _: &mut Context<'_>) -> bool {
        self.held.release(i64::MAX, slab);
        self.held.len() > 0 && !slab.is_empty()
    }

    fn state_format(&self) -> Option<&'static str> {
        Some("throttle/1")
    }

    fn save(&mut self, partition: u16, into: &mut Vec<u8>) -> Result<(), String> {
        let Some(keys) = self.store.take(partition, |state| state.next_ns) else { return Ok(()) };
        let held = self.held.saved(partition, self.store.tables.partitions());
        let schema = self.schema.snapshot();
        let names = if held.is_empty() { &[] } else { schema.names() };
        let names = names.iter().map(|name| name.to_string()).collect();
        saved::write(&SavedThrottle { keys, names, held }, into)
    }

    fn restore(&mut self, partition: u16, bytes: &[u8]) -> Result<(), String> {
        let saved: SavedThrottle = saved::read(bytes)?;
        let state = |next_ns| Some(State { next_ns, ..State::default() });
        self.store.give(partition, saved.keys, state)?;
        self.held.restore(&saved.held, &saved.names, &self.schema)
    }

    fn tally(&self) -> Option<Tally> {
        Some(Tally { held: self.held.len() as u64, ..self.store.tables.tally() })
    }
}
