//! The source that makes messages up: for trials, tests and the bench.
//!
//! Twins on other shards divide the work by message number: the twin on shard
//! `i` of `n` makes numbers `i`, `i + n`, ..., so a `sequence` field has the
//! same values whatever the number of shards, and no value twice. Random
//! fields follow from `seed`, the shard and the field, each with a sequence of
//! its own: rows are stamped and filled column by column, and what they hold
//! must not depend on how many fit at once. Bounds: a message's size is known
//! beforehand, so a row never has to be built twice; nothing is buffered.

mod fill;
mod pace;

use ringmain_base::Reason;
use ringmain_config::plan::{GenField, Scalar, SourceKind};
use ringmain_runtime::io::EventKind;
use ringmain_slab::{SharedSchema, Slab, Stamp};

use self::fill::{Field, Fill, Moment};
use self::pace::Pace;
use crate::{ConnectorError, Cx, Placement, Pull, Source};

/// Rows of one poll, lest a large slab of small rows make a turn long.
const ROWS_MAX: u64 = 4_096;

pub(crate) struct Generator {
    fields: Vec<Field>,
    stamp: Stamp,
    pace: Option<Pace>,
    /// Messages left; `u64::MAX` when endless.
    left: u64,
    endless: bool,
    number: u64,
    step: u64,
}

impl Generator {
    pub(crate) fn new(
        kind: &SourceKind,
        schema: &SharedSchema,
        place: &Placement,
    ) -> Result<Self, ConnectorError> {
        let SourceKind::Generator { count, rate, fields, size_bytes, seed } = kind else {
            unreachable!("the factory matched the kind");
        };
        let mut fills = Vec::with_capacity(fields.len() + 1);
        for (name, field) in fields {
            fills.push((slot(schema, name)?, Fill::new(field)));
        }
        if let Some(size) = size_bytes {
            let pad = pad(*size, fields, &fills);
            fills.push((slot(schema, "pad")?, pad));
        }
        let slots = fills.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
        let blanks: Vec<_> = fills.iter().map(|(slot, fill)| (*slot, fill.blank())).collect();
        let stamp = Stamp::new(schema.snapshot().version(), slots, &blanks);
        let shard = u64::from(place.shard);
        let seed = seed ^ shard.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let fields = fills.into_iter().enumerate();
        Ok(Self {
            fields: fields.map(|(at, (_, fill))| Field::new(at, fill, seed)).collect(),
            stamp,
            pace: rate.map(|rate| Pace::new(rate, place.shards)),
            left: count.map_or(u64::MAX, |count| share(count, place)),
            endless: count.is_none(),
            number: shard,
            step: u64::from(place.shards),
        })
    }

    /// Makes at most `rows` messages; as many as fit.
    fn make(&mut self, rows: u64, slab: &mut Slab, wall_us: i64) -> u64 {
        if slab.is_empty() && slab.room() < self.stamp.row_bytes() {
            // Without memory there is no room, and the message is refused.
            let _ = slab.reserve(self.stamp.row_bytes());
        }
        let mut stamped = slab.stamp(&self.stamp, rows as usize, wall_us);
        let at = Moment { number: self.number, step: self.step, wall_us };
        for field in &mut self.fields {
            field.fill(&mut stamped, &at);
        }
        let made = stamped.len() as u64;
        self.number = self.number.wrapping_add(self.step.wrapping_mul(made));
        self.count(made);
        made
    }

    fn count(&mut self, rows: u64) {
        if !self.endless {
            self.left -= rows;
        }
        if let Some(pace) = &mut self.pace {
            pace.take(rows);
        }
    }

    fn refuse(&mut self, cx: &mut Cx<'_>) {
        let detail = format!(
            "a message of {} B does not fit a slab; raise [shards] memory or lower size",
            self.stamp.row_bytes()
        );
        cx.refusals.bytes(Reason::Memory, &detail, "generator", self.number, &[]);
        self.number = self.number.wrapping_add(self.step);
        self.count(1);
    }
}

impl Source for Generator {
    fn open(&mut self, _: &mut Cx<'_>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn on_event(&mut self, _: u32, _: EventKind, _: &mut Cx<'_>) {}

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        if self.left == 0 {
            return Pull::Ended;
        }
        let allowed = match &mut self.pace {
            Some(pace) => pace.allowed(cx.now.mono_us),
            None => u64::MAX,
        };
        let wanted = allowed.min(self.left).min(ROWS_MAX);
        if wanted == 0 {
            return Pull::Idle;
        }
        if self.make(wanted, slab, cx.now.wall_us) == 0 && slab.is_empty() {
            self.refuse(cx);
        }
        Pull::More
    }

    fn wake_at_us(&self) -> Option<u64> {
        self.pace.as_ref().filter(|_| self.left > 0).map(Pace::next_us)
    }

    fn stop(&mut self, _: &mut Cx<'_>) {
        self.left = 0;
        self.endless = false;
    }
}

/// How many of `count` are this twin's.
fn share(count: u64, place: &Placement) -> u64 {
    let (shards, shard) = (u64::from(place.shards), u64::from(place.shard));
    count / shards + u64::from(shard < count % shards)
}

fn slot(schema: &SharedSchema, name: &str) -> Result<u16, ConnectorError> {
    schema.arrive(name).map_err(|full| {
        ConnectorError::setup("fields", format!("no slot for '{name}': {full}; use fewer fields"))
    })
}

/// A constant that brings the JSON form of a message to about `size` bytes.
fn pad(
    size: u64,
    fields: &[(ringmain_config::Spanned<String>, GenField)],
    fills: &[(u16, Fill)],
) -> Fill {
    const NUMBER: usize = 6;
    // `"name":value,` for each, with quotes around text; `{"pad":""}` + LF.
    let taken: usize = fields
        .iter()
        .zip(fills)
        .map(|((name, _), (_, fill))| match fill.bytes_max() {
            0 => name.len() + 4 + NUMBER,
            text => name.len() + 6 + text,
        })
        .sum();
    let missing = usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(taken + 11);
    Fill::Const(Scalar::String("x".repeat(missing)))
}

#[cfg(test)]
mod tests;
