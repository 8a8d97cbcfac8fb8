//! Operators that remember something by key.
//!
//! Owns: the key ([`key`]), the bounded tables ([`table`]), their form on disk
//! ([`saved`]), time ([`time`]), and the operators upon them.
//!
//! Invariants:
//! - State is kept per partition of the flow, so that a partition can be saved
//!   and moved alone.
//! - Memory is bounded by `max_keys`; what is forgotten is counted.
//! - A message without its key, or with a value of a type that the operator
//!   cannot use, is refused and leaves no trace in the state.
//! - No clock is read: time is the turn's.

mod aggregate;
mod change;
mod condition;
mod held;
mod hysteresis;
mod index;
mod key;
mod rows;
mod sample;
mod saved;
mod series;
mod split;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod throttle;
mod time;

use std::collections::HashMap;

use ringmain_base::Reason;
use ringmain_slab::{RowRef, SharedSchema};

pub use aggregate::{Compute, Late};
pub use condition::Condition;
pub use series::Quality;
pub use throttle::{Beyond, Limit, Over};
pub use time::TimeUnit;
pub(crate) use time::{shown, time_of};

use crate::{Context, Operator};
use key::Fields;
use saved::{Store, spec};
use table::Bounds;
use time::EventTime;

/// What all of them have in common.
#[derive(Clone, Debug)]
pub struct ByKey<'a> {
    /// Fields of the key; none, and all messages have the same one.
    pub key: &'a [String],
    /// Partitions of the flow: 1 without any.
    pub partitions: u16,
    /// Keys that are remembered, at most.
    pub max_keys: usize,
    /// How long a key that is not seen is remembered; for ever without.
    pub ttl_us: Option<u64>,
    /// The flow's fields.
    pub schema: &'a SharedSchema,
}

impl ByKey<'_> {
    /// `parts` is what else the state depends on. `ttl_us` is how long a state
    /// means anything by itself.
    fn store<S: Default>(&self, parts: &[String], ttl_us: Option<u64>) -> Result<Store<S>, String> {
        let key = Fields::bind(self.key, self.schema)?;
        let ttl_us = [self.ttl_us, ttl_us].into_iter().flatten().min();
        let bounds = Bounds {
            partitions: self.partitions,
            max_keys: self.max_keys.clamp(1, u32::MAX as usize),
            // Rounded up twice: both ends are whole seconds.
            ttl_s: ttl_us.map(|us| u32::try_from(us / 1_000_000 + 1).unwrap_or(u32::MAX)),
        };
        Ok(Store::new(key, bounds, spec(&[self.key, parts])))
    }

    fn event_time(&self, field: Option<&str>, unit: TimeUnit) -> Result<EventTime, String> {
        let slot = |name: &str| {
            let slot = self.schema.intern(name).map_err(|full| format!("'{name}': {full}"))?;
            Ok::<_, String>((slot, name.to_owned()))
        };
        Ok(EventTime { field: field.map(slot).transpose()?, unit })
    }
}

/// Bytes that a key of a sampler takes at most.
pub const SAMPLE_KEY_BYTES: u64 = table::key_bytes::<sample::State>();

/// Bytes that a key of a hysteresis takes at most.
pub const HYSTERESIS_KEY_BYTES: u64 = table::key_bytes::<hysteresis::State>();

/// Bytes that a key of a change detector takes at most.
#[must_use]
pub fn change_key_bytes(fields: usize, deadband: bool) -> u64 {
    let numbers = if deadband { 64 + 8 * fields as u64 } else { 0 };
    table::key_bytes::<change::State>() + numbers
}

/// Bytes that a key of a throttle takes at most.
pub const THROTTLE_KEY_BYTES: u64 = table::key_bytes::<throttle::State>();

/// Which clock an operator goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The daemon's.
    #[default]
    Server,
    /// The messages' own: a field, or the time at which they came in.
    Event(Option<String>, TimeUnit),
}

/// Keeps the messages whose `fields` differ from the last message of the key
/// that was kept: numbers by more than `deadband`. Without fields it keeps all.
///
/// # Errors
/// The field that has no slot.
pub fn change_detector(
    by: &ByKey<'_>,
    fields: &[String],
    first_passes: bool,
    deadband: Option<f64>,
) -> Result<Box<dyn Operator>, String> {
    let mut parts = fields.to_vec();
    parts.extend(deadband.map(|deadband| deadband.to_string()));
    let store = by.store(&parts, None)?;
    let fields = Fields::bind(fields, by.schema)?;
    Ok(Box::new(change::Change::new(store, fields, first_passes, deadband)))
}

/// Keeps one message per key and interval.
///
/// # Errors
/// The field that has no slot.
pub fn sample(by: &ByKey<'_>, every_us: u64, clock: &Clock) -> Result<Box<dyn Operator>, String> {
    let every = i64::try_from(every_us).unwrap_or(i64::MAX);
    let (store, clock) = match clock {
        // When the interval is over, nothing need be known of the key.
        Clock::Server => (by.store(&["server".into()], Some(every_us))?, sample::Clock::Server),
        Clock::Event(field, unit) => {
            let time = by.event_time(field.as_deref(), *unit)?;
            (by.store(&["event".into()], None)?, sample::Clock::Event(time))
        }
    };
    Ok(Box::new(sample::Sample::new(store, every, clock)))
}

/// Keeps a message that meets `emit_when`; then no other of its key until one
/// has met `release_when`. Without the latter it keeps all that meet the
/// former.
///
/// # Errors
/// The field that has no slot.
pub fn hysteresis(
    by: &ByKey<'_>,
    emit_when: Condition,
    release_when: Option<Condition>,
) -> Result<Box<dyn Operator>, String> {
    let store = by.store(&[], None)?;
    Ok(Box::new(hysteresis::Hysteresis::new(store, emit_when, release_when)))
}

/// Keeps so many messages per key and time. `own` has limits for single keys,
/// by their values joined with commas.
///
/// # Errors
/// The field that has no slot.
pub fn throttle(
    by: &ByKey<'_>,
    default: Limit,
    own: HashMap<String, Limit>,
    over: Over,
) -> Result<Box<dyn Operator>, String> {
    // When a full burst is possible again, nothing need be known of the key.
    let full_us = own.values().chain([&default]).map(|limit| limit.full_us()).max();
    let ttl_us = full_us.filter(|_| !matches!(over, Over::Delay(..)));
    let store = by.store(&[], ttl_us)?;
    let limits = throttle::Limits { default, own };
    Ok(Box::new(throttle::Throttle::new(store, limits, over, by.schema)))
}

/// A window and what it computes.
#[derive(Clone, Debug)]
pub struct WindowOptions<'a> {
    /// How long it is.
    pub window_us: u64,
    /// How often one begins; the window is a multiple of it.
    pub slide_us: u64,
    /// Whose time.
    pub clock: &'a Clock,
    /// By event time: how much later than the latest a message may come.
    pub lateness_us: u64,
    /// What happens to later ones.
    pub late: Late,
    /// Field of the result, function, and its field.
    pub functions: &'a [(String, Compute, Option<String>)],
    /// Unit of the fields `window_start` and `window_end`.
    pub unit: TimeUnit,
}

/// Makes a message per key and window of what the window's messages come to.
///
/// # Errors
/// The field that has no slot.
pub fn aggregate(by: &ByKey<'_>, options: &WindowOptions<'_>) -> Result<Box<dyn Operator>, String> {
    let us = |us: u64| i64::try_from(us).unwrap_or(i64::MAX).max(1);
    let (slide_us, window_us) = (us(options.slide_us), us(options.window_us));
    let parts = format!("{window_us} {slide_us} {:?} {:?}", options.functions, options.clock);
    let store = by.store(&[parts], None)?;
    let (start, end) = (slot("window_start", by.schema)?, slot("window_end", by.schema)?);
    let function = |(into, compute, of): &(String, Compute, Option<String>)| {
        let of = of.as_ref().map(|name| Ok::<_, String>((slot(name, by.schema)?, name.clone())));
        let (of, into) = (of.transpose()?, slot(into, by.schema)?);
        Ok::<_, String>(aggregate::Function { compute: *compute, of, into })
    };
    let functions = options.functions.iter().map(function).collect::<Result<Vec<_>, _>>()?;
    let event = match options.clock {
        Clock::Server => None,
        Clock::Event(field, unit) => Some(by.event_time(field.as_deref(), *unit)?),
    };
    let key = store.key.slots().to_vec();
    let slots = functions.iter().map(|f| f.into).chain(key.iter().copied()).chain([start, end]);
    let slots = slots.max().map_or(1, |slot| slot + 1);
    let version = by.schema.snapshot().version();
    let unit = options.unit;
    let output = aggregate::Output { functions, key, start, end, unit, slots, version };
    let lateness_us = i64::try_from(options.lateness_us).unwrap_or(i64::MAX);
    let panes = (window_us / slide_us).max(1);
    let span = aggregate::Span { slide_us, panes, event, lateness_us };
    Ok(Box::new(aggregate::Aggregate::new(store, span, output, options.late)))
}

/// Bytes that a key of an aggregate takes at most: the panes of a window, and
/// one for what is late or early.
#[must_use]
pub fn aggregate_key_bytes(functions: &[Compute], panes: u64) -> u64 {
    let pane: u64 = functions.iter().map(|f| f.bytes() + aggregate::ACC_BYTES).sum();
    let panes = (pane + aggregate::PANE_BYTES).saturating_mul(panes.saturating_add(1));
    table::key_bytes::<aggregate::State>().saturating_add(panes)
}

/// How a list becomes messages.
#[derive(Clone, Debug)]
pub struct SplitOptions<'a> {
    /// The field with the list.
    pub field: &'a str,
    /// The field that gets each element; without it the fields of an element
    /// become fields of the message.
    pub into: Option<&'a str>,
    /// The field that gets the element's number, from 0.
    pub index: Option<&'a str>,
    /// Fields of the message that stay; all others when `None`.
    pub keep: Option<&'a [String]>,
}

/// How records of a time series are read.
#[derive(Clone, Debug)]
pub struct SeriesOptions<'a> {
    /// The field with the list.
    pub field: &'a str,
    /// The field of a record with its time.
    pub time_field: &'a str,
    /// The field that gets the time as a number.
    pub timestamp: Option<&'a str>,
    /// Unit of times that are numbers.
    pub unit: TimeUnit,
    /// How the name of a quality field ends.
    pub suffix: &'a str,
    /// What becomes of quality fields.
    pub quality: Quality,
}

fn slot(name: &str, schema: &SharedSchema) -> Result<u16, String> {
    schema.intern(name).map_err(|full| format!("'{name}': {full}"))
}

/// Makes a message of each element of a list.
///
/// # Errors
/// The field that has no slot.
pub fn split(
    options: &SplitOptions<'_>,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, String> {
    let optional = |name: Option<&str>| name.map(|name| slot(name, schema)).transpose();
    let keep = options.keep.map(|names| {
        names.iter().try_fold(0, |mask, name| Ok::<_, String>(mask | (1 << slot(name, schema)?)))
    });
    let shape = split::Shape {
        list: slot(options.field, schema)?,
        name: options.field.to_owned(),
        into: optional(options.into)?,
        index: optional(options.index)?,
        keep: keep.transpose()?.unwrap_or(u64::MAX),
        series: None,
    };
    Ok(Box::new(split::Split::new(shape, schema)))
}

/// Makes a message of each record of a time series.
///
/// # Errors
/// The field that has no slot.
pub fn time_series(
    options: &SeriesOptions<'_>,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, String> {
    let series = series::Series {
        time_field: options.time_field.to_owned(),
        time_slot: options.timestamp.map(|name| slot(name, schema)).transpose()?,
        unit: options.unit,
        suffix: options.suffix.to_owned(),
        quality: options.quality,
    };
    let shape = split::Shape {
        list: slot(options.field, schema)?,
        name: options.field.to_owned(),
        into: None,
        index: None,
        keep: u64::MAX,
        series: Some(series),
    };
    Ok(Box::new(split::Split::new(shape, schema)))
}

/// Copies a row to the operator's only port.
fn to_port(row: RowRef<'_>, cx: &mut Context<'_>) {
    let Some(port) = cx.ports.first_mut() else { return };
    let copied = port.push_copy(row).or_else(|_| {
        port.reserve(row.image_bound())?;
        port.push_copy(row)
    });
    if let Err(full) = copied {
        cx.refuse.refuse(row, Reason::Memory, &full.to_string());
    }
}
