//! Refused messages: counted, and kept as rows on their way to the flow's
//! dead letters.
//!
//! A dead letter is itself a message, with the fields `time`, `flow`,
//! `component`, `reason`, `detail`, `source` (the source that it came from,
//! where that is known) and either `message` (the row that was refused, as a
//! nested value) or `raw`, `origin` and `offset` (the bytes that did not become
//! a row, and where they stood). Bytes that are not UTF-8 are written in base64
//! and say so in `encoding`. A flow without `[dead_letters]` counts and logs.

use std::sync::Arc;

use ringmain_base::{Now, Reason};
use ringmain_ring::{Span, Upstream};
use ringmain_slab::{
    Budget, RowBuilder, RowRef, Scalar, Schema, Scratch, SharedSchema, Slab, TreeBuilder, ValueRef,
};

use crate::values::copy;

/// A row of a dead letter is built again in a slab of twice the size until it
/// fits, this often.
const GROW_ATTEMPTS: usize = 16;

/// How often a component without dead letters may log, in microseconds.
const LOG_EVERY_US: u64 = 10_000_000;

const FIELDS: [&str; 11] = [
    "time",
    "flow",
    "component",
    "reason",
    "detail",
    "source",
    "origin",
    "offset",
    "message",
    "raw",
    "encoding",
];
const TIME: u16 = 0;
const FLOW: u16 = 1;
const COMPONENT: u16 = 2;
const REASON: u16 = 3;
const DETAIL: u16 = 4;
const SOURCE: u16 = 5;
const ORIGIN: u16 = 6;
const OFFSET: u16 = 7;
const MESSAGE: u16 = 8;
const RAW: u16 = 9;
const ENCODING: u16 = 10;

/// The schema of dead letters, the same for every flow.
#[must_use]
pub fn schema() -> SharedSchema {
    let schema = SharedSchema::new();
    for name in FIELDS {
        schema.intern(name).expect("fewer fields than slots");
    }
    schema
}

/// The dead letters of a flow on one shard.
pub(crate) struct DeadLetters {
    flow: String,
    components: Vec<String>,
    /// Field names of the flow, for writing rows out by name.
    shared: SharedSchema,
    names: Arc<Schema>,
    upstream: Option<Upstream<Slab>>,
    slab: Slab,
    scratch: Scratch,
    /// The source that rows come from now.
    pub source: Option<usize>,
    quiet_until_us: Vec<u64>,
    lost: u64,
}

impl DeadLetters {
    pub(crate) fn new(
        flow: &str,
        components: Vec<String>,
        shared: SharedSchema,
        upstream: Option<Upstream<Slab>>,
        slab_bytes: usize,
        budget: &Budget,
    ) -> Self {
        Self {
            flow: flow.to_owned(),
            quiet_until_us: vec![0; components.len()],
            components,
            names: shared.snapshot(),
            shared,
            upstream,
            slab: Slab::new(slab_bytes, budget),
            scratch: Scratch::default(),
            source: None,
            lost: 0,
        }
    }

    /// They go another way from now on; the way before. Nothing waits.
    pub(crate) fn redirect(&mut self, to: Option<Upstream<Slab>>) -> Option<Upstream<Slab>> {
        std::mem::replace(&mut self.upstream, to)
    }

    /// The components are others from now on.
    pub(crate) fn rename(&mut self, components: Vec<String>) {
        self.quiet_until_us = vec![0; components.len()];
        self.components = components;
    }

    /// A component's name with its flow's.
    pub(crate) fn name(&self, component: usize) -> String {
        format!("{}.{}", self.flow, self.components[component])
    }

    /// Whether a batch may be worked on: its dead letters, should all of it
    /// be refused, will find room.
    pub(crate) fn is_ready(&mut self, now: Now) -> bool {
        let Some(upstream) = &mut self.upstream else { return true };
        match upstream.take_empty(now.mono_us) {
            Some(slab) => {
                upstream.put_back(slab);
                true
            }
            None => false,
        }
    }

    /// A row was refused.
    pub(crate) fn row(
        &mut self,
        component: usize,
        row: RowRef<'_>,
        reason: Reason,
        detail: &str,
        now: Now,
    ) {
        if self.upstream.is_none() {
            return self.log(component, reason, detail, now);
        }
        if row.slots() > self.names.version() {
            self.names = self.shared.snapshot();
        }
        let names = self.names.clone();
        self.add(component, reason, detail, now, &|letter| {
            let mut tree = letter.tree(MESSAGE);
            row_as_map(&mut tree, row, &names);
            tree.finish();
        });
    }

    /// Bytes did not become a row.
    pub(crate) fn bytes(
        &mut self,
        component: usize,
        bytes: &[u8],
        origin: (&str, u64),
        reason: Reason,
        detail: &str,
        now: Now,
    ) {
        if self.upstream.is_none() {
            let detail = format!("{detail} ({} at byte {})", origin.0, origin.1);
            return self.log(component, reason, &detail, now);
        }
        self.add(component, reason, detail, now, &|letter| {
            // Bytes that a sink gave up come from no stream.
            if !origin.0.is_empty() {
                letter.set_str(ORIGIN, origin.0);
                letter.set_int(OFFSET, i64::try_from(origin.1).unwrap_or(i64::MAX));
            }
            match std::str::from_utf8(bytes) {
                Ok(text) => letter.set_str(RAW, text),
                Err(_) => {
                    letter.set(RAW, Scalar::Bytes(bytes));
                    letter.set_str(ENCODING, "base64");
                }
            }
        });
    }

    /// Sends what has gathered, as part of `span` of `inlet`.
    pub(crate) fn flush(&mut self, inlet: u16, span: Span, now: Now) {
        if self.slab.is_empty() {
            return;
        }
        let upstream = self.upstream.as_mut().expect("letters gather only where they can go");
        // `is_ready` was asked before the batch; if a batch's letters were
        // sent since, they wait here for the next credit.
        if let Some(mut empty) = upstream.take_empty(now.mono_us) {
            std::mem::swap(&mut empty, &mut self.slab);
            upstream.send(empty, inlet, span);
        } else {
            upstream.carry(inlet, span);
        }
    }

    /// Whether what waits would be sent now.
    pub(crate) fn may_flush(&mut self, now: Now) -> bool {
        !self.slab.is_empty() && self.is_ready(now)
    }

    /// What waits to be sent.
    pub(crate) fn waiting(&self) -> &Slab {
        &self.slab
    }

    /// Nothing waits to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.slab.is_empty()
    }

    /// The queue to the dead letters' sink.
    pub(crate) fn upstream(&mut self) -> Option<&mut Upstream<Slab>> {
        self.upstream.as_mut()
    }

    /// The same, for reading.
    pub(crate) fn upstream_ref(&self) -> Option<&Upstream<Slab>> {
        self.upstream.as_ref()
    }

    /// Everything of `inlet` up to this number is stored.
    pub(crate) fn position(&mut self, inlet: u16, upto: u64) -> u64 {
        self.upstream.as_mut().map_or(upto, |upstream| upstream.position(inlet, upto))
    }

    fn add(
        &mut self,
        component: usize,
        reason: Reason,
        detail: &str,
        now: Now,
        body: &dyn Fn(&mut RowBuilder<'_>),
    ) {
        let time = rfc3339(now.wall_us);
        let slots = FIELDS.len() as u16;
        for _ in 0..GROW_ATTEMPTS {
            let mut letter = self.slab.build(slots, slots, &mut self.scratch);
            letter.set_str(TIME, &time);
            letter.set_str(FLOW, &self.flow);
            letter.set_str(COMPONENT, &self.components[component]);
            letter.set_str(REASON, reason.name());
            letter.set_str(DETAIL, detail);
            if let Some(source) = self.source {
                letter.set_str(SOURCE, &self.components[source]);
            }
            body(&mut letter);
            if letter.finish(now.wall_us).is_ok() {
                return;
            }
            if self.slab.reserve(self.slab.room() + self.slab.capacity() / 2).is_err() {
                break;
            }
        }
        self.lost += 1;
        let name = &self.components[component];
        let (flow, lost) = (&self.flow, self.lost);
        tracing::error!(
            "{flow}.{name}: a dead letter was lost for want of memory ({lost} so far): raise \
             [shards] memory"
        );
    }

    fn log(&mut self, component: usize, reason: Reason, detail: &str, now: Now) {
        let quiet_until_us = &mut self.quiet_until_us[component];
        if now.mono_us < *quiet_until_us {
            return;
        }
        *quiet_until_us = now.mono_us + LOG_EVERY_US;
        let (flow, name) = (&self.flow, &self.components[component]);
        let reason = reason.name();
        tracing::warn!(
            "{flow}.{name}: message refused ({reason}): {detail}; add [dead_letters] to keep \
             such messages"
        );
    }
}

/// A time as people and programs write it.
#[must_use]
pub fn rfc3339(wall_us: i64) -> String {
    jiff::Timestamp::from_microsecond(wall_us)
        .map_or_else(|_| wall_us.to_string(), |t| t.to_string())
}

fn row_as_map(tree: &mut TreeBuilder<'_, '_>, row: RowRef<'_>, names: &Schema) {
    let _ = tree.map();
    for (slot, name) in (0..row.slots()).zip(names.names()) {
        let value = row.get(slot);
        if !matches!(value, ValueRef::Absent) {
            tree.key(name);
            copy(tree, value);
        }
    }
    for (name, value) in row.rest().into_iter().flat_map(|rest| rest.iter()) {
        tree.key(name);
        copy(tree, value);
    }
    tree.close();
}
