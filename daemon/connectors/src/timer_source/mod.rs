//! The source that makes a message at times.
//!
//! One message at a time; a time is taken when its message is in the slab, so
//! a stalled sink delays messages and what it makes late is a misfire.

mod schedule;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringmain_base::Reason;
use ringmain_config::plan::{self, Scalar, TimeFormat, TimeUnit};
use ringmain_runtime::io::EventKind;
use ringmain_slab::{Scratch, SharedSchema, Slab};

use self::schedule::{Schedule, zone};
use crate::{ConnectorError, Cx, Pull, Source};

/// Version of the position, and its bytes: the last time, messages so far.
const POSITION: u8 = 1;
const POSITION_BYTES: usize = 1 + 8 + 8;

pub(crate) struct TimerSource {
    schedule: Schedule,
    /// Slot and value of each constant field.
    fields: Vec<(u16, Scalar)>,
    timestamp: u16,
    format: TimeFormat,
    zone: TimeZone,
    version: u16,
    slots: u16,
    scratch: Scratch,
    made: u64,
    count: Option<u64>,
    stopped: bool,
}

impl TimerSource {
    pub(crate) fn new(
        plan: &plan::TimerSource,
        schema: &SharedSchema,
    ) -> Result<Self, ConnectorError> {
        let timestamp = slot(schema, &plan.timestamp, "timestamp")?;
        let field = |(name, value): &(ringmain_config::Spanned<String>, Scalar)| {
            Ok((slot(schema, name, "fields")?, value.clone()))
        };
        let fields: Vec<(u16, Scalar)> = plan.fields.iter().map(field).collect::<Result<_, _>>()?;
        let slots = fields.iter().map(|(slot, _)| slot + 1).chain([timestamp + 1]).max();
        Ok(Self {
            schedule: Schedule::new(plan)?,
            fields,
            timestamp,
            format: plan.format.clone(),
            zone: zone(plan)?,
            version: schema.snapshot().version(),
            slots: slots.unwrap_or(1),
            scratch: Scratch::default(),
            made: 0,
            count: plan.count,
            stopped: false,
        })
    }

    /// Makes the message of a time; false when it does not fit.
    fn make(&mut self, due_us: i64, slab: &mut Slab, wall_us: i64) -> bool {
        let mut row = slab.build(self.version, self.slots, &mut self.scratch);
        for (slot, value) in &self.fields {
            match value {
                Scalar::String(text) => row.set_str(*slot, text),
                Scalar::Integer(value) => row.set_int(*slot, *value),
                Scalar::Float(value) => row.set_float(*slot, *value),
                Scalar::Boolean(value) => row.set(*slot, ringmain_slab::Scalar::Bool(*value)),
            }
        }
        match &self.format {
            TimeFormat::Number(unit) => {
                let us = match unit {
                    TimeUnit::S => 1_000_000,
                    TimeUnit::Ms => 1_000,
                    TimeUnit::Us => 1,
                };
                row.set_int(self.timestamp, due_us.div_euclid(us));
            }
            TimeFormat::Rfc3339 => row.set_str(self.timestamp, &time(due_us).to_string()),
            TimeFormat::Pattern(pattern) => {
                let time = time(due_us).to_zoned(self.zone.clone());
                // The pattern was tried when the flow was checked.
                let text = jiff::fmt::strtime::format(pattern, &time).unwrap_or_default();
                row.set_str(self.timestamp, &text);
            }
        }
        row.finish(wall_us).is_ok()
    }

    fn is_over(&self) -> bool {
        self.stopped
            || self.schedule.is_over()
            || self.count.is_some_and(|count| self.made >= count)
    }
}

fn time(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn slot(schema: &SharedSchema, name: &str, key: &'static str) -> Result<u16, ConnectorError> {
    schema.arrive(name).map_err(|full| {
        ConnectorError::setup(key, format!("no slot for '{name}': {full}; use fewer fields"))
    })
}

impl Source for TimerSource {
    fn open(&mut self, _: &mut Cx<'_>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn on_event(&mut self, _: u32, _: EventKind, _: &mut Cx<'_>) {}

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        let mut any = false;
        while !self.is_over() {
            let Some(due_us) = self.schedule.due(cx.now) else {
                let over = self.is_over();
                return if any {
                    Pull::More
                } else if over {
                    Pull::Ended
                } else {
                    Pull::Idle
                };
            };
            if !self.make(due_us, slab, cx.now.wall_us) {
                if any {
                    return Pull::More;
                }
                // An empty slab that cannot grow has no room for any message.
                if slab.reserve(slab.room() + slab.capacity()).is_ok() {
                    continue;
                }
                let detail = "the message does not fit a slab; raise [shards] memory";
                cx.refusals.bytes(Reason::Memory, detail, "timer", self.made, &[]);
            }
            any = true;
            self.made += 1;
            self.schedule.take(cx.now);
        }
        if any { Pull::More } else { Pull::Ended }
    }

    fn wake_at_us(&self) -> Option<u64> {
        if self.is_over() { None } else { self.schedule.wake_at_us() }
    }

    fn position(&self) -> Option<Vec<u8>> {
        let last_us = self.schedule.last_us()?;
        let mut bytes = Vec::with_capacity(POSITION_BYTES);
        bytes.push(POSITION);
        bytes.extend_from_slice(&last_us.to_le_bytes());
        bytes.extend_from_slice(&self.made.to_le_bytes());
        Some(bytes)
    }

    fn restore(&mut self, position: &[u8]) -> Result<(), ConnectorError> {
        let wrong = || ConnectorError::setup("type", "the stored position is not one of a timer");
        let rest = match position {
            [POSITION, rest @ ..] if rest.len() == POSITION_BYTES - 1 => rest,
            _ => return Err(wrong()),
        };
        let (last_us, made) = rest.split_at(8);
        let last_us = i64::from_le_bytes(last_us.try_into().map_err(|_| wrong())?);
        self.made = u64::from_le_bytes(made.try_into().map_err(|_| wrong())?);
        self.schedule.restore(last_us);
        Ok(())
    }

    fn stop(&mut self, _: &mut Cx<'_>) {
        self.stopped = true;
    }
}
