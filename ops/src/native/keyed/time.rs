//! Time as keyed operators see it.

use jiff::Timestamp;
use ringmain_base::Now;
use ringmain_slab::{RowRef, ValueRef};

/// A clock that never jumps while the flow runs and means about the same after
/// a restart: the wall clock as it was at the first batch, moved on by the
/// monotonic one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timeline {
    offset_us: Option<i64>,
}

impl Timeline {
    /// Microseconds since the Unix epoch.
    #[inline]
    pub(crate) fn now_us(&mut self, now: Now) -> i64 {
        let mono = now.mono_us as i64;
        let offset = *self.offset_us.get_or_insert(now.wall_us - mono);
        offset + mono
    }

    /// When a moment of this timeline comes, on the monotonic clock.
    pub(crate) fn mono_us(&self, at_us: i64) -> u64 {
        at_us.saturating_sub(self.offset_us.unwrap_or(0)).max(0) as u64
    }
}

/// Seconds for a table.
#[inline]
pub(crate) fn seconds(us: i64) -> u32 {
    u32::try_from(us / 1_000_000).unwrap_or(0)
}

/// Unit of numbers that are times since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    #[default]
    Millis,
    /// Microseconds.
    Micros,
}

impl TimeUnit {
    const fn us(self) -> i64 {
        match self {
            Self::Seconds => 1_000_000,
            Self::Millis => 1_000,
            Self::Micros => 1,
        }
    }

    /// Microseconds in this unit.
    #[must_use]
    pub const fn of_us(self, us: i64) -> i64 {
        us.div_euclid(self.us())
    }
}

/// Where a message's own time stands.
#[derive(Clone, Debug)]
pub(crate) struct EventTime {
    /// Slot and name; without, it is the time at which the message came in.
    pub(crate) field: Option<(u16, String)>,
    pub(crate) unit: TimeUnit,
}

impl EventTime {
    /// Microseconds since the Unix epoch.
    ///
    /// # Errors
    /// Why the message has none.
    #[inline]
    pub(crate) fn of(&self, row: RowRef<'_>) -> Result<i64, String> {
        let Some((slot, name)) = &self.field else { return Ok(row.ts()) };
        time_of(row.get(*slot), self.unit).ok_or_else(|| wrong(name, row.get(*slot)))
    }
}

#[cold]
fn wrong(name: &str, value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Absent | ValueRef::Null => format!("the message has no '{name}', its time"),
        value => format!("'{name}' is no time: {}", shown(value)),
    }
}

/// A value, short enough for a message to people.
pub(crate) fn shown(value: ValueRef<'_>) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The time that a value means: a number in `unit`, or a text as in RFC 3339;
/// dots between the parts of the date are taken for dashes.
#[inline]
pub(crate) fn time_of(value: ValueRef<'_>, unit: TimeUnit) -> Option<i64> {
    match value {
        ValueRef::Int(v) => v.checked_mul(unit.us()),
        ValueRef::Float(v) => {
            let us = v * unit.us() as f64;
            (us.abs() < 9e18).then_some(us as i64)
        }
        ValueRef::Str(text) => text_time(text),
        _ => None,
    }
}

fn text_time(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let mut dashed = [0; 40];
    let dashed = dashed.get_mut(..text.len())?;
    dashed.copy_from_slice(text.as_bytes());
    for at in [4, 7] {
        let dot = dashed.get_mut(at).filter(|byte| **byte == b'.')?;
        *dot = b'-';
    }
    let time = str::from_utf8(dashed).ok()?.parse::<Timestamp>().ok()?;
    Some(time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_back_moves_no_timeline() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.now_us(Now { mono_us: 5, wall_us: 1_000 }), 1_000);
        assert_eq!(timeline.now_us(Now { mono_us: 15, wall_us: 200 }), 1_010);
        assert_eq!(timeline.mono_us(1_100), 105);
    }

    #[test]
    fn times_are_numbers_or_texts() {
        let us = |value| time_of(value, TimeUnit::Millis);
        assert_eq!(us(ValueRef::Int(1_500)), Some(1_500_000));
        assert_eq!(us(ValueRef::Float(0.5)), Some(500));
        assert_eq!(us(ValueRef::Int(i64::MAX)), None);
        assert_eq!(us(ValueRef::Str("1970-01-01T00:00:01.5Z")), Some(1_500_000));
        assert_eq!(us(ValueRef::Str("1970.01.01T00:00:01.500Z")), Some(1_500_000));
        assert_eq!(us(ValueRef::Str("yesterday")), None);
        assert_eq!(us(ValueRef::Bool(true)), None);
    }
}
